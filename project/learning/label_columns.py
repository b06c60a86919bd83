"""Which columns of its items a run learns from, and what to say where there is little or nothing to learn. No stage."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deponij.pipeline.data.endings import is_picture_file
from deponij.pipeline.data.parts import given_part
from deponij.project.learning.item_columns import holds_sets
from deponij.store.errors import UsageError
from deponij.store.items import CORE, Items

# Where none is named: of whole pictures, then of annotated instances.
USUAL = ("label", "category")


@dataclass(frozen=True, slots=True)
class LabelColumns:
    """What can be learned from.

    Attributes:
        columns: of one label an item, with two classes or more.
        sets: of several labels an item, with a class or more. Both empty: nothing can be learned.
        notes: what a user should know of the others, and of items without a label.
    """

    columns: tuple[str, ...]
    sets: tuple[str, ...]
    notes: tuple[str, ...]


def label_columns(items: Items, asked: Sequence[str] = (), folder: Path | None = None) -> LabelColumns:
    """The columns that were named, else the usual one that is there, if they have classes to tell apart.

    Args:
        folder: of class folders that the items came from; for what may have been meant.

    Raises:
        UsageError: a column that was named has no values at all.
    """
    columns = items.table()
    filled = [name for name in columns.column_names if columns[name].null_count < columns.num_rows]
    if unusable := [name for name in asked if name not in filled]:
        raise UsageError(
            f"these items have no values in a column {unusable[0]!r}; --labels can name {', '.join(filled)}"
        )
    chosen = list(asked) or [name for name in USUAL if name in filled][:1]
    if not chosen:
        could = [name for name in filled if name not in CORE.names and _could_be(items.column(name))]
        return LabelColumns((), (), (f"these items have no labels: {_no_labels(could, folder)}",))
    # Items that could not be read teach nothing.
    failed = {item_id for item_id, _ in items.failures}
    sound = [row for row, item_id in enumerate(items.ids) if item_id not in failed]
    kept: list[str] = []
    sets: list[str] = []
    notes: list[str] = []
    for name in chosen:
        column = items.column(name)
        values = [column[row] for row in sound]
        is_sets = holds_sets(items, name)
        classes = _classes(values)
        n_without = sum(value is None for value in values)
        if len(classes) < (1 if is_sets else 2):
            notes.append(_one_class(name, classes, folder))
            continue
        (sets if is_sets else kept).append(name)
        if n_without:
            notes.append(
                f"{n_without:,} of {len(values):,} items have no {name!r}: nothing is learned from them, and no figure is "
                "of them; all else (features, map, likeness, search) has them"
            )
    return LabelColumns(tuple(kept), tuple(sets), tuple(notes))


def _classes(values: Sequence[object]) -> list[str]:
    """Names that occur, in lists too."""
    known = [value for value in values if value is not None]
    return sorted({str(name) for value in known for name in (value if isinstance(value, list) else [value])})


def _one_class(name: str, classes: Sequence[str], folder: Path | None) -> str:
    only = f"only one class, {classes[0]!r}," if classes else "no class at all"
    meant = "" if folder is None else _parent(folder)
    return f"the items that could be read have {only} in their column {name!r}: there is nothing to tell apart{meant}"


def _could_be(values: Sequence[object]) -> bool:
    """Whether a column may hold classes: names, or whole numbers of which many are the same; at least two."""
    there = [value for value in values if value is not None]
    if not all(isinstance(value, str | int) for value in there):
        return False
    n_classes = len(set(there))
    return n_classes > 1 and (isinstance(there[0], str) or n_classes <= len(there) / 2)


def _no_labels(could: Sequence[str], folder: Path | None) -> str:
    """What is wrong with pictures that lie in no class folders, and what may have been meant."""
    if folder is not None:
        expected = f"expected files such as {folder / 'CLASS' / 'NAME.jpg'}"
        return f"there are no class folders below {folder}{_parent(folder) or f'; {expected}'}"
    return (
        f"--labels can name {', '.join(could)}" if could else "there is no other column that may hold classes"
    )


def _parent(folder: Path) -> str:
    """`; did you mean its parent …?` where that holds several folders of pictures, this one among them."""
    here = folder.resolve()
    try:
        beside = [path.name for path in here.parent.iterdir() if _holds_pictures(path)]
    except OSError:
        # Folders that may not be read; then there is nothing to offer.
        return ""
    if here.name in beside and len(beside) > 1 and not all(map(given_part, beside)):
        return f"; did you mean its parent {here.parent}?"
    return ""


def _holds_pictures(folder: Path) -> bool:
    if folder.name.startswith(".") or not folder.is_dir():
        return False
    return any(map(is_picture_file, folder.iterdir()))
