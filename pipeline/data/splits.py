"""Who learns, who chooses and who is tested: the strategies that part items into train, val and test.

Pure functions on columns. A part is `train`, `val`, `test` or None (outside the pool: no label, a
recorded failure). What lives elsewhere: reading items and writing the split file
(`stages.split`); how much leaks between parts (`pipeline.data.leakage`).

Every choice is made by hashes of the seed with an item's id (or a class's or group's name), never
by a random stream: a split depends on neither row order nor library versions, and a few more items
move only few of the old ones. Sizes round up as in scikit-learn (`ceil(n * fraction)` for test,
then val; the rest is train).

Strata. Each class gives a part its share of the class, remainders going to the classes with the
largest ones: the allocation of scikit-learn's `StratifiedShuffleSplit`, which itself cannot be used
because it refuses classes of one member and parts with fewer places than there are classes. Classes
with fewer than `MIN_CLASS` items stay in train whole, and no class leaves train altogether.

Letters: n items, C classes, G groups, P = 3 parts in the order of `PARTS`.
"""

import difflib
import hashlib
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, field_validator

from pipeline.data.grouping import assign_groups
from store.errors import DataError, UsageError

PARTS = ("train", "val", "test")
MIN_CLASS = 3
# The column that stratifies where none is named: image folders and parquet, then COCO files.
DEFAULT_LABELS = ("label", "category")

# The thesis on TACO: the pool of TACO-56, of which test is drawn first, then validation.
THESIS_COLUMN = "taco56"
THESIS_POOL = 4779

Fractions = tuple[float, float, float]
Column = Sequence[object] | NDArray[np.generic]
Share = Annotated[float, Field(ge=0, le=1)]


