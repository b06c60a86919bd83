"""Which multi-label classifier answers new pictures: a results folder that was named, or the best of a run. No stage."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from deponij.pipeline.metrics.multilabel_result import MultilabelResult
from deponij.pipeline.multilabel.registry import load_multilabel
from deponij.pipeline.reports.multilabel import rows_in_order
from deponij.pipeline.reports.provenance import is_toy
from deponij.project.extraction.found_backbones import Needed, find_backbones
from deponij.project.frame.console import say
from deponij.project.frame.layout import Layout
from deponij.project.frame.toys import toys_of
from deponij.project.learning.candidates import picked
from deponij.project.learning.multilabel_files import MULTILABEL_NAME, read_multilabel
from deponij.services.predict.chosen_model import ChosenModel, Classifier, ModelRequest, Vectors
from deponij.store.errors import BackboneError, IdentityError, StoreError


def is_multilabel(folder: Path) -> bool:
    """Whether a results folder is of several labels an item."""
    return (folder / MULTILABEL_NAME).is_file()


def named_multilabel(folder: Path, specs: Sequence[str], why: str = "named with --model") -> ChosenModel:
    """The multi-label classifier of a results folder.

    Args:
        specs: backbones that the user named; see `find_backbones`.

    Raises:
        DeponijError: no classifier, or its backbone is not here; the message says what to do.
    """
    result, head = read_multilabel(folder), load_multilabel(folder)
    if (
        tuple(head.classes_.tolist()) != result.classes
        or tuple(head.thresholds_.tolist()) != result.thresholds
    ):
        raise StoreError(
            f"{folder}: {MULTILABEL_NAME} and the classifier beside it are of other classes or thresholds; run the stage "
            "`multilabel` again"
        )

    def log_odds(vectors: Vectors) -> np.ndarray:
        return head.decision_function(
            np.concatenate([vectors[one.fingerprint] for one in head.sources_], axis=1)
        )

    needs = tuple(Needed(source, folder) for source in head.sources_)
    classifier = Classifier(result.classes, needs, log_odds)
    return ChosenModel(folder, result, classifier, find_backbones(needs, specs), why)


def best_multilabel(at: Layout, request: ModelRequest, specs: Sequence[str]) -> ChosenModel:
    """The one with the highest validation mAP whose backbone is on this machine, of one column and split.

    Raises:
        UsageError: nothing is there by the names that were asked for, or more must be asked.
        BackboneError: the weights of no candidate are here.
    """
    profile, toys = request.profile, toys_of(at.weights)
    results = [(f, read_multilabel(f)) for f in at.multilabel_results(profile.backbones if profile else None)]
    labels = picked("--labels", request.labels, (), [one.labels for _, one in results])
    results = [(folder, one) for folder, one in results if one.labels == labels]
    splits = tuple(profile.splits) if profile else ()
    split = picked("--split", request.split, splits, [one.split for _, one in results])
    results = [(folder, one) for folder, one in results if one.split == split]
    if request.backbone is not None:
        picked("--backbone", request.backbone, (), [one.backbone for _, one in results])
        results = [(folder, one) for folder, one in results if one.backbone == request.backbone]
    rows = rows_in_order([(str(folder), one) for folder, one in results], toys)
    first: BackboneError | IdentityError | None = None
    for row, result in rows:
        try:
            return named_multilabel(Path(row.folder), specs, _why(result, len(rows), at, toys))
        except (BackboneError, IdentityError) as error:
            say(f"note: {row.folder} is left out: {str(error).splitlines()[0]}")
            first = first or error
    raise BackboneError(
        f"of {len(rows)} classifiers in {at.root} none has its backbone here. {first}"
    ) from first


def _why(result: MultilabelResult, n: int, at: Layout, toys: set[str] | frozenset[str]) -> str:
    among = f"{n} for {result.labels} on split {result.split} in {at.root}"
    val = result.parts.get("val")
    if val is None:
        why = f"the first of {among}; none was scored on a validation part"
    else:
        why = f"best validation mAP ({100 * val.map_macro:.1f} on {val.n:,} items) of {among}"
    if is_toy(result.backbone, toys):
        why += "; its backbone is a toy, which learnt from drawn litter only: trust no answer"
    return why
