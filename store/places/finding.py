"""Finding keys in several runs; of several copies of a row the one in the first shard by name counts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from deponij.store.hdf5 import Array
from deponij.store.places.records import KEY, Numbers
from deponij.store.places.runs import Level, joined
from deponij.store.shard import Shard


@dataclass(frozen=True)
class Places:
    """Where the rows of m keys lie.

    Attributes:
        shards: those that hold some of them.
        numbers: of each key's shard in `shards`, -1 where the key is unknown, int64 [m].
        rows: its row there, int64 [m].
        are_certain: whether they were read from the sidecars by this process.
    """

    shards: list[Shard]
    numbers: Numbers
    rows: Numbers
    are_certain: bool = True


@dataclass(frozen=True)
class Found:
    """Where keys were found: the run (-1 where the key is unknown), the shard's number in it and the row, int64 [m]."""

    levels: Numbers
    shards: Numbers
    rows: Numbers


def find(levels: Sequence[Level], wanted: Array) -> Found:
    """Look keys up.

    Args:
        wanted: KEY [m], in any order, repeats allowed.
    """
    order = np.argsort(wanted["head"])
    ordered = wanted[order]
    which, numbers, places = [], [], []
    for number, level in enumerate(levels):
        ordered_at, found = level.counting(*level.run.find(ordered))
        which.append(order[ordered_at])
        numbers.append(np.full(len(found), number))
        places.append(found)
    nowhere = np.full(len(wanted), -1, np.int64)
    result = Found(nowhere, nowhere.copy(), nowhere.copy())
    if places:
        of, in_levels, in_runs = np.concatenate(which), np.concatenate(numbers), np.concatenate(places)
        chosen = _first_by_name(levels, of, in_levels, in_runs, len(wanted))
        of = of[chosen]
        result.levels[of] = in_levels[chosen]
        result.shards[of], result.rows[of] = in_runs["shard"][chosen], in_runs["row"][chosen]
    return result


def _first_by_name(levels: Sequence[Level], of: Numbers, number: Numbers, place: Array, m: int) -> Numbers:
    """Positions of one copy of each key that was found."""
    several = np.flatnonzero(np.bincount(of, minlength=m)[of] > 1)
    if not len(several):
        return np.arange(len(of))
    names = np.empty(len(several), object)
    for level in np.unique(number[several]).tolist():
        here = number[several] == level
        names[here] = levels[level].run.names[place["shard"][several[here]]]
    ranked = several[
        np.lexsort([place["row"][several], np.unique(names, return_inverse=True)[1], of[several]])
    ]
    is_first = np.ones(len(ranked), bool)
    is_first[1:] = of[ranked[1:]] != of[ranked[:-1]]
    alone = np.ones(len(of), bool)
    alone[several] = False
    return np.concatenate([np.flatnonzero(alone), ranked[is_first]])


def placed(levels: Sequence[Level], found: Found) -> Places:
    """The same with the shards themselves."""
    shards: list[Shard] = []
    numbers = np.full(len(found.levels), -1, np.int64)
    for number, level in enumerate(levels):
        here = found.levels == number
        if here.any():
            distinct, of = np.unique(found.shards[here], return_inverse=True)
            numbers[here] = len(shards) + of
            shards += level.run.shards(distinct.tolist())
    return Places(shards, numbers, found.rows)


def distinct_keys(levels: Sequence[Level]) -> Iterator[Array]:
    """All keys that have a row, sorted, each once, in pieces: KEY [any]."""
    last = None
    for piece in joined(levels)[1]:
        keys = np.empty(len(piece), KEY)
        for name in KEY.names or ():
            keys[name] = piece[name]
        is_new = np.ones(len(keys), bool)
        is_new[1:] = keys[1:] != keys[:-1]
        is_new[0] = last is None or keys[0] != last
        last = keys[-1]
        yield keys[is_new]