class SplitParams(BaseModel):
    """How to split.

    Attributes:
        strategy: a name from `strategies()`.
        labels: column with the classes; null: `label` or `category`, whichever is there.
        group_by: column whose groups stay together (`group`, and val carved from train by `given`).
        fractions: shares of train, val and test (`random`, `group`).
        seed: any whole number.
        val_from_train: share of the training items that becomes val where a given split brings no
            val, so that nothing is ever chosen on test (`given`).
        allow_partial: let `thesis` run on what is left of the 4,779 where photographs are missing.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    strategy: str = "random"
    labels: str | None = None
    group_by: str = "image_id"
    fractions: tuple[Share, Share, Share] = (0.8, 0.1, 0.1)
    seed: int = 0
    val_from_train: Annotated[float, Field(ge=0, lt=1)] = 0.1
    allow_partial: bool = True

    @field_validator("strategy")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in _STRATEGIES:
            raise ValueError(_unknown(name))
        return name

    @field_validator("fractions")
    @classmethod
    def _whole(cls, fractions: Fractions) -> Fractions:
        _check_fractions(fractions)
        return fractions


@dataclass(frozen=True, slots=True)
class Split:
    """Parts by row, and what a reader of the results should know about how they came about.

    Attributes:
        parts: [n] of `train`, `val`, `test` or None.
        notes: full sentences, e.g. which classes were too small to be split.
    """

    parts: NDArray[np.object_]
    notes: tuple[str, ...] = ()

    @property
    def counts(self) -> dict[str, int]:
        """Items by part, and those outside the pool under `outside`."""
        found = Counter("outside" if part is None else str(part) for part in self.parts)
        return {name: found[name] for name in (*PARTS, "outside")}


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
    _check_fractions(fractions)
    names = _strings(labels)
    pool = _pool(names)
    n_test, n_val = _ceil(len(pool) * fractions[2]), _ceil(len(pool) * fractions[1])
    return _drawn(names, pool, n_val, n_test, seed, ids)


def group_split(
    groups: Column, labels: Column, fractions: Fractions = (0.8, 0.1, 0.1), seed: int = 0, *, ids: Column | None = None
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
    _check_fractions(fractions)
    names, pool_groups = _strings(labels), _strings(groups)
    pool = _pool(names)
    ids = _strings(range(len(names)) if ids is None else ids)
    # A prefix keeps an item's own group apart from a group of the same name.
    members = [f"id:{ids[row]}" if pool_groups[row] is None else f"group:{pool_groups[row]}" for row in pool]
    group_names, group_of = np.unique(np.asarray(members, dtype=np.str_), return_inverse=True)  # [G], [pool]
    if len(group_names) == len(pool):
        return random_split(labels, fractions, seed, ids=ids)
    n_parts = sum(fraction > 0 for fraction in fractions)
    if len(group_names) < n_parts:
        raise DataError(
            f"{len(group_names)} group(s) cannot fill {n_parts} parts; group by another column, "
            "use the strategy `random`, or set the fractions of unwanted parts to 0"
        )
    classes, class_of = np.unique(np.asarray([names[row] for row in pool], dtype=np.str_), return_inverse=True)
    ranks = np.argsort(_order(group_names.tolist(), seed, "group"))  # [G]
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
    """The split that the data set brings.

    Where it brings no val, `val_from_train` of its training items become val (stratified, groups
    kept whole), so that nothing is ever chosen on test; 0 leaves train as it is.

    Args:
        given: [n] of `train`, `val`, `test` or None.
        labels: [n] class of each item; None puts the item outside the pool.
        groups: [n] name of the group of each item; each item by itself when absent.
        val_from_train: share of train, at least 0 and below 1.
        seed, ids: as for `random_split`.

    Raises:
        DataError: the data set brings no split, or calls a part by another name.
    """
    parts = np.asarray([None if part is None else str(part) for part in _strings(given)], dtype=object)
    found = set(parts.tolist()) - {None}
    if not found:
        raise DataError("this data set brings no split; use the strategy `random` or `group`")
    if unknown := sorted(found - set(PARTS)):
        raise DataError(f"given parts must be {', '.join(PARTS)}; found {', '.join(map(repr, unknown))}")
    names = _strings(["" for _ in parts] if labels is None else labels)
    parts[[row for row, name in enumerate(names) if name is None]] = None
    notes = [f"The data set's own split has no {part} items." for part in PARTS if part not in found]
    train = np.flatnonzero(parts == "train")
    if "val" not in found and val_from_train > 0 and len(train) > 1:
        ids = _strings(range(len(parts)) if ids is None else ids)
        carved = group_split(
            [ids[row] if groups is None else groups[row] for row in train],
            [names[row] for row in train],
            (1 - val_from_train, val_from_train, 0.0),
            seed,
            ids=[ids[row] for row in train],
        )
        parts[train] = carved.parts
        notes.append(f"{carved.counts['val']:,} of the {len(train):,} training items were made val.")
    return Split(parts, tuple(notes))


def thesis_split(
    taco56: Column, seed: int = 0, *, allow_partial: bool = True, ids: Column | None = None
) -> Split:
    """The protocol of the thesis on TACO: 478 test, then 478 val, 3,823 train, stratified by 56 classes.

    The pool is every instance of a TACO-56 class, and the same items serve both label sets. Where
    photographs are missing the sizes keep their proportions: ceil(n / 10), then a ninth of the rest.

    Args:
        taco56: [n] TACO-56 class of each item, None outside the pool.
        seed, ids: as for `random_split`.
        allow_partial: accept a pool smaller than 4,779 and say so.

    Raises:
        DataError: the pool is empty, too large to be TACO's, or smaller and `allow_partial` is off.
    """
    names = _strings(taco56)
    pool = _pool(names)
    if len(pool) > THESIS_POOL or (len(pool) < THESIS_POOL and not allow_partial):
        raise DataError(
            f"the strategy `thesis` needs TACO's {THESIS_POOL:,} instances of TACO-56 classes; found {len(pool):,}. "
            "Use `random` or `group` for other data"
            + ("" if len(pool) > THESIS_POOL else ", fetch the missing photographs, or set allow_partial")
        )
    n_test = _ceil(len(pool) / 10)
    split = _drawn(names, pool, _ceil((len(pool) - n_test) / 9), n_test, seed, ids)
    if len(pool) == THESIS_POOL:
        return split
    missing = f"{len(pool):,} of the thesis's {THESIS_POOL:,} instances are here: figures are not comparable with it."
    return Split(split.parts, (missing, *split.notes))


# --- the registry ---------------------------------------------------------------------------------

Strategy = Callable[[Mapping[str, Column], SplitParams], Split]
_STRATEGIES: dict[str, Strategy] = {}


def register(name: str) -> Callable[[Strategy], Strategy]:
    """Make a strategy known under a name; a name that is taken is a programming error."""

    def add(strategy: Strategy) -> Strategy:
        if name in _STRATEGIES:
            raise ValueError(f"split strategy {name!r} is registered twice")
        _STRATEGIES[name] = strategy
        return strategy

    return add


def strategies() -> list[str]:
    """Names that `SplitParams.strategy` accepts."""
    return sorted(_STRATEGIES)


def make_split(columns: Mapping[str, Column], params: SplitParams) -> Split:
    """Split items by the strategy that the parameters name.

    Args:
        columns: item columns by name, each [n]; `item_id` is needed, and what the strategy reads
            (labels, `group_by`, `given`). Items with a `failure` are left outside the pool.
        params: see `SplitParams`.

    Raises:
        UsageError: a column that the parameters name is not there.
        DataError: what the strategy itself refuses.
    """
    failures = columns.get("failure")
    n = len(_column(columns, "item_id"))
    sound = np.asarray([failures is None or failures[row] is None for row in range(n)], dtype=bool)
    rows = np.flatnonzero(sound)
    kept = {name: [values[row] for row in rows] for name, values in columns.items()}
    split = _STRATEGIES[params.strategy](kept, params)
    parts = np.full(n, None, dtype=object)
    parts[rows] = split.parts
    failed = () if len(rows) == n else (f"{n - len(rows):,} items could not be read and belong to no part.",)
    return Split(parts, (*split.notes, *failed))


@register("random")
def _random(columns: Mapping[str, Column], params: SplitParams) -> Split:
    return random_split(_labels(columns, params), params.fractions, params.seed, ids=columns["item_id"])


@register("group")
def _group(columns: Mapping[str, Column], params: SplitParams) -> Split:
    groups = _column(columns, params.group_by)
    return group_split(groups, _labels(columns, params), params.fractions, params.seed, ids=columns["item_id"])


@register("given")
def _given(columns: Mapping[str, Column], params: SplitParams) -> Split:
    return given_split(
        _column(columns, "given"),
        _labels(columns, params),
        _column(columns, params.group_by),
        val_from_train=params.val_from_train,
        seed=params.seed,
        ids=columns["item_id"],
    )


@register("thesis")
def _thesis(columns: Mapping[str, Column], params: SplitParams) -> Split:
    if THESIS_COLUMN not in columns:
        raise DataError(
            f"the strategy `thesis` is for TACO only: these items have no column {THESIS_COLUMN!r}. "
            "Use `random`, `group` or `given`"
        )
    ids = columns["item_id"]
    return thesis_split(columns[THESIS_COLUMN], params.seed, allow_partial=params.allow_partial, ids=ids)


# --- how parts are drawn --------------------------------------------------------------------------


def _drawn(
    names: list[str | None], pool: NDArray[np.int64], n_val: int, n_test: int, seed: int, ids: Column | None
) -> Split:
    """Test first, then val, then the rest, from one order of the items."""
    ids = range(len(names)) if ids is None else ids
    order = pool[_order([str(ids[row]) for row in pool], seed, "item")]  # [pool]
    queues: dict[str, list[int]] = {}
    for row in order.tolist():
        queues.setdefault(str(names[row]), []).append(row)
    small = sorted(name for name, rows in queues.items() if len(rows) < MIN_CLASS)
    parts = np.full(len(names), None, dtype=object)
    parts[pool] = "train"
    n_left = len(pool)
    for part, n_part in (("test", n_test), ("val", n_val)):
        taken = _allocate({name: len(rows) for name, rows in queues.items()}, n_part, set(small), f"{seed}:{part}")
        for name, n_class in taken.items():
            parts[queues[name][:n_class]] = part
            del queues[name][:n_class]
        n_left -= sum(taken.values())
    notes = [f"Too small to be split (fewer than {MIN_CLASS} items), all in train: {_listed(small)}."] if small else []
    counts = Counter(parts[pool].tolist())
    for part, n_part in (("test", n_test), ("val", n_val)):
        if counts[part] < n_part:
            notes.append(f"Classes are too small to give {part} its {n_part:,} items; it has {counts[part]:,}.")
    return Split(parts, (*notes, *_absence_notes(parts, names)))


def _allocate(counts: dict[str, int], n_draw: int, closed: set[str], salt: str) -> dict[str, int]:
    """How many each class gives: its share rounded down, then one more by largest remainder.

    A class gives at most all but one of its items, `closed` classes none; what they do not give,
    others do.
    """
    limits = {name: 0 if name in closed else max(0, count - 1) for name, count in counts.items()}
    total = sum(counts.values())
    shares = {name: n_draw * count / total for name, count in counts.items()}
    taken = {name: min(limits[name], math.floor(share + 1e-9)) for name, share in shares.items()}
    ties = {name: _digest(salt, "class", name) for name in counts}
    while (n_missing := min(n_draw, sum(limits.values())) - sum(taken.values())) > 0:
        free = [name for name in counts if taken[name] < limits[name]]
        free.sort(key=lambda name: (round(taken[name] - shares[name], 9), ties[name]))
        for name in free[:n_missing]:
            taken[name] += 1
    return taken


def _order(names: Sequence[str], seed: int, kind: str) -> NDArray[np.int64]:
    """Positions of the names in a seeded order that depends on nothing but seed and names."""
    digests = np.asarray([_digest(str(seed), kind, name) for name in names])
    return np.argsort(digests, kind="stable")


def _digest(*fields: str) -> str:
    return hashlib.blake2b("\0".join(fields).encode(), digest_size=16).hexdigest()


def _ceil(n: float) -> int:
    return math.ceil(n - 1e-9)


def _strings(column: Column) -> list[str | None]:
    """Values as strings; None and NaN, the nulls of Arrow and pandas, as None."""
    values = column.tolist() if isinstance(column, np.ndarray) else column
    return [None if value is None or value != value else str(value) for value in values]  # noqa: PLR0124


def _pool(names: list[str | None]) -> NDArray[np.int64]:
    pool = np.asarray([row for row, name in enumerate(names) if name is not None], dtype=np.int64)
    if not len(pool):
        raise DataError(f"none of the {len(names):,} items has a label; name another column of labels")
    return pool


def _column(columns: Mapping[str, Column], name: str) -> Column:
    if name not in columns:
        raise UsageError(f"the items have no column {name!r}; they have {', '.join(sorted(columns))}")
    return columns[name]


def _labels(columns: Mapping[str, Column], params: SplitParams) -> Column:
    if params.labels is not None:
        return _column(columns, params.labels)
    for name in DEFAULT_LABELS:
        if name in columns:
            return columns[name]
    return ["" for _ in columns["item_id"]]


def _check_fractions(fractions: Fractions) -> None:
    if not math.isclose(sum(fractions), 1, abs_tol=1e-6) or min(fractions) < 0 or fractions[0] <= 0:
        raise UsageError(f"fractions of train, val and test must be shares that sum to 1, train's above 0; got {fractions}")


def _unknown(name: str) -> str:
    nearest = difflib.get_close_matches(name, _STRATEGIES, n=1)
    hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
    return f"no split strategy {name!r}; there are {', '.join(strategies())}.{hint}"


def _absence_notes(parts: NDArray[np.object_], names: list[str | None]) -> list[str]:
    """One sentence for each of val and test that is there but lacks classes of the pool."""
    present = {part: {name for name, of in zip(names, parts, strict=True) if of == part} for part in PARTS}
    everything = {name for name in names if name is not None}
    notes = []
    for part in ("val", "test"):
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
            said.append(f"{part} {len(inside) / len(class_of):.2%} (classes {distance:.1%} apart)")
    return f"Groups are whole; parts hold {', '.join(said)}."


def _listed(names: Sequence[str], most: int = 8) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
