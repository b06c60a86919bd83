"""Which columns of a table of pictures hold paths, labels and parts, and how their labels are read.

Several labels a picture are the business of `label_sets`.
"""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from deponij.pipeline.data.adapters.label_sets import (
    LABEL_SET,
    is_list,
    looks_like_sets,
    of_choices,
    of_columns,
    split_texts,
)
from deponij.pipeline.data.adapters.parquet_columns import LABEL
from deponij.store.errors import DataError, UsageError

# What people call these columns, without regard to case; the first that is there is taken.
PATHS = (
    "path",
    "file",
    "filename",
    "file_name",
    "filepath",
    "file_path",
    "image_path",
    "img_path",
    "image",
    "img",
)
LABELS = (
    *("label", "class", "category", "target", "class_name", "species", "labels"),
    *("choice", "choices", "tags"),
)
PARTS = ("split", "part", "subset", "set", "partition")


def column_called(
    table: pa.Table, named: str | None, usual: Sequence[str], what: str, path: Path
) -> str | None:
    """The column of that name, else the first that is usually called so; None for none.

    Raises:
        UsageError: there is none of the name.
    """
    if named is not None:
        if named not in table.column_names:
            raise UsageError(
                f"{path} has no column {named!r} for {what}; it has {', '.join(table.column_names)}"
            )
        return named
    names = {name.strip().lower(): name for name in reversed(table.column_names)}
    return next((names[name] for name in usual if name in names), None)


def refuse_twins(table: pa.Table, path: Path) -> None:
    """Refuse a table in which a name could be two columns.

    Raises:
        DataError: naming them.
    """
    if twice := sorted({name for name in table.column_names if table.column_names.count(name) > 1}):
        raise DataError(f"{path} has two columns of the name {', '.join(map(repr, twice))}; rename one")


def with_labels(
    table: pa.Table, named: str | None, separator: str | None, columns: Sequence[str], path: Path
) -> tuple[pa.Table, str | None, tuple[str, ...]]:
    """The table with one column of labels, if any, its name, and how its labels are read.

    Args:
        named: the column that the user names.
        separator: between the labels of a text; none: a text is one label.
        columns: of 0 and 1, one a class, that take the place of a label column.

    Raises:
        UsageError: columns that are not there, or several ways at once.
        DataError: a value that cannot be read so.
    """
    if columns:
        if named or separator:
            raise UsageError(
                "columns of 0 and 1 are the labels by themselves; name no label column or separator too"
            )
        sets = of_columns(table, columns, path)
        left = table.drop_columns(list(dict.fromkeys(columns)))
        name = LABEL if LABEL not in left.column_names else "labels of columns"
        return (
            left.append_column(name, pa.array(sets, LABEL_SET)),
            name,
            _told_sets(sets, "0 in every column"),
        )
    label = column_called(table, named, LABELS, "labels", path)
    if label is None:
        if separator:
            raise UsageError(
                f"{path} has no column of labels to take apart at {separator!r}; it has "
                f"{', '.join(table.column_names)}"
            )
        return table, None, ()
    if is_list(table[label].type):
        if separator:
            raise UsageError(f"column {label!r} of {path} holds lists already; name no label separator")
        return table, label, _told_sets(table[label].to_pylist(), "an empty list")
    texts = [None if one is None else str(one) for one in table[label].to_pylist()]
    if separator:
        sets = split_texts(texts, separator)
        if not any(one is not None and len(one) > 1 for one in sets):
            raise UsageError(
                f"no value in column {label!r} of {path} holds {separator!r}; such as "
                f"{next((one for one in texts if one), '')!r}"
            )
        return _with_sets(table, label, sets), label, _told_sets(sets, f"{separator!r} alone")
    if (sets_or_none := of_choices(texts, label)) is not None:
        return _with_sets(table, label, sets_or_none), label, _told_sets(sets_or_none, '{"choices": []}')
    return table, label, (*_other_labels(table, label), *_told_separator(texts, label))


def _with_sets(table: pa.Table, label: str, sets: Sequence[list[str] | None]) -> pa.Table:
    return table.set_column(table.column_names.index(label), label, pa.array(sets, LABEL_SET))


def _told_sets(sets: Sequence[Sequence[str] | None], empty: str) -> tuple[str, ...]:
    n_none, n_empty = sum(one is None for one in sets), sum(one is not None and not len(one) for one in sets)
    known = [len(one) for one in sets if one is not None]
    mean = sum(known) / max(1, len(known))
    return (
        f"several labels a picture, {mean:.2g} on average; {n_empty:,} pictures that show none of the classes ({empty}), "
        f"{n_none:,} without labels (an empty field)",
    )


def _other_labels(table: pa.Table, label: str) -> tuple[str, ...]:
    others = [name for name in table.column_names if name != label and name.strip().lower() in LABELS]
    if not others:
        return ()
    return (
        f"labels are those of column {label!r}; {', '.join(map(repr, others))} could be meant too (--labels)",
    )


def _told_separator(texts: Sequence[str | None], label: str) -> tuple[str, ...]:
    sign = looks_like_sets(texts)
    if sign is None:
        return ()
    such = max((one for one in texts if one and sign in one), key=len)
    return (
        f"values of {label!r} such as {such!r} are one class each; if they are several labels, "
        f"--label-separator {sign!r} takes them apart",
    )
