"""Split strategies by name, their parameters, and the way from item columns to parts.

What lives elsewhere: what each strategy does (`deponij.pipeline.data.splitting.partition`); reading items and writing
the split file (`deponij.stages.split`); how much leaks between parts (`deponij.pipeline.data.splitting.leakage`).
"""

from collections.abc import Callable, Mapping
from typing import Annotated

import numpy as np
from pydantic import Field, field_validator

from deponij.pipeline.data.splitting.folds import N_FOLDS, fold_split
from deponij.pipeline.data.splitting.partition import (
    Column,
    Split,
    check_fractions,
    given_split,
    group_split,
    random_split,
    thesis_split,
)
from deponij.pipeline.metrics.evaluation import FEWEST_FOLDS
from deponij.pipeline.record_lists import Record
from deponij.pipeline.registry import Registry
from deponij.store.errors import DataError, UsageError

# The column that stratifies where none is named: image folders and parquet, then COCO files.
DEFAULT_LABELS = ("label", "category")
THESIS_COLUMN = "taco56"

Share = Annotated[float, Field(ge=0, le=1)]


class SplitParams(Record):
    """How to split.

    Attributes:
        strategy: a name from `strategies()`.
        labels: column with the classes; null: `label` or `category`, whichever is there.
        group_by: column whose groups stay together (`group`, and what `given` makes of train); intervals of results
            take whole groups of it, whatever the strategy.
        fractions: shares of train, val and test (`random`, `group`).
        n_folds: how many folds; each tests once, while the next one validates (`folds`).
        seed: any whole number.
        val_from_train: share of the training items that becomes val where a given split leaves none to
            choose on, so that nothing is ever chosen on test (`given`); 0 for none.
        allow_partial: let `thesis` run on what is left of the 4,779 where photographs are missing.
    """

    strategy: str = "random"
    labels: str | None = None
    group_by: str = "image_id"
    fractions: tuple[Share, Share, Share] = (0.8, 0.1, 0.1)
    n_folds: Annotated[int, Field(ge=FEWEST_FOLDS, le=100)] = N_FOLDS
    seed: int = 0
    val_from_train: Annotated[float, Field(ge=0, lt=1)] = 0.1
    allow_partial: bool = True

    @field_validator("strategy")
    @classmethod
    def _known(cls, name: str) -> str:
        try:
            _STRATEGIES[name]
        except UsageError as error:  # pydantic collects nothing but ValueError
            raise ValueError(str(error)) from error
        return name

    @field_validator("fractions")
    @classmethod
    def _whole(cls, fractions: tuple[float, float, float]) -> tuple[float, float, float]:
        try:
            check_fractions(fractions)
        except UsageError as error:
            raise ValueError(str(error)) from error
        return fractions


Strategy = Callable[[Mapping[str, Column], SplitParams], Split]
_STRATEGIES: Registry[Strategy] = Registry("split strategy")
register = _STRATEGIES.register


def strategies() -> list[str]:
    """Names that `SplitParams.strategy` accepts."""
    return list(_STRATEGIES.entries())


def make_split(columns: Mapping[str, Column], params: SplitParams) -> Split:
    """Split items by the strategy that the parameters name.

    Args:
        columns: item columns by name, each [n]; `item_id` is needed, and what the strategy reads
            (labels, `group_by`, `given`). Items with a `failure` are left outside the pool.
        params: see `SplitParams`.

    Raises:
        UsageError: a column that the parameters name is not there.
        DataError: no item could be read, or what the strategy itself refuses.
    """
    failures = columns.get("failure")
    n = len(_column(columns, "item_id"))
    sound = np.asarray([failures is None or failures[row] is None for row in range(n)], dtype=bool)
    rows: list[int] = np.flatnonzero(sound).tolist()
    if n and not rows:
        raise DataError(f"none of the {n:,} items could be read; the column `failure` says why")
    kept = {name: [values[row] for row in rows] for name, values in columns.items()}
    split = _STRATEGIES[params.strategy](kept, params)
    parts = np.full(n, None, dtype=object)
    parts[rows] = split.parts
    notes = list(split.notes)
    folds = groups = None
    if split.folds is not None and split.groups is not None:
        folds, groups = np.full(n, -1, dtype=np.int64), np.full(n, None, dtype=object)
        folds[rows], groups[rows] = split.folds, split.groups
    if split.counts["test"] == 0:
        notes.append("There is no test part: figures will be of items that were chosen by or learned from.")
    if len(rows) < n:
        notes.append(f"{n - len(rows):,} items could not be read and belong to no part.")
    return Split(parts, tuple(notes), folds, groups)


@register("random")
def _random(columns: Mapping[str, Column], params: SplitParams) -> Split:
    return random_split(_labels(columns, params), params.fractions, params.seed, ids=columns["item_id"])


@register("group")
def _group(columns: Mapping[str, Column], params: SplitParams) -> Split:
    groups = _column(columns, params.group_by)
    return group_split(
        groups, _labels(columns, params), params.fractions, params.seed, ids=columns["item_id"]
    )


@register("folds")
def _folds(columns: Mapping[str, Column], params: SplitParams) -> Split:
    return fold_split(
        _column(columns, params.group_by),
        _labels(columns, params),
        _column(columns, "phash"),
        columns.get("key"),
        params.n_folds,
        params.seed,
        ids=columns["item_id"],
    )


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
