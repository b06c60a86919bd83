"""A part of a data set for a try-out: which items `limit` takes, and what is said of it."""

import heapq
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence

from deponij.pipeline.data.item import OnlyPart


def first_in_turn(groups: Sequence[tuple[Hashable, Hashable]], limit: int | None) -> list[int]:
    """Positions of `limit` items, of each class in turn, and for each class of each part; ascending. Without a limit all.

    Classes and parts are asked in the order in which they come first, for their first item, then their second, and so on:
    a part of a data set that is sorted has all classes and parts, and equal data and limits give equal parts.

    Args:
        groups: part and class of each item; where there is but one of either, anything that is always the same.
    """
    if limit is None or limit >= len(groups):
        return list(range(len(groups)))
    ranked = zip(
        _turns(groups), _ranks(label for _, label in groups), _ranks(part for part, _ in groups), strict=True
    )
    places = ((*of_item, place) for place, of_item in enumerate(ranked))
    return sorted(place for *_, place in heapq.nsmallest(limit, places))


def _turns(groups: Iterable[Hashable]) -> Iterator[int]:
    """How many of its group came before each item."""
    before = Counter[Hashable]()
    for one in groups:
        yield before[one]
        before[one] += 1


def _ranks(values: Iterable[Hashable]) -> Iterator[int]:
    """How many other values came before each one's first."""
    ranks: dict[Hashable, int] = {}
    for one in values:
        yield ranks.setdefault(one, len(ranks))


def told_part(n: int, n_all: int | None, what: str) -> tuple[OnlyPart, ...]:
    """The note that these are not all; none where they are.

    Args:
        n_all: None where it is not known.
    """
    if n_all is not None and n >= n_all:
        return ()
    of = "" if n_all is None else f" of {n_all:,}"
    return (OnlyPart(f"only a part, as asked (limit): {n:,}{of} items, {what}"),)


def part_told(notes: Iterable[str]) -> str | None:
    """The note among those of a data set that it is not taken as a whole; None where it is."""
    return next((str(one) for one in notes if isinstance(one, OnlyPart)), None)
