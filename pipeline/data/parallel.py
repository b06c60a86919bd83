"""A bounded, ordered map over threads: pictures are decoded ahead of whoever consumes them.

Pillow and hashlib let go of the interpreter lock while they work, so threads are enough. Where a machine is not, whoever
asks for the map hands a `Mapper` down in place of a number of threads.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

# Chunks that are being worked on or wait for the consumer, per worker; more would only cost memory.
AHEAD_PER_WORKER = 3
# No further chunk is begun while those hold so much, and none grows past so much, where inputs say their size.
AHEAD_BYTES = 256 << 20
CHUNK_BYTES = 8 << 20

In = TypeVar("In")
Out = TypeVar("Out")


class Mapper(Protocol):
    """A bounded map in the order of the inputs, on other processes: functions and inputs are pickled.

    Inputs are dataclasses with a `problem`, and one that has a problem is not looked at.
    """

    def __call__(self, each: "Each[In, Out]", chunks: Iterable[list[In]], /) -> Iterator[list[Out]]:
        """As `map`; an input that no process survives is `each.failed`."""
        ...


# Threads that read and decode ahead of the consumer (0 for none), or what does so elsewhere.
Workers: TypeAlias = int | Mapper
# Chunks are this much longer elsewhere, where a hand-over costs a millisecond.
_CHUNKS_ELSEWHERE = 4


def ordered_map(
    function: Callable[[In], Out],
    inputs: Iterable[In],
    workers: Workers,
    *,
    chunk: int = 1,
    size_of: Callable[[In], int] | None = None,
    abandon: Callable[[], None] | None = None,
) -> Iterator[Out]:
    """`map` in the order of the inputs, with `workers` threads that run a bounded way ahead.

    With `workers` of 0 it runs in the calling thread. An exception of `function` is raised when its
    turn comes; what was not started by then is not started.

    Args:
        chunk: inputs that a thread takes at once; more than 1 pays off where one takes well under a
            millisecond. At most `AHEAD_PER_WORKER * workers * chunk` results are held.
        size_of: bytes that an input, or its result, holds in memory: of large ones fewer are taken and held.
        abandon: called when no more results are wanted, before calls that run in threads are waited for.
    """
    if not isinstance(workers, int):
        chunks = _chunks(inputs, chunk * _CHUNKS_ELSEWHERE, size_of)
        for results in workers(Each(function), (values for values, _ in chunks)):
            yield from results
        return
    if workers <= 0:
        yield from map(function, inputs)
        return
    each, chunks = Each(function), _chunks(inputs, chunk, size_of)
    with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
        pending: deque[tuple[Future[list[Out]], int]] = deque()

        def go_ahead() -> None:
            while (
                len(pending) < AHEAD_PER_WORKER * workers and sum(held for _, held in pending) < AHEAD_BYTES
            ):
                values, n_bytes = next(chunks, ([], 0))
                if not values:
                    return
                pending.append((pool.submit(each, values), n_bytes))

        try:
            go_ahead()
            while pending:
                results = pending.popleft()[0].result()
                go_ahead()
                yield from results
        finally:
            if abandon is not None:
                abandon()
            for future, _ in pending:
                future.cancel()


@dataclass(frozen=True)
class Each(Generic[In, Out]):
    """A function of an input, for a chunk of them."""

    function: Callable[[In], Out]

    def __call__(self, values: list[In]) -> list[Out]:
        return [self.function(value) for value in values]

    def failed(self, value: In, problem: str) -> Out:
        """What comes of an input that is not looked at, for this reason."""
        named: Any = value  # of some dataclass
        return self.function(replace(named, problem=problem))


def _chunks(
    inputs: Iterable[In], size: int, size_of: Callable[[In], int] | None
) -> Iterator[tuple[list[In], int]]:
    """So many inputs, or fewer that are large, and their bytes."""
    values: list[In] = []
    n_bytes = 0
    for value in inputs:
        values.append(value)
        n_bytes += 0 if size_of is None else size_of(value)
        if len(values) == size or n_bytes >= CHUNK_BYTES:
            yield values, n_bytes
            values, n_bytes = [], 0
    if values:
        yield values, n_bytes
