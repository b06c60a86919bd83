"""Which classifier answers new pictures: a results folder that was named, or what validation chooses of a run. No stage.

A classifier is a head, or an ensemble with the heads of its members. It takes features, by the
fingerprint of their identity; which backbones make them is the business of `found_backbones`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deponij.pipeline.ensembles import ensemble as ensembles
from deponij.pipeline.ensembles.ensemble import Ensemble, MemberSource
from deponij.pipeline.ensembles.members import Member, align
from deponij.pipeline.ensembles.registry import load_ensemble
from deponij.pipeline.heads.head import Floats, Head
from deponij.pipeline.heads.registry import load_head
from deponij.pipeline.metrics.evaluation import Evaluation
from deponij.pipeline.metrics.multilabel_result import MultilabelResult
from deponij.pipeline.reports.provenance import is_toy
from deponij.pipeline.reports.table import result_row
from deponij.project.extraction.feature_maker import FoundBackbone
from deponij.project.extraction.found_backbones import Needed, find_backbones
from deponij.project.frame.console import say
from deponij.project.frame.layout import Layout
from deponij.project.frame.toys import toys_of
from deponij.project.in_force import InForce
from deponij.project.learning.candidates import Candidate, candidates, is_judged
from deponij.project.learning.reading import as_taken
from deponij.project.learning.result_files import RESULT_NAME, digest_of, read_result
from deponij.store.errors import BackboneError, IdentityError, StoreError
from deponij.store.texts import in_percent

Vectors = Mapping[str, NDArray[np.floating]]


@dataclass(frozen=True, slots=True)
class Classifier:
    """From features to logits.

    Attributes:
        classes: names of the columns, sorted.
        needs: whose features it takes.
        logits: of features [n, …] by the fingerprint of their identity, [n, C].
    """

    classes: tuple[str, ...]
    needs: tuple[Needed, ...]
    logits: Callable[[Vectors], Floats]


def _of_head(head: Head, folder: Path) -> Classifier:
    """A saved head, given what it learned from; several sources side by side."""

    def logits(vectors: Vectors) -> Floats:
        parts = [
            as_taken(vectors[source.fingerprint], source.identity.get("kind", ""), source.token)
            for source in head.sources_
        ]
        return head.decision_function(np.concatenate(parts, axis=1))

    needs = tuple(Needed(source, folder) for source in head.sources_)
    return Classifier(tuple(head.classes_.tolist()), needs, logits)


def _joined(
    rule: Ensemble, classes: tuple[str, ...], members: Sequence[Classifier], counts: Sequence[bool]
) -> Classifier:
    """A saved ensemble; `counts` says which members have a share in the answer: the others need nothing."""

    def logits(vectors: Vectors) -> Floats:
        n = len(next(iter(vectors.values())))
        ids = np.array([str(row) for row in range(n)], dtype=np.str_)
        answers = []
        for number, (member, has_share) in enumerate(zip(members, counts, strict=True)):
            # What has no share changes nothing, so that its backbone need not run.
            own = member.logits(vectors) if has_share else np.zeros((n, len(member.classes)))
            answers.append(Member(str(number), ids, member.classes, own))
        return rule.combine(align(answers).logits)

    needs: dict[str, Needed] = {}
    for one in (
        one for member, has_share in zip(members, counts, strict=True) if has_share for one in member.needs
    ):
        needs.setdefault(one.source.fingerprint, one)
    return Classifier(classes, tuple(needs.values()), logits)


@dataclass(frozen=True, slots=True)
class ChosenModel:
    """A classifier that can answer here.

    Attributes:
        folder: its results.
        evaluation: what they say.
        backbones: that make its features, on this machine.
        why: how it came to be chosen, in words.
    """

    folder: Path
    evaluation: Evaluation | MultilabelResult
    classifier: Classifier
    backbones: tuple[FoundBackbone, ...]
    why: str

    @property
    def temperature(self) -> float | None:
        """By which logits are divided, fitted on validation; None without."""
        calibration = None if isinstance(self.evaluation, MultilabelResult) else self.evaluation.calibration
        return None if calibration is None else calibration.temperature

    @property
    def thresholds(self) -> NDArray[np.float64] | None:
        """Of a classifier with several labels an item: probabilities [C] from which on each class is answered."""
        if isinstance(self.evaluation, MultilabelResult):
            return np.asarray(self.evaluation.thresholds)
        return None


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """What a user asks of the best model; None is anything.

    Attributes:
        backbone: name, of several `a+b`.
        labels: column.
        split: name.
        profile: parameters that the run was made by; of its labels and splits the first one is meant if nothing is
            asked.
    """

    backbone: str | None = None
    labels: str | None = None
    split: str | None = None
    profile: InForce | None = None


def open_classifier(folder: Path) -> Classifier:
    """The head or ensemble of a results folder, with the heads of all members.

    Raises:
        StoreError: the folder has neither, or something of it is missing, damaged or of another version.
    """
    if (folder / ensembles.ENSEMBLES.card_name).is_file():
        rule, card = load_ensemble(folder)
        members = [_member(folder, member) for member in card.members]
        return _joined(rule, card.classes, members, [member.share > 0 for member in card.members])
    if not folder.is_dir():
        raise StoreError(f"there is no folder {folder}; name one that `deponij probe --out` or a run wrote")
    return _of_head(load_head(folder), folder)


def _member(folder: Path, member: MemberSource) -> Classifier:
    place = folder / member.folder
    if digest_of(place) != member.sha256:
        raise StoreError(
            f"{place} was made anew since the ensemble {folder} was made of it; make the ensemble again"
        )
    return open_classifier(place)


def named_model(folder: Path, specs: Sequence[str]) -> ChosenModel:
    """The classifier of a results folder.

    Args:
        specs: backbones that the user named; see `find_backbones`.

    Raises:
        DeponijError: no classifier, or its backbones are not here; the message says what to do.
    """
    evaluation, _ = read_result(folder)
    classifier = open_classifier(folder)
    if read_result(folder)[0] != evaluation:
        raise StoreError(f"{folder} was replaced while it was being read; ask again")
    if tuple(evaluation.classes) != classifier.classes:
        raise StoreError(
            f"{folder}: {RESULT_NAME} and the classifier beside it have other classes; run its stage again"
        )
    backbones = find_backbones(classifier.needs, specs)
    return ChosenModel(folder, evaluation, classifier, backbones, "named with --model")


def best_model(at: Layout, request: ModelRequest, specs: Sequence[str]) -> ChosenModel:
    """The head with the highest validation (or out-of-fold) top-1 whose backbones are on this machine.

    What may be chosen, and in which order: `deponij.project.learning.candidates`.

    Raises:
        UsageError: nothing is there by the names that were asked for, or more must be asked.
        StoreError: there are no results, or none with a validation part.
        BackboneError: the weights of no candidate are here; the message holds the best one's reason.
    """
    toys, ranked = toys_of(at.weights), _judged(at, request)
    left_out: dict[str, BackboneError | IdentityError] = {}
    for folder, evaluation in ranked:
        try:
            chosen = named_model(folder, specs)
        except (BackboneError, IdentityError) as error:
            if evaluation.backbone not in left_out:
                say(f"note: {folder} is left out: {str(error).splitlines()[0]}")
            left_out.setdefault(evaluation.backbone, error)
            continue
        row = result_row(evaluation, toys)
        share = f"{in_percent(row.judged_top1 or 0)} of {row.n if row.n_folds else row.n_val:,}"
        among = f"{len(ranked)} for {evaluation.labels} on split {evaluation.split} in {at.root}"
        why = f"best {'out-of-fold' if row.n_folds else 'validation'} top-1 ({share}) of {among}"
        if is_toy(evaluation.backbone, toys):
            why += "; its backbone is a toy, which learnt from drawn litter only: trust no answer"
        elif any(is_toy(one.backbone, toys) for _, one in ranked):
            why += ", toys left aside"
        return ChosenModel(folder, evaluation, chosen.classifier, chosen.backbones, why)
    first = next(iter(left_out.values()))
    raise BackboneError(
        f"of {len(ranked)} classifiers in {at.root} none has its backbone here. {first}"
    ) from first


def _judged(at: Layout, request: ModelRequest) -> list[Candidate]:
    """What may be chosen, the first to take first."""
    results = candidates(
        at, request.profile, labels=request.labels, split=request.split, backbone=request.backbone
    )
    if not results:
        raise StoreError(
            f"there are no classifiers in {at.all_results}; `dvc repro` or `deponij run` makes them where there are labels "
            "to learn from, or name one with --model"
        )
    judged = [one for one in results if is_judged(one[1])]
    if not judged:
        labels, split = results[0][1].labels, results[0][1].split
        raise StoreError(
            f"no classifier for {labels} on split {split} was scored on a validation part; name one with --model"
        )
    return judged
