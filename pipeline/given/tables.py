"""Given embeddings in a table: a column of ids, and a column of lists or many columns of numbers."""

import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from deponij.pipeline.given.vectors import GivenVectors, given_vectors
from deponij.store.errors import DataError, UsageError

# What people call ids, without regard to case; the first that is there is taken. The last one is of pandas.
ID_COLUMNS = (
    "item_id", "id", "ids", "path", "file", "filename", "file_name", "filepath", "file_path", "image_path", "image",
    "image_id", "name", "key", "__index_level_0__",
)  # fmt: skip
_NUMBERED = re.compile(r"(.*?)(\d+)")


def id_column(names: Sequence[str], named: str | None, where: str) -> str:
    """The column that holds the ids.

    Raises:
        UsageError: the named one is not there.
        DataError: none is called like one.
    """
    if named is not None:
        if named not in names:
            raise UsageError(f"{where} has no column {named!r} of ids; it has {_some(names)}")
        return named
    by_lower = {name.strip().lower(): name for name in reversed(names)}
    column = next((by_lower[name] for name in ID_COLUMNS if name in by_lower), None)
    if column is None:
        raise DataError(
            f"{where} has no column of ids ({', '.join(ID_COLUMNS[:4])}, …); it has {_some(names)}; name it: --ids COLUMN"
        )
    return column


def of_table(table: pa.Table, where: str, ids: Sequence[Any] | str | None = None) -> GivenVectors:
    """The embeddings in a table: one column of lists, or numbered columns of numbers such as x0 … x511.

    Args:
        ids: of the rows, or the name of their column; None: the column that is called like one.

    Raises:
        DataError: no vectors or no ids, or as `given_vectors`.
        UsageError: a column that is not there.
    """
    if twice := sorted({name for name in table.column_names if table.column_names.count(name) > 1}):
        raise DataError(f"{where} has two columns of the name {twice[0]!r}; rename one")
    named = id_column(table.column_names, ids, where) if ids is None or isinstance(ids, str) else None
    rest = table if named is None else table.drop_columns([named])
    values, used = _vectors(rest, where)
    others = rest.drop_columns(list(used))
    left = [name for name in others.column_names if pa.types.is_nested(others[name].type)]
    names = ids if named is None else table[named].to_pylist()
    assert names is not None and not isinstance(names, str)
    notes = [
        f"{where}: vectors are {_told(used)}, ids {named!r}"
        if named
        else f"{where}: vectors are {_told(used)}"
    ]
    return given_vectors(where, names, values, others.drop_columns(left), notes)


def _vectors(table: pa.Table, where: str) -> tuple[NDArray[Any], Sequence[str]]:
    lists = [name for name in table.column_names if _is_list(table[name].type)]
    families = _families(table)
    if len(lists) + len(families) > 1:
        told = [*map(repr, lists), *(_told(names) for names in families)]
        raise DataError(
            f"{where} holds vectors more than once: {' and '.join(told)}; leave one set of them in it, beside ids"
        )
    if lists:
        return _of_lists(table[lists[0]], f"{where}, column {lists[0]!r}"), lists
    if families:
        return _of_columns(table, families[0], where), families[0]
    raise DataError(
        f"{where} holds no vectors: neither a column of lists of numbers, nor numbered columns of numbers (x0, x1, …); "
        f"it has {', '.join(f'{field.name} ({field.type})' for field in list(table.schema)[:12])}"
    )


def _families(table: pa.Table) -> list[list[str]]:
    """Columns of numbers whose names differ in their number alone, in its order; two or more."""
    by_stem: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for name in table.column_names:
        match = _NUMBERED.fullmatch(name)
        if match and _is_number(table[name].type):
            by_stem[match[1]].append((int(match[2]), name))
    return [[name for _, name in sorted(one)] for one in by_stem.values() if len(one) > 1]


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))


def _is_list(kind: pa.DataType) -> bool:
    tests = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(test(kind) for test in tests) and _is_number(kind.value_type)


def _of_lists(column: pa.ChunkedArray, where: str) -> NDArray[Any]:
    if column.null_count:
        row = pc.index(pc.is_null(column), True).as_py()
        raise DataError(f"{where}: {column.null_count:,} rows have no vector, the first is row {row + 1}")
    lengths = np.asarray(pc.list_value_length(column).to_numpy())
    widths, counts = np.unique(lengths, return_counts=True)
    if len(widths) != 1:
        usual = widths[counts.argmax()]
        row = int(np.flatnonzero(lengths != usual)[0])
        raise DataError(
            f"{where}: vectors are of different widths: most have {usual} numbers, row {row + 1} has {lengths[row]}"
        )
    flat = pc.list_flatten(column).combine_chunks()
    # A number that is missing becomes NaN, and so a fault of its row.
    values: NDArray[Any] = flat.to_numpy(zero_copy_only=False).reshape(len(column), int(widths[0]))
    return values


def _of_columns(table: pa.Table, names: Sequence[str], where: str) -> NDArray[Any]:
    columns = [table[name].to_numpy() for name in names]
    return np.stack(columns, axis=1)


def _told(names: Sequence[str]) -> str:
    return (
        f"the column {names[0]!r}"
        if len(names) == 1
        else f"the {len(names):,} columns {names[0]!r} to {names[-1]!r}"
    )


def _some(names: Sequence[str]) -> str:
    return ", ".join([*names[:12], *(["…"] if len(names) > 12 else [])])
