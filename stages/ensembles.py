"""Stage `ensembles`: answers that other stages stored, combined. Nothing but their results folders is read.

    python -m deponij.stages.ensembles

What is learned is learned on validation; test is looked at once, for the figures. Ensembles lie beside
the results that they are made of, so that none is made of ensembles.
"""

import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, JsonValue

from deponij.pipeline.ensembles.ensemble import Ensemble, MemberSource
from deponij.pipeline.ensembles.members import Aligned, Member, align
from deponij.pipeline.ensembles.registry import ensemble_class
from deponij.pipeline.heads.examples import Examples
from deponij.pipeline.metrics.calibration import class_codes
from deponij.pipeline.metrics.evaluation import Evaluation
from deponij.pipeline.registry import names_in
from deponij.project.frame.console import say
from deponij.project.frame.harness import run_stage, write_metrics
from deponij.project.frame.lacking import NeededLabels
from deponij.project.frame.layout import Layout
from deponij.project.frame.settings import OfBackbones, RunOptions, Section, Slug
from deponij.project.learning.result_files import Judged, digest_of, read_judged, read_result
from deponij.project.learning.results import examples_of, judge, metrics_of, require_finite, write_results
from deponij.store.errors import DataError, StoreError, UsageError
from deponij.store.texts import in_percent


class EnsemblesParams(Section):
    """Which ensembles are made, and of what.

    Attributes:
        how: kinds of ensembles.
        methods: members are the results of these kinds of heads, one backbone each;
        over_everything: but for these kinds of ensembles they are all results that there are.
    """

    how: tuple[str, ...] = Field(default=names_in("deponij.pipeline.ensembles"), min_length=1)
    methods: tuple[str, ...] = Field(default=("linear", "mlp", "logistic"), min_length=1)
    over_everything: tuple[str, ...] = ("greedy",)


class Params(OfBackbones):
    """The sections of params.yaml that this stage reads; of backbones and splits only their names."""

    splits: dict[Slug, Any]
    labels: NeededLabels
    ensembles: EnsemblesParams = EnsemblesParams()


