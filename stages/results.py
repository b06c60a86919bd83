"""What the learning stages share: reading labelled examples, writing and reading a folder of results.

A results folder holds `result.json` (everything), `metrics.json` (numbers, for `dvc metrics`),
`confusion.csv` (truth and prediction of each test item, for `dvc plots` with the confusion template),
`per_class.csv`, `predictions.parquet`, and for heads that learned something `head.json` and
`head.safetensors`. This is no stage.
"""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import ValidationError

from pipeline.heads.examples import Examples, join_examples
from pipeline.heads.head import FeatureSource, Head
from pipeline.metrics.evaluation import PARTS, Evaluation, PartScores, score_part
from pipeline.metrics.predictions import Predictions, per_class_rows, predictions
from store.atomic import read_table, write_bytes, write_table
from store.errors import DataError, StoreError, UsageError
from store.items import Items
from store.view import View

Vectors = NDArray[np.floating]

RESULT_NAME = "result.json"
METRICS_NAME = "metrics.json"
CONFUSION_NAME = "confusion.csv"
PER_CLASS_NAME = "per_class.csv"
PREDICTIONS_NAME = "predictions.parquet"


def read_examples(view: View, items: Items, split: Path, labels: str) -> tuple[Examples, Vectors]:
    """Labelled examples and their features [n, d], joined by item id.

    Raises:
        UsageError: the items have no such label column, or the view holds no vectors.
        DataError: the split does not belong to the items, or nothing is left to use.
        StoreError: the view was made from other items or other pictures, or has values that are not finite.
    """
    if view.kind != "embedding":
        raise UsageError(f"{view.path} holds features of kind {view.kind!r}; this needs `embedding`")
    names = _labels(items, labels)
    _check_belongs(view, items)
    examples = join_examples(names, _parts(split), view.ids.tolist())
    features = view.read(examples.ids.tolist())
    bad = np.flatnonzero(~np.isfinite(features).all(axis=1))
    if len(bad):
        raise StoreError(
            f"{view.path}: the features of {len(bad)} items are NaN or infinite, the first: "
            f"{str(examples.ids[bad[0]])!r}; extract with precision fp32"
        )
    return examples, features


def _labels(items: Items, labels: str) -> dict[str, str | None]:
    if labels not in items.column_names:
        raise UsageError(f"the items have no column {labels!r}; they have: {', '.join(items.column_names)}")
    column = items.table([labels]).column(0)
    if pa.types.is_nested(column.type) or pa.types.is_floating(column.type):
        raise UsageError(f"column {labels!r} holds {column.type}; labels are names or whole numbers")
    values = column.cast(pa.string()).to_pylist()
    return dict(zip(items.ids, values, strict=True))


def _parts(split: Path) -> dict[str, str | None]:
    table = read_table(split, ["item_id", "part"])
    ids, parts = table["item_id"].to_pylist(), table["part"].to_pylist()
    unknown = sorted({part for part in parts if part is not None} - set(PARTS))
    if unknown:
        raise DataError(f"{split} has the parts {unknown}; allowed are {', '.join(PARTS)} and null")
    found = dict(zip(ids, parts, strict=True))
    if len(found) != len(ids):
        raise DataError(f"{split}: {len(ids) - len(found)} item ids occur more than once")
    return found


def _check_belongs(view: View, items: Items) -> None:
    """Items without features must have failed, and a row must be of the picture that the item has now."""
    seen = dict(zip(view.ids.tolist(), view.keys.tolist(), strict=True))
    failed = {item_id for item_id, _ in view.failures} | {item_id for item_id, _ in items.failures}
    missing = [item_id for item_id in items.ids if item_id not in seen and item_id not in failed]
    if missing:
        raise StoreError(
            f"{view.path} lacks {len(missing)} of {len(items)} items that did not fail, the first: "
            f"{missing[0]!r}; it was made from other items: extract again"
        )
    other = [i for i, key in zip(items.ids, items.keys, strict=True) if i in seen and key != seen[i]]
    if other:
        raise StoreError(
            f"{view.path} saw other pictures than {items.path} holds for {len(other)} items, the first: "
            f"{other[0]!r}; extract again"
        )


