"""Parts for items: at random, by groups, as the data set gives them, or as figures on TACO are published.

Pure functions on columns. A part is `train`, `val`, `test` or None (outside the pool: no label).
Columns whose labels are lists (several labels an item) are split in `label_sets`.
What lives elsewhere: strategies by name, parameters and failed items (`strategies`); how many items a
class gives (`strata`); which group goes where (`grouping`); how much leaks between parts (`leakage`).

Every choice is made by hashes of the seed with an item's id (or a class's or group's name), never
by a random stream: a split depends on neither row order nor library versions, and a few more items
move only few of the old ones. Sizes round up as in scikit-learn (`ceil(n * fraction)` for test and
val; the rest is train). Classes with fewer than `MIN_CLASS` items stay in train whole, and no class
leaves train altogether, except where all its items lie in groups that go elsewhere.

Letters: n items, C classes, G groups.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deponij.pipeline.data.splitting.grouping import assign_groups
from deponij.pipeline.data.splitting.label_sets import are_sets, sets_split
from deponij.pipeline.data.splitting.strata import allocate, seeded_order
from deponij.pipeline.metrics.evaluation import PARTS
from deponij.store.errors import DataError, UsageError
from deponij.store.texts import in_percent

MIN_CLASS = 3
# TACO-56, the pool of published figures on TACO: every instance of a class with at least three.
TACO56_POOL = 4779

Fractions = tuple[float, float, float]
Column = Sequence[object] | NDArray[np.generic]


@dataclass(frozen=True, slots=True)
class Split:
    """Parts by row, and what a reader of the results should know about how they came about.

    Attributes:
        parts: [n] of `train`, `val`, `test` or None.
        notes: full sentences, e.g. which classes were too small to be split.
        folds: [n] fold of each item, from 0, where every item is tested once and its part is `test`; -1 outside the
            pool. None where there are none.
        groups: [n] what belongs together where a strategy finds more than a column says; None outside the pool.
    """

    parts: NDArray[np.object_]
    notes: tuple[str, ...] = ()
    folds: NDArray[np.int64] | None = None
    groups: NDArray[np.object_] | None = None

    @property
    def counts(self) -> dict[str, int]:
        """Items by part, and those outside the pool under `outside`."""
        counted = Counter("outside" if part is None else str(part) for part in self.parts)
        return {name: counted[name] for name in (*PARTS, "outside")}


def random_split(
    labels: Column, fractions: Fractions = (0.8, 0.1, 0.1), seed: int = 0, *, ids: Column | None = None
) -> Split:
    """Draw items at random, class by class.

    Args:
        labels: [n] class of each item; None puts the item outside the pool.
        fractions: shares of train, val and test; they sum to 1 and train's is above 0.
        seed: any whole number.
        ids: [n] unique names of the items; row numbers when absent.

    Raises:
        UsageError: the fractions do not sum to 1.
        DataError: no item has a label.
    """
    check_fractions(fractions)
    if are_sets(labels):
        return _of_sets(None, labels, fractions, seed, ids)
    names = strings(labels)
    pool = pool_of(names)
    sizes = _ceil(len(pool) * fractions[2]), _ceil(len(pool) * fractions[1])
    return _drawn(names, pool, sizes, seed, ids)


def group_split(
    groups: Column,
    labels: Column,
    fractions: Fractions = (0.8, 0.1, 0.1),
    seed: int = 0,
    *,
    ids: Column | None = None,
) -> Split:
    """Keep each group whole, with parts as near as possible to their sizes and class shares.

    Where every group is a single item this is `random_split`.

    Args:
        groups: [n] name of the group (the photograph); None makes the item a group of its own.
        labels, fractions, seed, ids: as for `random_split`.

    Raises:
        UsageError: the fractions do not sum to 1.
        DataError: no labelled item, or fewer groups than parts.
    """
    check_fractions(fractions)
    if are_sets(labels):
        return _of_sets(groups, labels, fractions, seed, ids)
    names, pool_groups = strings(labels), strings(groups)
    pool = pool_of(names)
    ids = strings(range(len(names)) if ids is None else ids)
    members = [_member(pool_groups[row], ids[row]) for row in pool]
    group_names, group_of = np.unique(np.asarray(members, dtype=np.str_), return_inverse=True)  # [G], [pool]
    if len(group_names) == len(pool):
        return random_split(labels, fractions, seed, ids=ids)
    n_parts = sum(fraction > 0 for fraction in fractions)
    if len(group_names) < n_parts:
        raise DataError(
            f"{len(group_names)} group(s) cannot fill {n_parts} parts; group by another column, "
            "use the strategy `random`, or set the fractions of unwanted parts to 0"
        )
    classes, class_of = np.unique(
        np.asarray([names[row] for row in pool], dtype=np.str_), return_inverse=True
    )
    ranks = np.argsort(seeded_order(group_names.tolist(), seed, "group"))  # [G]
    part_of = assign_groups(group_of, class_of, np.asarray(fractions), ranks)  # [G]
    parts = np.full(len(names), None, dtype=object)
    parts[pool] = [PARTS[part] for part in part_of[group_of]]
    notes = [_balance_note(parts[pool], class_of, len(classes), fractions), *_absence_notes(parts, names)]
    return Split(parts, tuple(notes))


def given_split(
    given: Column,
    labels: Column | None = None,
    groups: Column | None = None,
    *,
    val_from_train: float = 0.1,
    seed: int = 0,
    ids: Column | None = None,
) -> Split:
    """The split that the data set brings, so completed that nothing is chosen on the part that results are read from.

    Where it brings no val, `val_from_train` of its training items become val (stratified, groups kept
    whole). Where it brings train and val but no test, as many data sets do, its val is the test part and
    val is made of train; where it brings train alone, both are.

    Args:
        given: [n] of `train`, `val`, `test` or None.
        labels: [n] class of each item; None puts the item outside the pool.
        groups: [n] name of the group of each item; each item by itself when absent.
        val_from_train: share of train, at least 0 and below 1; 0 leaves train as it is.
        seed, ids: as for `random_split`.

    Raises:
        DataError: the data set brings no split, or calls a part by another name.
    """
    parts = np.asarray([None if part is None else str(part) for part in strings(given)], dtype=object)
    present = set(parts.tolist()) - {None}
    if not present:
        raise DataError("this data set brings no split; use the strategy `random` or `group`")
    if unknown := sorted(present - set(PARTS)):
        raise DataError(f"given parts must be {', '.join(PARTS)}; found {', '.join(map(repr, unknown))}")
    labels = ["" for _ in parts] if labels is None else labels
    parts[[row for row, name in enumerate(strings(labels)) if name is None]] = None
    # Many data sets bring their test items without labels.
    present = set(parts.tolist()) - {None}
    notes = [
        f"The data set's own split has no labelled {part} items." for part in PARTS if part not in present
    ]
    if {"train", "val"} <= present and "test" not in present:
        parts[parts == "val"] = "test"
        notes.append("Its val items are the test part here: figures are of them, nothing is chosen on them.")
    train: list[int] = np.flatnonzero(parts == "train").tolist()
    ids = strings(range(len(parts)) if ids is None else ids)
    members = [ids[row] if groups is None else groups[row] for row in train]
    absent = [part for part in ("val", "test") if part not in parts.tolist()]
    if absent and val_from_train > 0 and len(set(members)) > len(absent):
        test_share = val_from_train if "test" in absent else 0.0
        val_share = val_from_train * (1 - test_share)
        carved = group_split(
            members,
            [labels[row] for row in train],
            (1 - val_share - test_share, val_share, test_share),
            seed,
            ids=[ids[row] for row in train],
        )
        parts[train] = carved.parts
        notes += [
            f"{carved.counts[part]:,} of {len(train):,} training items were made {part}." for part in absent
        ]
    return Split(parts, tuple(notes))


def taco56_split(
    taco56: Column, seed: int = 0, *, allow_partial: bool = True, ids: Column | None = None
) -> Split:
    """The protocol of published figures on TACO (docs/taco.md): 3,823 train, 478 val, 478 test, stratified by 56 classes.

    The pool is every instance of a TACO-56 class, and the same items serve both label sets. Where
    photographs are missing the sizes keep their proportions: ceil(n / 10), then a ninth of the rest.

    Args:
        taco56: [n] TACO-56 class of each item, None outside the pool.
        seed, ids: as for `random_split`.
        allow_partial: accept a pool smaller than 4,779 and say so.

    Raises:
        DataError: the pool is empty, too large to be TACO's, or smaller and `allow_partial` is off.
    """
    names = strings(taco56)
    pool = pool_of(names)
    if len(pool) > TACO56_POOL or (len(pool) < TACO56_POOL and not allow_partial):
        raise DataError(
            f"the strategy `taco56` needs TACO's {TACO56_POOL:,} instances of TACO-56 classes; "
            f"found {len(pool):,}. Use `random` or `group` for other data"
            + ("" if len(pool) > TACO56_POOL else ", fetch the missing photographs, or set allow_partial")
        )
    n_test = _ceil(len(pool) / 10)
    split = _drawn(names, pool, (n_test, _ceil((len(pool) - n_test) / 9)), seed, ids)
    if len(pool) == TACO56_POOL:
        return split
    note = (
        f"{len(pool):,} of TACO-56's {TACO56_POOL:,} instances are here; parts are scaled, "
        "and figures are not comparable with published ones."
    )
    return Split(split.parts, (note, *split.notes))


# --- how parts are drawn --------------------------------------------------------------------------


def _drawn(
    names: list[str | None], pool: NDArray[np.intp], sizes: tuple[int, int], seed: int, ids: Column | None
) -> Split:
    """Test first, then val, then the rest, from one order of the items; `sizes` are (test, val)."""
    ids = range(len(names)) if ids is None else ids
    order = pool[seeded_order([str(ids[row]) for row in pool], seed, "item")]  # [pool]
    queues: dict[str, list[int]] = {}
    for row in order.tolist():
        queues.setdefault(str(names[row]), []).append(row)
    small = sorted(name for name, rows in queues.items() if len(rows) < MIN_CLASS)
    parts = np.full(len(names), None, dtype=object)
    parts[pool] = "train"
    for part, n_part in zip(("test", "val"), sizes, strict=True):
        left = {name: len(rows) for name, rows in queues.items()}
        taken = allocate(left, n_part, closed=small, salt=f"{seed}:{part}")
        for name, n_class in taken.items():
            parts[queues[name][:n_class]] = part
            del queues[name][:n_class]
    notes = []
    if small:
        notes.append(f"Too small to be split (fewer than {MIN_CLASS} items), all in train: {listed(small)}.")
    counts = Counter(parts[pool].tolist())
    for part, n_part in zip(("test", "val"), sizes, strict=True):
        if counts[part] < n_part:
            notes.append(f"Classes are too small to give {part} {n_part:,} items; it has {counts[part]:,}.")
    return Split(parts, (*notes, *_absence_notes(parts, names)))


def _of_sets(
    groups: Column | None, labels: Column, fractions: Fractions, seed: int, ids: Column | None
) -> Split:
    """Of items with several labels each."""
    names = strings(range(len(labels)) if ids is None else ids)
    of_rows = [None] * len(names) if groups is None else strings(groups)
    members = [_member(group, name) for group, name in zip(of_rows, names, strict=True)]
    sets: Any = labels
    return Split(*sets_split(members, sets, fractions, seed))


def _member(group: str | None, item_id: str | None) -> str:
    """A prefix keeps an item's own group apart from a group of the same name."""
    return f"id:{item_id}" if group is None else f"group:{group}"


