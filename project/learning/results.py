"""What the learning stages share: reading labelled examples, judging answers, writing a folder of results.

What lies in such a folder, and reading it: `result_files`. This is no stage.

Shape letters: n items, d feature width, C classes.
"""

import io
import json
from collections.abc import Mapping, Sequence
from functools import reduce
from operator import and_
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deponij.pipeline.cards import FeatureSource
from deponij.pipeline.heads.examples import Examples, join_examples
from deponij.pipeline.heads.head import Names, softmax
from deponij.pipeline.metrics.calibration import Calibration, calibration, cross_calibration
from deponij.pipeline.metrics.clustered import Unit
from deponij.pipeline.metrics.evaluation import (
    FEWEST_FOLDS,
    PARTS,
    Evaluation,
    not_a_result,
    score_part,
    shown_part,
)
from deponij.pipeline.metrics.predictions import Predictions, per_class_rows, predictions
from deponij.project.frame.csv_files import csv_bytes
from deponij.project.learning.item_columns import (
    photograph_of,
    read_folds,
    read_groups,
    read_labels,
    read_parts,
)
from deponij.project.learning.out_of_fold import Learned
from deponij.project.learning.reading import Reading
from deponij.project.learning.result_files import (
    CONFUSION_NAME,
    LOGITS_NAME,
    METRICS_NAME,
    PER_CLASS_NAME,
    PREDICTIONS_NAME,
    RESULT_NAME,
    Judged,
)
from deponij.store.atomic import table_bytes
from deponij.store.bundle import write_bundle
from deponij.store.errors import DataError, StoreError, UsageError
from deponij.store.items import Items
from deponij.store.scratch import finite_rows
from deponij.store.view import TUNED_ON, View

Vectors = NDArray[np.floating]


def read_examples(view: View, items: Items, split: Path, labels: str) -> tuple[Examples, Vectors]:
    """Labelled examples and their features [n, d], joined by item id.

    Raises:
        DeponijError: as `read_shared_examples`.
    """
    examples, (features,) = read_shared_examples([view], items, split, labels)
    return examples, features


def read_shared_examples(
    views: Sequence[View], items: Items, split: Path, labels: str, *, reading: Reading | None = None
) -> tuple[Examples, list[Vectors]]:
    """Labelled items that have features in every view, and each view's features [n, d_i] of them.

    Args:
        reading: how a head reads views, where it takes other features than embeddings.

    Raises:
        UsageError: no views, one holds no vectors, or the items have no such label column.
        DataError: the split does not belong to the items, or nothing is left to use.
        StoreError: a view was made from other items or other pictures, or has values that are not finite.
    """
    if not views:
        raise UsageError("name at least one view of picture features")
    names = read_labels(items, labels)
    for view in views:
        check_belongs(view, items, reading)
    everywhere = reduce(and_, (view.places.keys() for view in views))
    groups, unit = read_groups(split, items)
    examples = join_examples(
        names, read_parts(split), groups, everywhere, unit, read_folds(split), tuned_on(views)
    )
    _check_folds(examples)
    if reading is None:
        return examples, [_finite_features(view, examples) for view in views]
    features = reading.features(views, examples.ids)
    for view, one in zip(views, features, strict=False):
        if isinstance(one, np.ndarray):  # Heads look at maps as they read them.
            _require_finite_features(view, one, examples)
    return examples, features


def _check_folds(examples: Examples) -> None:
    """Folds were made of all items; some may hold none that has a label and features."""
    if examples.folds is not None and (n := len(np.unique(examples.folds))) < FEWEST_FOLDS:
        raise DataError(
            f"the {len(examples.ids)} items with a label and features are of {n} fold(s); one is tested, one chosen on and "
            "one learned from: add pictures, or split with --strategy random"
        )


def n_tested_unfairly(view: View, split: Path) -> int:
    """How many items would test a backbone that has learned from them, by this split."""
    parts = read_parts(split)
    return sum(parts.get(one) == "test" for one in tuned_on([view]))


def read_labelled(view: View, items: Items, labels: str) -> tuple[Names, Names, Vectors]:
    """Ids, labels and features [n, d] of all items that have both, whatever their part, in item order.

    For looking at data; what shall be scored is read with its split.

    Raises:
        UsageError: the view holds no vectors, or the items have no such label column.
        DataError: no item has both.
        StoreError: as `read_shared_examples`.
    """
    parts: dict[str, str | None] = dict.fromkeys(items.ids, "train")
    names = read_labels(items, labels)
    check_belongs(view, items)
    known = {item_id for item_id in view.ids.tolist() if names.get(item_id) is not None}
    if not known:
        raise DataError(f"no item of {items.path} has both a {labels!r} and features in {view.path}")
    examples = join_examples(names, parts, photograph_of(items), known)
    return examples.ids, examples.labels, _finite_features(view, examples)


