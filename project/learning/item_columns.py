"""What is known of items by their id: labels, photographs, parts, folds and groups. Joining them: `results`."""

from pathlib import Path
from sys import intern

import numpy as np
import pyarrow as pa

from deponij.pipeline.heads.head import Names
from deponij.pipeline.metrics.clustered import Unit
from deponij.pipeline.metrics.evaluation import FOLD, PARTS
from deponij.store.atomic import read_table, read_texts
from deponij.store.errors import DataError, UsageError
from deponij.store.items import Items


def read_labels(items: Items, labels: str) -> dict[str, str | None]:
    """The label of each item by id; None where it has none.

    Raises:
        UsageError: the items have no such column, or it holds no names or whole numbers.
    """
    if labels not in items.column_names:
        raise UsageError(f"the items have no column {labels!r}; they have: {', '.join(items.column_names)}")
    if holds_sets(items, labels):
        raise UsageError(
            f"column {labels!r} holds several labels an item; `deponij run` learns from it, in a profile it stands under "
            "`label_sets`; here columns of one label an item are taken"
        )
    column = items.table([labels]).column(0)
    if pa.types.is_nested(column.type) or pa.types.is_floating(column.type):
        raise UsageError(f"column {labels!r} holds {column.type}; labels are names or whole numbers")
    values = column.cast(pa.string()).to_pylist()
    return dict(zip(items.ids, map(_shared, values), strict=True))


def _shared(name: str | None) -> str | None:
    """One text for all items that have it, where it were one each: 60 bytes an item."""
    return None if name is None else intern(name)


def holds_sets(items: Items, labels: str) -> bool:
    """Whether a column holds several labels an item, as lists of texts.

    Raises:
        UsageError: the items have no such column.
    """
    if labels not in items.column_names:
        raise UsageError(f"the items have no column {labels!r}; they have: {', '.join(items.column_names)}")
    kind = items.table([labels]).column(0).type
    return bool(pa.types.is_list(kind) and pa.types.is_string(kind.value_type))


def read_sets(items: Items, labels: str) -> dict[str, list[str] | None]:
    """The labels of each item by id, sorted; an empty list where it has none of the classes, None where none are known.

    Raises:
        UsageError: the items have no such column, or it holds no lists of texts.
    """
    if not holds_sets(items, labels):
        raise UsageError(f"column {labels!r} holds one label an item; it stands under `labels`")
    pairs = zip(items.ids, items.column(labels), strict=True)
    return {item_id: None if one is None else sorted(set(one)) for item_id, one in pairs}


def photographs(items: Items, ids: Names) -> Names:
    """The photograph that each item [n] is of; an item without one is one by itself."""
    photo_of = photograph_of(items)
    return np.array([photo_of[item_id] for item_id in ids.tolist()], dtype=np.str_)


def photograph_of(items: Items) -> dict[str, str]:
    """Each item's photograph by its id; an item without one is one by itself."""
    pairs = zip(items.ids, items.column("image_id"), strict=True)
    # A photograph that is one item is the same text, not a second one.
    return {item_id: item_id if photo in (None, item_id) else photo for item_id, photo in pairs}


def read_groups(split: Path, items: Items) -> tuple[dict[str, str], Unit]:
    """What each item is left out with where intervals are made, and what that is; one without is alone.

    It stands in the split's column `group`; without such a column (an older split) it is the photograph.

    Raises:
        StoreError: the table cannot be read.
    """
    photo_of, table = photograph_of(items), read_table(split)
    if "group" not in table.column_names:
        return photo_of, "photographs"
    pairs = zip(table["item_id"].to_pylist(), table["group"].cast(pa.string()).to_pylist(), strict=True)
    given = {item_id: item_id if group is None else group for item_id, group in pairs}
    is_photo = all(photo_of.get(item_id) == group for item_id, group in given.items())
    return photo_of | given, "photographs" if is_photo else "groups"


def read_parts(split: Path) -> dict[str, str | None]:
    """The part of each item by id; None outside the pool.

    Raises:
        DataError: unknown parts, or an item twice.
        StoreError: the table cannot be read.
    """
    ids, parts = read_texts(split, ["item_id", "part"])
    unknown = sorted({part for part in parts if part is not None} - set(PARTS))
    if unknown:
        raise DataError(f"{split} has the parts {unknown}; allowed are {', '.join(PARTS)} and null")
    part_of = {one: _shared(part) for one, part in zip(ids, parts, strict=True) if one is not None}
    if len(part_of) != len(ids):
        raise DataError(f"{split}: {len(ids) - len(part_of)} item ids occur more than once, or are missing")
    return part_of


def read_folds(split: Path) -> dict[str, int] | None:
    """The fold of each item that has a part, by id, from 0; None where the split has none.

    Raises:
        DataError: an item of a part has no fold, or one below 0.
        StoreError: the table cannot be read.
    """
    table = read_table(split)
    if FOLD not in table.column_names:
        return None
    if not pa.types.is_integer(table[FOLD].type):
        raise DataError(
            f"{split}: its column {FOLD!r} holds {table[FOLD].type}; folds are whole numbers from 0"
        )
    columns = (table[name].to_pylist() for name in ("item_id", "part", FOLD))
    folds = {item_id: fold for item_id, part, fold in zip(*columns, strict=True) if part is not None}
    strange = [item_id for item_id, fold in folds.items() if fold is None or fold < 0]
    if strange:
        raise DataError(f"{split}: {len(strange)} items of its parts have no fold, the first: {strange[0]!r}")
    return folds