def _ceil(n: float) -> int:
    return math.ceil(n - 1e-9)


def strings(column: Column) -> list[str | None]:
    """Values as strings; None and NaN, the nulls of Arrow and pandas, as None."""
    values = column.tolist() if isinstance(column, np.ndarray) else column
    return [None if value is None or value != value else str(value) for value in values]  # noqa: PLR0124


def pool_of(names: list[str | None]) -> NDArray[np.intp]:
    """Rows of the items that have a label.

    Raises:
        DataError: none has.
    """
    pool = np.asarray([row for row, name in enumerate(names) if name is not None], dtype=np.intp)
    if not len(pool):
        raise DataError(
            f"none of the {len(names):,} items has a label; name another column, or none: `labels: []` in a profile"
        )
    return pool


def check_fractions(fractions: Fractions) -> None:
    """Raise UsageError unless the shares of train, val and test can be taken."""
    if not math.isclose(sum(fractions), 1, abs_tol=1e-6) or min(fractions) < 0 or fractions[0] <= 0:
        raise UsageError(
            "fractions of train, val and test must sum to 1, none below 0 and train's above 0; "
            f"got {fractions}"
        )


def _absence_notes(parts: NDArray[np.object_], names: list[str | None]) -> list[str]:
    """One sentence for each part that is there but lacks classes of the pool."""
    present = {part: {name for name, of in zip(names, parts, strict=True) if of == part} for part in PARTS}
    everything = {name for name in names if name is not None}
    notes = []
    for part in PARTS:
        if present[part] and (absent := everything - present[part]):
            notes.append(f"{len(absent)} of {len(everything)} classes have no {part} item.")
    return notes


def _balance_note(
    parts: NDArray[np.object_], class_of: NDArray[np.intp], n_classes: int, fractions: Fractions
) -> str:
    """How far group parts are from what was asked for: sizes, and half the L1 distance of class shares."""
    whole = np.bincount(class_of, minlength=n_classes) / len(class_of)  # [C]
    said = []
    for part, fraction in zip(PARTS, fractions, strict=True):
        inside = class_of[parts == part]
        if fraction > 0 and len(inside):
            shares = np.bincount(inside, minlength=n_classes) / len(inside)  # [C]
            distance = np.abs(shares - whole).sum() / 2
            said.append(
                f"{part} {in_percent(len(inside) / len(class_of))} (classes {in_percent(distance)} apart)"
            )
    return f"Groups are whole; parts hold {', '.join(said)}."


def listed(names: Sequence[str], most: int = 8) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
