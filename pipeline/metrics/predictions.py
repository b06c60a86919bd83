"""The answers of one classifier as tables: one row an item, one row a class."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from deponij.pipeline.metrics.classification import Names, per_class, rank
from deponij.pipeline.metrics.clustered import Estimate, clustered_means
from deponij.store.errors import DataError

KEPT_RANKS = 5
Row = dict[str, str | int | float]


@dataclass(frozen=True, slots=True)
class Predictions:
    """Ranked answers to n items.

    Attributes:
        ids, parts, truth: [n].
        groups: [n], see `Examples`.
        top_labels: [n, k] class names, best first, with k = min(KEPT_RANKS, C).
        top_probs: [n, k], float32.
        folds: [n], of cross-validated items, else None.
    """

    ids: Names
    parts: Names
    truth: Names
    groups: Names
    top_labels: Names
    top_probs: NDArray[np.float32]
    folds: NDArray[np.int64] | None = None

    @property
    def places(self) -> list[str]:
        """Where each item stands in the split: its part, or its fold."""
        if self.folds is None:
            return [str(part) for part in self.parts]
        return [f"fold {fold}" for fold in self.folds]

    def table(self) -> pa.Table:
        """Columns item_id, part, fold where there are folds, truth, group, prediction, prob, top_labels and top_probs
        (lists).
        """
        folds = {} if self.folds is None else {"fold": pa.array(self.folds, pa.int64())}
        return pa.table(
            {
                "item_id": pa.array(self.ids, pa.string()),
                "part": pa.array(self.parts, pa.string()),
                **folds,
                "truth": pa.array(self.truth, pa.string()),
                "group": pa.array(self.groups, pa.string()),
                "prediction": pa.array(self.top_labels[:, 0], pa.string()),
                "prob": pa.array(self.top_probs[:, 0], pa.float32()),
                "top_labels": _lists(self.top_labels, pa.string()),
                "top_probs": _lists(self.top_probs, pa.float32()),
            }
        )

    @classmethod
    def from_table(cls, table: pa.Table) -> "Predictions":
        """Read what `table` gave.

        Raises:
            DataError: a column is missing, of another type, or has gaps.
        """
        _check_columns(table)
        ids, parts, truth, groups, top_labels = (
            np.array(table[name].to_pylist(), dtype=np.str_) for name in (*_TEXTS, "top_labels")
        )
        top_probs = np.array(table["top_probs"].to_pylist(), dtype=np.float32)
        folds = np.array(table["fold"].to_pylist(), dtype=np.int64) if "fold" in table.column_names else None
        return cls(ids, parts, truth, groups, top_labels, top_probs, folds)

    def of(self, part: str) -> "Predictions":
        """The items of one part."""
        return self.only(self.parts == part)

    def only(self, kept: NDArray[np.bool_]) -> "Predictions":
        """The items that are kept [n]."""
        return Predictions(
            self.ids[kept],
            self.parts[kept],
            self.truth[kept],
            self.groups[kept],
            self.top_labels[kept],
            self.top_probs[kept],
            None if self.folds is None else self.folds[kept],
        )


def _lists(values: NDArray[Any], kind: pa.DataType) -> pa.ListArray:
    """A list for each row of [n, k], without a Python object for each value."""
    n, k = values.shape
    # Of millions of texts it comes in pieces.
    flat = pa.array(values.ravel(), kind)
    flat = flat.combine_chunks() if isinstance(flat, pa.ChunkedArray) else flat
    return pa.ListArray.from_arrays(k * np.arange(n + 1, dtype=np.int32), flat)


_TEXTS = ("item_id", "part", "truth", "group")
_LISTS = {"top_labels": pa.string(), "top_probs": pa.float32()}


def _check_columns(table: pa.Table) -> None:
    """Refuse a table that `Predictions.table` did not make."""
    for name, kind in {**dict.fromkeys(_TEXTS, pa.string()), **_LISTS}.items():
        if name not in table.column_names:
            raise DataError(f"it has no column {name!r}")
        column, stored = table[name], table[name].type
        is_list = pa.types.is_list(stored)
        if (stored.value_type if is_list else stored) != kind or is_list != (name in _LISTS):
            raise DataError(f"its column {name!r} holds {stored}")
        values = column.combine_chunks().flatten() if is_list else column
        if column.null_count or values.null_count:
            raise DataError(f"its column {name!r} has gaps")
    if "fold" in table.column_names and (table["fold"].type != pa.int64() or table["fold"].null_count):
        raise DataError(f"its column 'fold' holds {table['fold'].type}, or has gaps")
    lengths = [np.asarray(pc.list_value_length(table[name])) for name in _LISTS]
    if len(table) and len(np.unique(lengths)) != 1:
        raise DataError(f"its lists in {' and '.join(_LISTS)} are not equally long")


def predictions(
    *,
    ids: Names,
    parts: Names,
    truth: Names,
    groups: Names,
    logits: NDArray[np.floating],
    probs: NDArray[np.floating],
    classes: Names,
    folds: NDArray[np.int64] | None = None,
) -> Predictions:
    """Rank each item's classes by its logits; equal logits go to the class that sorts first.

    Args:
        logits, probs: [n, C]; probabilities of far classes round to equal values, logits do not.
        classes: [C] names.
        folds: [n], of cross-validated items.
    """
    ranked = rank(logits, KEPT_RANKS)
    top_probs = np.take_along_axis(probs, ranked, axis=1).astype(np.float32)
    return Predictions(ids, parts, truth, groups, classes[ranked], top_probs, folds)


def recalls(predictions: Predictions) -> dict[str, Estimate]:
    """The recall of each class that occurs, by its name."""
    right = predictions.top_labels[:, :1] == predictions.truth[:, None]
    by_class = clustered_means(right, predictions.groups, predictions.truth).by_class
    return {str(name): one for name, (one,) in zip(np.unique(predictions.truth), by_class, strict=True)}


def per_class_rows(predictions: Predictions, classes: Sequence[str], part: str) -> list[Row]:
    """One row for each class that is known or occurs in a part.

    Keys: part, class, support, groups, predicted, correct, precision, recall, and the recall's 95 % interval as
    recall_low and recall_high. What is undefined, or has too few groups, is an empty string, which spreadsheets and
    pandas read as missing.
    """
    chosen = predictions.of(part)
    known = recalls(chosen)
    bounds = {name: one.interval for name, one in known.items() if one.interval is not None}
    everything = sorted(set(classes) | set(chosen.truth.tolist()))
    return [
        {
            "part": part,
            "class": scores.name,
            "support": scores.n_support,
            "groups": known[scores.name].n_clusters if scores.name in known else 0,
            "predicted": scores.n_predicted,
            "correct": scores.n_correct,
            "precision": "" if scores.precision is None else round(scores.precision, 6),
            "recall": "" if scores.recall is None else round(scores.recall, 6),
            "recall_low": round(bounds[scores.name][0], 6) if scores.name in bounds else "",
            "recall_high": round(bounds[scores.name][1], 6) if scores.name in bounds else "",
        }
        for scores in per_class(chosen.truth, chosen.top_labels[:, 0], everything)
    ]
