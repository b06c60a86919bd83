"""A part of a data set for a try-out: which items `limit` takes, and what is said of it."""

from collections import deque
from collections.abc import Hashable, Sequence

from deponij.pipeline.data.item import ToAct

Group = Hashable


def first_in_turn(groups: Sequence[Group], limit: int | None) -> list[int]:
    """Positions of the first `limit` items, one of each group in turn; ascending. All of them without a limit.

    Groups are asked in the order in which they come first, each for its first item, then its second, and so on, so that
    a part of a data set that is sorted by class has all classes, and equal data and limits give equal parts.

    Args:
        groups: of each item, such as its part and label.
    """
    if limit is None or limit >= len(groups):
        return list(range(len(groups)))
    waiting: dict[Group, deque[int]] = {}
    for place, group in enumerate(groups):
        one = waiting.setdefault(group, deque())
        if len(one) < limit:
            one.append(place)
    taken: list[int] = []
    while len(taken) < limit:
        for one in list(waiting.values()):
            if one and len(taken) < limit:
                taken.append(one.popleft())
    return sorted(taken)


def told_part(n: int, n_all: int | None, what: str) -> tuple[ToAct, ...]:
    """The note that these are not all; none where they are.

    Args:
        n_all: None where it is not known.
    """
    if n_all is not None and n >= n_all:
        return ()
    of = "" if n_all is None else f" of {n_all:,}"
    return (ToAct(f"only a part, as asked (limit): {n:,}{of} items, {what}"),)
