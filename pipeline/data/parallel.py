"""A bounded, ordered map over threads: pictures are decoded ahead of whoever consumes them.

Pillow and hashlib let go of the interpreter lock while they work, so threads are enough.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

# Chunks that are being worked on or wait for the consumer, per worker; more would only cost memory.
AHEAD_PER_WORKER = 3

In = TypeVar("In")
Out = TypeVar("Out")


def ordered_map(
    function: Callable[[In], Out],
    inputs: Iterable[In],
    workers: int,
    *,
    chunk: int = 1,
    abandon: Callable[[], None] | None = None,
) -> Iterator[Out]:
    """`map` in the order of the inputs, with `workers` threads that run a bounded way ahead.

    With `workers` of 0 it runs in the calling thread. An exception of `function` is raised when its
    turn comes; what was not started by then is not started.

    Args:
        chunk: inputs that a thread takes at once; more than 1 pays off where one takes well under a
            millisecond. At most `AHEAD_PER_WORKER * workers * chunk` results are held.
        abandon: called when no more results are wanted, before running calls are waited for.
    """
    if workers <= 0:
        yield from map(function, inputs)
        return
    chunks = _chunks(inputs, chunk)
    with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
        pending: deque[Future[list[Out]]] = deque()
        try:
            for values in islice(chunks, AHEAD_PER_WORKER * workers):
                pending.append(pool.submit(_each, function, values))
            while pending:
                results = pending.popleft().result()
                for values in islice(chunks, 1):
                    pending.append(pool.submit(_each, function, values))
                yield from results
        finally:
            if abandon is not None:
                abandon()
            for future in pending:
                future.cancel()


def _each(function: Callable[[In], Out], values: list[In]) -> list[Out]:
    return [function(value) for value in values]


def _chunks(inputs: Iterable[In], size: int) -> Iterator[list[In]]:
    source = iter(inputs)
    while values := list(islice(source, size)):
        yield values