def feature_source(view: View, labels: str) -> FeatureSource:
    """What a head that learns from this view remembers."""
    return FeatureSource(
        backbone=view.backbone,
        fingerprint=view.fingerprint,
        labels=labels,
        identity=json.loads(view.identity.to_json()),
    )


def evaluate(
    head: Head, view: View, examples: Examples, features: Vectors, *, labels: str, split: Path
) -> tuple[Evaluation, Predictions]:
    """A head's ranked answers to all examples, and its scores on each part that has items."""
    found = predictions(
        ids=examples.ids,
        parts=examples.parts,
        truth=examples.labels,
        logits=head.decision_function(features),
        probs=head.predict_proba(features),
        classes=head.classes_,
    )
    classes = tuple(head.classes_.tolist())
    unseen = tuple(sorted(set(examples.pool_classes) - set(classes)))
    evaluation = Evaluation(
        method=head.kind,
        title=head.title,
        backbone=view.backbone,
        labels=labels,
        split=split.stem,
        fingerprint=view.fingerprint,
        protocol=head.protocol,
        n_classes=len(classes),
        classes=classes,
        chance=1 / len(classes),
        majority_class=examples.majority_class,
        parts=_score_parts(found, classes, examples.majority_class),
        n_items=examples.n_items,
        n_outside_pool=examples.n_outside_pool,
        n_without_label=examples.n_without_label,
        n_without_features=examples.n_without_features,
        unseen_classes=unseen,
        notes=_notes(examples, labels, unseen),
    )
    return evaluation, found


def _notes(examples: Examples, labels: str, unseen: Sequence[str]) -> tuple[str, ...]:
    notes = []
    if unseen:
        notes.append(f"No training item has these classes, so that they count as wrong: {', '.join(unseen)}.")
    left_out = ((examples.n_without_features, "features"), (examples.n_without_label, f"{labels!r}"))
    for n, what in left_out:
        if n:
            notes.append(f"Left out: {n} {'item' if n == 1 else 'items'} of the split without {what}.")
    return tuple(notes)


def _score_parts(found: Predictions, classes: Sequence[str], majority_class: str) -> dict[str, PartScores]:
    return {
        part: score_part(chosen.truth, chosen.top_labels, classes, majority_class)
        for part in PARTS
        if len((chosen := found.of(part)).ids)
    }


def write_results(out: Path, result: Evaluation, found: Predictions) -> None:
    """Write a results folder, `result.json` last; equal results give equal bytes."""
    shown = "test" if "test" in result.parts else list(result.parts)[-1]
    write_table(out / PREDICTIONS_NAME, found.table())
    rows = [row for part in result.parts for row in per_class_rows(found, result.classes, part)]
    write_bytes(out / PER_CLASS_NAME, _csv(rows))
    chosen = found.of(shown)
    pairs = zip(chosen.truth.tolist(), chosen.top_labels[:, 0].tolist(), strict=True)
    rows = [{"truth": truth, "prediction": prediction} for truth, prediction in pairs]
    write_bytes(out / CONFUSION_NAME, _csv(rows))
    write_bytes(out / METRICS_NAME, (json.dumps(_metrics(result), indent=2) + "\n").encode())
    write_bytes(out / RESULT_NAME, (result.model_dump_json(indent=2) + "\n").encode())


def read_result(folder: Path) -> tuple[Evaluation, Predictions]:
    """Read a results folder of any method.

    Raises:
        StoreError: there is none, or it is damaged.
    """
    path = folder / RESULT_NAME
    if not path.is_file():
        raise StoreError(f"there are no results in {folder}: it has no {RESULT_NAME}")
    try:
        result = Evaluation.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise StoreError(f"{path} is damaged: {error}") from error
    return result, Predictions.from_table(read_table(folder / PREDICTIONS_NAME))


def _metrics(result: Evaluation) -> dict[str, dict[str, float]]:
    # DVC shows and compares every number of this file as a column of its own, so it holds few.
    return {
        part: {
            "n": scores.n,
            "top1": round(scores.top1, 6),
            "top2": round(scores.top2, 6),
            "top3": round(scores.top3, 6),
            "balanced_accuracy": round(scores.balanced_accuracy, 6),
        }
        for part, scores in result.parts.items()
    }


def _csv(rows: Sequence[Mapping[str, str | int | float]]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()
