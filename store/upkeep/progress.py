"""How far a piece of upkeep has come, for whoever wants to see it."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")
# Called with (things done, things in all).
Progress = Callable[[int, int], None]


def told(
    things: Sequence[T], progress: Progress | None, size: Callable[[T], int] = lambda _: 1
) -> Iterator[T]:
    """The things, one by one; `progress` is told before each and after the last."""
    n_done, n_all = 0, sum(map(size, things))
    for thing in things:
        if progress is not None:
            progress(n_done, n_all)
        yield thing
        n_done += size(thing)
    if progress is not None:
        progress(n_all, n_all)
