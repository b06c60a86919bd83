"""A run: some shards of one identity and the places of all their keys, sorted; here in memory.

A run never changes. Which of its shards still count is said beside it (`Level`), and runs are made into larger ones
as log-structured merge trees do it: one that is not several times as large as all smaller ones is merged with them,
so that there are few of them however many shards came one by one, and a row is rewritten few times.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt

from deponij.store.hdf5 import Array
from deponij.store.places.records import NO_SHARD, Numbers, matches, merged, places_of
from deponij.store.shard import Shard

Names = npt.NDArray[np.str_]
Mask = npt.NDArray[np.bool_]
# A run stays by itself while it has so many times the rows of all smaller ones together.
RATIO = 4
# More than this share of a run's rows in shards that are gone makes it worth writing anew.
_MOST_GONE = 0.25
PIECE_ROWS = 1 << 18


class Run(Protocol):
    """Sorted places and their shards.

    Attributes:
        n_rows: of all its shards.
        n_shards: its shards' numbers are 0 … n_shards - 1.
    """

    n_rows: int
    n_shards: int

    @property
    def names(self) -> Names:
        """The shards' names by number [n_shards]."""

    @property
    def shard_rows(self) -> Numbers:
        """The shards' numbers of rows by number, int64 [n_shards]."""

    def shards(self, numbers: Sequence[int]) -> list[Shard]:
        """Shards by number."""

    def find(self, wanted: Array) -> tuple[Numbers, Array]:
        """All places of keys: positions in `wanted` [pairs] and PLACE [pairs].

        Args:
            wanted: KEY [m], sorted by head.
        """

    def pieces(self) -> Iterator[Array]:
        """All places in order, in pieces of some PIECE_ROWS."""


class MemoryRun:
    """A run in memory.

    Args:
        shards: of one identity.
        places: sorted PLACE [n], with shards' numbers of this order.
    """

    def __init__(self, shards: Sequence[Shard], places: Array) -> None:
        self._shards = tuple(shards)
        self._places = places
        self._heads = np.ascontiguousarray(places["head"])
        self.n_rows = len(places)
        self.n_shards = len(shards)

    @classmethod
    def of(cls, shards: Sequence[Shard], keys: Sequence[bytes]) -> "MemoryRun":
        """A run of shards, with the keys of each (20 bytes a key)."""
        return cls(shards, places_of(keys))

    @cached_property
    def names(self) -> Names:
        """See `Run`."""
        return np.array([shard.name for shard in self._shards], np.str_)

    @cached_property
    def shard_rows(self) -> Numbers:
        """See `Run`."""
        return np.array([shard.n_rows for shard in self._shards], np.int64)

    def shards(self, numbers: Sequence[int]) -> list[Shard]:
        """See `Run`."""
        return [self._shards[number] for number in numbers]

    def find(self, wanted: Array) -> tuple[Numbers, Array]:
        """See `Run`."""
        return matches(self._heads, self._places.reshape(1, -1), wanted)

    def pieces(self) -> Iterator[Array]:
        """See `Run`."""
        for start in range(0, self.n_rows, PIECE_ROWS):
            yield self._places[start : start + PIECE_ROWS]


@dataclass(frozen=True)
class Level:
    """A run, and which of its shards count.

    Attributes:
        alive: by number [n_shards]; None where all do.
    """

    run: Run
    alive: Mask | None = None

    @property
    def n_rows(self) -> int:
        """Of the shards that count."""
        return self.run.n_rows if self.alive is None else int(self.run.shard_rows[self.alive].sum())

    @property
    def n_shards(self) -> int:
        """How many count."""
        return self.run.n_shards if self.alive is None else int(self.alive.sum())

    @property
    def is_thin(self) -> bool:
        """Whether so much of it is gone that it is worth writing anew."""
        return self.alive is not None and self.n_rows < (1 - _MOST_GONE) * self.run.n_rows

    @property
    def numbers(self) -> Numbers:
        """Of the shards that count, ascending."""
        return np.arange(self.run.n_shards) if self.alive is None else np.flatnonzero(self.alive)

    @property
    def names(self) -> Names:
        """Of the shards that count, by number."""
        return self.run.names if self.alive is None else self.run.names[self.alive]

    def without(self, gone: Names) -> "Level":
        """The same without some shards; names of others are passed over."""
        if not len(gone):
            return self
        named = np.isin(self.run.names, gone)
        if not named.any():
            return self
        return replace(self, alive=~named if self.alive is None else self.alive & ~named)

    def counting(self, which: Numbers, places: Array) -> tuple[Numbers, Array]:
        """Those of found places whose shards count."""
        counts = places["shard"] != NO_SHARD
        if self.alive is not None:
            counts &= self.alive[np.where(counts, places["shard"], 0)]
        return (which, places) if counts.all() else (which[counts], places[counts])


def joined(levels: Sequence[Level]) -> tuple[list[Shard], Iterator[Array]]:
    """What counts of several runs as one: its shards, and its places in order.

    Their shards are numbered in the order of the runs.
    """
    shards: list[Shard] = []
    sources = []
    for level in levels:
        numbers = level.numbers
        renumbered = np.full(level.run.n_shards, NO_SHARD, np.uint32)
        renumbered[numbers] = np.arange(len(shards), len(shards) + len(numbers))
        shards += level.run.shards(numbers.tolist())
        sources.append(_renumbered(level, renumbered))
    return shards, merged(sources)


def _renumbered(level: Level, numbers: npt.NDArray[np.uint32]) -> Iterator[Array]:
    for piece in level.run.pieces():
        _, kept = level.counting(np.empty(len(piece), np.int64), piece)
        if len(kept):
            kept = kept.copy()
            kept["shard"] = numbers[kept["shard"]]
            yield kept


def to_merge(levels: Sequence[Level], always: Sequence[int] = ()) -> list[int]:
    """Which of the runs should become one, by position; empty where all are well as they are.

    Args:
        always: these go into it in any case.
    """
    chosen = {*always, *(position for position, level in enumerate(levels) if level.is_thin)}
    n_smaller = sum(levels[position].n_rows for position in chosen)
    passed: list[int] = []
    for position in sorted(range(len(levels)), key=lambda position: levels[position].n_rows):
        if position in chosen:
            continue
        passed.append(position)
        if levels[position].n_rows < RATIO * n_smaller:
            chosen.update(passed)
        n_smaller += levels[position].n_rows
    return sorted(chosen)


def in_memory(levels: Sequence[Level]) -> list[Level]:
    """Runs in memory, few of them."""
    chosen = to_merge(levels)
    if not chosen:
        return list(levels)
    shards, pieces = joined([levels[position] for position in chosen])
    found = list(pieces)
    kept = [level for position, level in enumerate(levels) if position not in chosen]
    return [*kept, Level(MemoryRun(shards, np.concatenate(found)))] if found else kept