def features_of(view: View, items: Items, examples: Examples) -> Vectors:
    """The features [n, d] of examples that were joined elsewhere.

    Raises:
        StoreError, UsageError: as `read_shared_examples`.
    """
    check_belongs(view, items)
    return _finite_features(view, examples)


def _finite_features(view: View, examples: Examples) -> Vectors:
    features = view.read(examples.ids.tolist()).reshape(len(examples.ids), -1)
    _require_finite_features(view, features, examples)
    return features


def _require_finite_features(view: View, features: Vectors, examples: Examples) -> None:
    require_finite(features, examples.ids, f"{view.path}: the features", "extract with precision fp32")


def require_finite(values: Vectors, ids: Sequence[str] | Names, what: str, mend: str) -> None:
    """Refuse rows [n, …] of items that hold NaN or infinite values.

    Raises:
        StoreError: naming the first of them.
    """
    bad = np.flatnonzero(~finite_rows(values))
    if len(bad):
        first = str(ids[bad[0]])
        raise StoreError(f"{what} of {len(bad)} items are NaN or infinite, the first: {first!r}; {mend}")


def check_belongs(view: View, items: Items, reading: Reading | None = None) -> None:
    """Refuse features that cannot be learned from, or were not made from these items."""
    (reading or Reading()).require(view)
    view.require_pictures_of(items)


def feature_sources(views: Sequence[View], labels: str) -> tuple[FeatureSource, ...]:
    """What a head that learns from these views, side by side in this order, remembers."""
    identities = [json.loads(view.identity.to_json()) for view in views]
    return tuple(
        FeatureSource(backbone=view.backbone, fingerprint=view.fingerprint, labels=labels, identity=fields)
        for view, fields in zip(views, identities, strict=True)
    )


def evaluate(
    made: Learned, sources: Sequence[FeatureSource], examples: Examples, *, labels: str, split: Path
) -> Judged:
    """A head's answers to all examples, judged."""
    head, tokens = made.head, sorted({source.token for source in sources if source.token is not None})
    return judge(
        made.logits,
        head.classes_.tolist(),
        examples,
        method=head.kind,
        title=f"{head.title} on the {' and '.join(tokens)} token" if tokens else head.title,
        protocol=made.protocol,
        backbone="+".join(source.backbone for source in sources),
        fingerprint="+".join(source.fingerprint for source in sources),
        labels=labels,
        split=split.stem,
    )


def judge(
    logits: NDArray[np.floating],
    classes: Sequence[str],
    examples: Examples,
    *,
    method: str,
    title: str,
    protocol: str,
    backbone: str,
    fingerprint: str,
    labels: str,
    split: str,
) -> Judged:
    """Ready logits of whatever classifier, judged: scores of each part that has items, calibration.

    Args:
        logits: [n, C], finite; probabilities are their softmax.
        classes: the columns' names, sorted, so that of equal logits the name that sorts first wins.
        examples: the n items.
        backbone, fingerprint: of several members these are joined by `+`.
        split: its name.

    Raises:
        DataError: a logit is NaN or infinite.
    """
    answered = predictions(
        ids=examples.ids,
        parts=examples.parts,
        truth=examples.labels,
        groups=examples.groups,
        folds=examples.folds,
        logits=logits,
        probs=softmax(logits),
        classes=np.asarray(classes, dtype=np.str_),
    )
    unseen = tuple(sorted(set(examples.pool_classes) - set(classes)))
    parts = {
        part: score_part(
            chosen.truth, chosen.top_labels, chosen.groups, classes, examples.majority_class, examples.unit
        )
        for part in PARTS
        if len((chosen := answered.of(part)).ids)
    }
    evaluation = Evaluation(
        method=method,
        title=title,
        backbone=backbone,
        labels=labels,
        split=split,
        fingerprint=fingerprint,
        protocol=protocol,
        n_classes=len(classes),
        classes=tuple(classes),
        chance=1 / len(classes),
        majority_class=examples.majority_class,
        parts=parts,
        calibration=_calibration(logits, examples, classes, shown_part(parts)),
        n_folds=0 if examples.folds is None else len(np.unique(examples.folds)),
        n_items=examples.n_items,
        n_outside_pool=examples.n_outside_pool,
        n_without_label=examples.n_without_label,
        n_without_features=examples.n_without_features,
        n_tuned_on=examples.n_tuned_on,
        unseen_classes=unseen,
        notes=_notes(examples, labels, unseen, shown_part(parts)),
    )
    return Judged(evaluation, answered, logits.astype(np.float32))