class EnsembleResult(Evaluation):
    """An `Evaluation` with whose answers were combined.

    Attributes:
        how: kind of ensemble.
        members: with their shares; folders are relative to the ensemble's (as given where none is written).
        params: of the ensemble.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    how: str
    members: tuple[MemberSource, ...]
    params: dict[str, JsonValue]


@dataclass(frozen=True, slots=True)
class Stored:
    """Results folders of the same items, label column and split.

    Attributes:
        folders, records: of the members.
        examples: the items.
        aligned: answers to them.
    """

    folders: tuple[Path, ...]
    records: tuple[Evaluation, ...]
    examples: Examples
    aligned: Aligned


def read_members(folders: Sequence[Path]) -> Stored:
    """Read results folders and bring their answers to the same items and classes.

    Raises:
        UsageError: no folders, or one twice.
        DataError: they are of other items, label columns, splits, truths or parts.
        StoreError: a folder has no results, or no usable logits.
    """
    if not folders:
        raise UsageError("name at least one results folder (with result.json and logits.npy)")
    twice = sorted({str(folder) for folder in folders if list(folders).count(folder) > 1})
    if twice:
        raise UsageError(f"named twice: {', '.join(twice)}; every member of an ensemble is named once")
    judged = [_read(folder) for folder in folders]
    first = judged[0].evaluation
    for folder, one in zip(folders, judged, strict=True):
        ours, theirs = (first.labels, first.split), (one.evaluation.labels, one.evaluation.split)
        if ours != theirs:
            raise DataError(
                f"{folders[0]} is of labels {ours[0]!r} and split {ours[1]!r}, {folder} of {theirs[0]!r} and "
                f"{theirs[1]!r}; members must share both"
            )
    aligned = align(
        [
            Member(str(folder), one.predictions.ids, one.evaluation.classes, one.logits)
            for folder, one in zip(folders, judged, strict=True)
        ]
    )
    for folder, one in zip(folders, judged, strict=True):
        _check_same_facts(folders[0], judged[0], folder, one)
    records = tuple(one.evaluation for one in judged)
    return Stored(tuple(folders), records, examples_of(first, judged[0].predictions), aligned)


def _read(folder: Path) -> Judged:
    judged = read_judged(folder)
    require_finite(judged.logits, judged.predictions.ids, f"{folder}: the logits", "run its stage again")
    return judged


def _check_same_facts(first_folder: Path, first: Judged, folder: Path, one: Judged) -> None:
    """The same items must have the same classes and parts; `align` has found that they are the same."""
    facts = zip(one.predictions.truth.tolist(), one.predictions.places, strict=True)
    known = dict(zip(one.predictions.ids.tolist(), facts, strict=True))
    expected = zip(first.predictions.truth.tolist(), first.predictions.places, strict=True)
    for item_id, (truth, part) in zip(first.predictions.ids.tolist(), expected, strict=True):
        if known[item_id] != (truth, part):
            other_truth, other_part = known[item_id]
            raise DataError(
                f"{first_folder} has {item_id!r} as {truth!r} in {part}, {folder} as {other_truth!r} in "
                f"{other_part}; run the older one's stage again"
            )


def run(how: str, folders: Sequence[Path], *, out: Path | None = None) -> EnsembleResult:
    """Combine the stored answers of results folders; what is learned is learned on `val`.

    Args:
        how: kind of ensemble.
        folders: results folders with logits, of the same items, label column and split.
        out: folder for the results and the ensemble; None writes nothing.

    Raises:
        UsageError: an unknown kind, or no folders.
        DeponijError: folders that do not fit together; the message says why.
    """
    ensemble_class(how)
    return combine(how, read_members(folders), out=out)


def combine(how: str, stored: Stored, *, out: Path | None = None) -> EnsembleResult:
    """As `run`, of members that are read already."""
    examples, aligned = stored.examples, stored.aligned
    codes = class_codes(examples.labels, aligned.classes)
    ensemble, logits = _fitted(how, stored, codes)
    judged = judge(
        logits,
        aligned.classes,
        examples,
        method=f"ensemble-{how}",
        title=ensemble.title,
        protocol=ensemble.protocol,
        backbone="+".join(_apart(record.backbone for record in stored.records)),
        fingerprint="+".join(_apart(record.fingerprint for record in stored.records)),
        labels=stored.records[0].labels,
        split=stored.records[0].split,
    )
    members = _members(stored, ensemble.shares_, out)
    result = EnsembleResult(
        **judged.evaluation.model_dump(exclude={"notes"}),
        notes=(*judged.evaluation.notes, *_notes(ensemble, examples)),
        how=how,
        members=members,
        params=ensemble.plain_params(),
    )
    if out is not None:
        files = ensemble.files(members, aligned.classes)
        write_results(out, result, judged.predictions, judged.logits, files)
    return result


def _fitted(how: str, stored: Stored, codes: NDArray[np.int64]) -> tuple[Ensemble, NDArray[np.floating]]:
    """The ensemble, and its logits [n, C]; of folds each by what the answers of the others have taught."""
    members, folds = stored.aligned.logits, stored.examples.folds
    known = codes >= 0
    if folds is None:
        val = np.flatnonzero((stored.examples.parts == "val") & known)
        ensemble = ensemble_class(how)().fit(members[:, val], codes[val])
        logits = ensemble.combine(members)
        logits[val] = ensemble.out_of_fold(members[:, val], codes[val])
        return ensemble, logits
    logits = np.empty(members.shape[1:])
    for fold in np.unique(folds):
        rows, others = folds == fold, known & (folds != fold)
        logits[rows] = ensemble_class(how)().fit(members[:, others], codes[others]).combine(members[:, rows])
    return ensemble_class(how)().fit(members[:, known], codes[known]), logits


def _members(stored: Stored, shares: NDArray[np.float64], out: Path | None) -> tuple[MemberSource, ...]:
    return tuple(
        MemberSource(
            method=record.method,
            backbone=record.backbone,
            fingerprint=record.fingerprint,
            folder=Path(folder if out is None else os.path.relpath(folder, out)).as_posix(),
            share=float(share),
            sha256=digest_of(folder),
        )
        for folder, record, share in zip(stored.folders, stored.records, shares, strict=True)
    )


def _notes(ensemble: Ensemble, examples: Examples) -> list[str]:
    if not ensemble.chooses:
        return []
    if examples.folds is not None:
        return ["Fitted on out-of-fold answers; each fold is answered by a fit on those of the others."]
    if np.count_nonzero(examples.parts == "val") > 1:
        return ["Fitted on validation, whose items are answered out of fold."]
    return ["Fitted on validation, so that figures of the validation part flatter."]


def _apart(joined: Iterable[str]) -> list[str]:
    """The parts of names or fingerprints that may be joined by `+`, each once, in order of appearance."""
    return list(dict.fromkeys(part for one in joined for part in one.split("+")))


# ------------------------------------------------------------------ under DVC


def _of_profile(params: Params, at: Layout, split: str, labels: str) -> dict[str, list[Path]]:
    """Members of each kind of ensemble, of one split and label set.

    Raises:
        DataError: there are none; the message lists the methods that there are.
    """
    made_by = (at.results_of("heads"), at.results_of("tables"))
    records = {
        folder: read_result(folder)[0]
        for folder in at.results(params.backbones)
        if folder.name == f"{split}-{labels}" and folder.parents[2] in made_by
    }
    # Members answer the same items, and a backbone is not asked about those that it was tuned on.
    untuned = [folder for folder, record in records.items() if not record.n_tuned_on]
    methods = {folder: records[folder].method for folder in untuned}
    chosen = [
        folder
        for folder in untuned
        if methods[folder] in params.ensembles.methods and "+" not in folder.parent.name
    ]
    members = {
        how: untuned if how in params.ensembles.over_everything else chosen for how in params.ensembles.how
    }
    empty = [how for how, folders in members.items() if not folders]
    if empty:
        raise DataError(
            f"{at.all_results} has no results of {', '.join(params.ensembles.methods)} on {split}/{labels} to "
            f"combine; it has those of {', '.join(sorted(set(methods.values()))) or 'nothing'}"
        )
    return members


def main(params: Params, at: Layout, options: RunOptions) -> None:
    """Every kind of ensemble over every split and label set of the profile."""
    for how in params.ensembles.how:
        ensemble_class(how)  # An unknown one is said before anything is cleared away.
    for folder in (at.results_of("heads"), at.results_of("tables")):
        if options.under_dvc and not folder.is_dir():
            raise StoreError(f"there are no results in {folder}; `dvc repro` makes them")
    shutil.rmtree(at.ensembles, ignore_errors=True)
    numbers: dict[str, dict[str, dict[str, Any]]] = {}
    for split in params.splits:
        for labels in params.labels:
            read: dict[tuple[Path, ...], Stored] = {}
            for how, folders in _of_profile(params, at, split, labels).items():
                if tuple(folders) not in read:
                    read[tuple(folders)] = read_members(folders)
                stored = read[tuple(folders)]
                has_val = stored.examples.folds is not None or len(stored.examples.rows("val"))
                if ensemble_class(how).chooses and not has_val:
                    say(f"ensemble {how} {split}/{labels}: left out, for the split has no validation part")
                    continue
                name = "+".join(_apart(record.backbone for record in stored.records))
                result = combine(how, stored, out=at.result(how, name, "ensembles") / f"{split}-{labels}")
                numbers.setdefault(split, {}).setdefault(labels, {})[how] = metrics_of(result)
                _tell(result)
    write_metrics(at, "ensembles", numbers)


def _tell(result: EnsembleResult) -> None:
    test = result.parts.get("test")
    if test is not None:
        say(
            f"ensemble {result.how} {result.split}/{result.labels}: test top-1 {in_percent(test.top1)} of {test.n}, "
            f"{sum(member.share > 0 for member in result.members)} of {len(result.members)} members"
        )


def _outs(at: Layout) -> list[Path]:
    return [at.ensembles, at.metrics("ensembles")]


if __name__ == "__main__":
    run_stage("ensembles", Params, main, outs=_outs)
