"""Which columns can be filtered by, and with what: types, operators, frequent values, ranges. This is no stage."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from deponij.project.indexes import plain
from deponij.services.serve.schema import Column, ColumnType

_MAX_LISTED, _MAX_DIFFERENT = 60, 200
_NULLS = ("is null", "is not null")
_SETS = ("=", "!=", "in", "not in")
_ORDERS = ("<", "<=", ">", ">=", "between")
OPERATORS: dict[ColumnType, tuple[str, ...]] = {
    "text": (*_SETS, "contains", "starts with", *_NULLS),
    "number": (*_SETS, *_ORDERS, *_NULLS),
    "date": (*_SETS, *_ORDERS, *_NULLS),
    "bool": ("=", "!=", *_NULLS),
    "list": ("contains", *_NULLS),
}
# Columns that hold classes, in the order in which people think of them.
_LABELS_FIRST = ("label", "category", "supercategory")
_NO_LABELS = ("item_id", "key", "image_id", "phash", "given", "caption", "file_name")


def describe_columns(rows: pa.Table, hidden: Sequence[str]) -> list[Column]:
    """One record a column that can be filtered by."""
    return [_described(name, rows[name]) for name in rows.column_names if name not in hidden]


def _described(name: str, values: pa.ChunkedArray) -> Column:
    kind = _type(values.type)
    there = values.drop_null()
    n_values, listed = _values(there, kind)
    # Each occurs once.
    listed = None if name == "item_id" else listed
    low, high = _range(there, kind)
    return Column(
        name=name,
        type=kind,
        operators=list(OPERATORS[kind]),
        values=listed,
        n_values=n_values,
        min=low,
        max=high,
        n_null=values.null_count,
    )


def _type(kind: pa.DataType) -> ColumnType:
    if pa.types.is_nested(kind):
        return "list"
    if pa.types.is_boolean(kind):
        return "bool"
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return "number"
    return "date" if pa.types.is_temporal(kind) else "text"


def _values(there: pa.ChunkedArray, kind: ColumnType) -> tuple[int, list[tuple[Any, int]] | None]:
    """How many different ones, and the most frequent where these are not too many."""
    if kind == "list":
        return 0, None
    n_values = int(pc.count_distinct(there).as_py())
    if n_values > _MAX_DIFFERENT:
        return n_values, None
    counted = [(plain(one["values"]), int(one["counts"])) for one in pc.value_counts(there).to_pylist()]
    ranked = sorted(counted, key=lambda pair: (-pair[1], str(pair[0])))
    return n_values, [pair for pair in ranked if pair[0] is not None][:_MAX_LISTED]


def _range(there: pa.ChunkedArray, kind: ColumnType) -> tuple[Any, Any]:
    if kind not in ("number", "date") or not len(there):
        return None, None
    if pa.types.is_floating(there.type):
        there = there.filter(pc.is_finite(there))
    ends = pc.min_max(there).as_py()
    return plain(ends["min"]), plain(ends["max"])


def label_columns(columns: Sequence[Column], of_profile: Sequence[str] = ()) -> list[str]:
    """Columns that hold classes: the profile's, then others with more than one and not too many values."""
    fits = [
        one.name
        for one in columns
        if one.type == "text"
        and one.values is not None
        and one.n_values > 1
        and one.name not in _NO_LABELS
        and not one.name.startswith("split_")
    ]
    known = [name for name in (*of_profile, *_LABELS_FIRST) if name in fits]
    return list(dict.fromkeys([*known, *fits]))


def class_names(columns: Sequence[Column], label_column: str, n: int) -> list[str]:
    """The most frequent classes of a column."""
    values = next((one.values for one in columns if one.name == label_column), None) or []
    return [str(value) for value, _ in values[:n]]