def _calibration(
    logits: NDArray[np.floating], examples: Examples, classes: Sequence[str], shown: str
) -> Calibration:
    """By a temperature of validation, and of folds each by that of the others' answers."""
    if examples.folds is None:
        return calibration(logits, examples.labels, examples.parts, classes, shown)
    return cross_calibration(logits, examples.labels, examples.folds, classes, shown)


def _notes(examples: Examples, labels: str, unseen: Sequence[str], shown: str) -> tuple[str, ...]:
    notes = [f"{said}." for said in [not_a_result(shown)] if said]
    if unseen:
        notes.append(f"No training item has these classes, so that they count as wrong: {', '.join(unseen)}.")
    return (*notes, *left_out(examples, labels), *examples.gaps())


def left_out(examples: Examples, labels: str) -> list[str]:
    """A sentence on items of the split that are in no figure, by reason."""
    counts = (
        (examples.n_without_features, "of the split without features"),
        (examples.n_without_label, f"of the split without {labels!r}"),
        (examples.n_tuned_on, "that would test a backbone which was tuned on them"),
    )
    return [f"Left out: {n:,} item{'' if n == 1 else 's'} {what}." for n, what in counts if n]


def tuned_on(views: Sequence[View]) -> set[str]:
    """Ids of items that the backbone of one of these views has learned from, or was chosen on."""
    return {
        item_id
        for view in views
        if TUNED_ON in view.columns
        for item_id, part in zip(view.ids.tolist(), view.columns[TUNED_ON].tolist(), strict=True)
        if part
    }


def write_results(
    out: Path,
    result: Evaluation,
    predictions: Predictions,
    logits: NDArray[np.floating],
    learned: Mapping[str, bytes] | None = None,
) -> None:
    """Write a results folder, or replace one as a whole; equal results give equal bytes.

    Args:
        result: what `evaluate` or `judge` gave, or a record with more fields made of it.
        logits: [n, C] of the n predictions.
        learned: what `files` of the head or ensemble gave.

    Raises:
        StoreError: the folder holds anything else, or cannot be written.
    """
    npy = io.BytesIO()
    np.save(npy, np.ascontiguousarray(logits, np.float32), allow_pickle=False)
    files = {PREDICTIONS_NAME: table_bytes(predictions.table()), LOGITS_NAME: npy.getvalue()}
    rows = [row for part in result.parts for row in per_class_rows(predictions, result.classes, part)]
    files[PER_CLASS_NAME] = csv_bytes(rows, list(rows[0]))
    chosen = predictions.of(shown_part(result.parts))
    pairs = zip(chosen.truth.tolist(), chosen.top_labels[:, 0].tolist(), strict=True)
    rows = [{"truth": truth, "prediction": prediction} for truth, prediction in pairs]
    files[CONFUSION_NAME] = csv_bytes(rows, list(rows[0]))
    files[METRICS_NAME] = (json.dumps(metrics_of(result), indent=2) + "\n").encode()
    files[RESULT_NAME] = (result.model_dump_json(indent=2) + "\n").encode()
    write_bundle(out, files | dict(learned or {}), what="results")


def examples_of(result: Evaluation, predictions: Predictions) -> Examples:
    """The examples that a results folder was made from, for judging an ensemble of stored answers."""
    return Examples(
        ids=predictions.ids,
        labels=predictions.truth,
        parts=predictions.parts,
        groups=predictions.groups,
        unit=_unit_of(result),
        pool_classes=tuple(sorted({*result.classes, *result.unseen_classes})),
        n_items=result.n_items,
        n_outside_pool=result.n_outside_pool,
        n_without_label=result.n_without_label,
        n_without_features=result.n_without_features,
        n_tuned_on=result.n_tuned_on,
        folds=predictions.folds,
    )


def _unit_of(result: Evaluation) -> Unit:
    """A part of single items does not say what groups would be."""
    units = {scores.unit for scores in result.parts.values()} - {"items"}
    return units.pop() if units else "items"


def metrics_of(result: Evaluation) -> dict[str, dict[str, float]]:
    """The few numbers that `dvc metrics` and `dvc exp show` compare: what to choose by, and what to report."""
    # DVC makes every number of this file a column of its own.
    chosen = {"val": ("top1",), shown_part(result.parts): ("top1", "top2", "top3", "balanced_accuracy")}
    numbers = {
        part: {name: round(float(getattr(result.parts[part], name)), 6) for name in names}
        for part, names in chosen.items()
        if part in result.parts
    }
    if result.calibration is not None:
        numbers.setdefault(result.calibration.part, {})["ece"] = round(result.calibration.ece, 6)
    return numbers
