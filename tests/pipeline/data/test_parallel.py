"""The ordered map: order, how far it runs ahead, and what happens to errors and early ends."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import cast

import pytest

from deponij.pipeline.data.parallel import AHEAD_BYTES, AHEAD_PER_WORKER, CHUNK_BYTES, Mapper, ordered_map


@pytest.mark.parametrize("workers", [0, 1, 4])
@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_results_come_in_the_order_of_the_inputs(workers: int, chunk: int) -> None:
    def slow_for_early_ones(value: int) -> int:
        time.sleep(0.002 if value % 4 == 0 else 0)
        return value * value

    assert list(ordered_map(slow_for_early_ones, range(50), workers, chunk=chunk)) == [
        v * v for v in range(50)
    ]
    assert list(ordered_map(slow_for_early_ones, [], workers, chunk=chunk)) == []


@pytest.mark.parametrize(("workers", "chunk"), [(1, 1), (2, 1), (2, 5)])
def test_it_runs_only_so_far_ahead_of_its_consumer(workers: int, chunk: int) -> None:
    taken = 0

    def inputs() -> Iterator[int]:
        nonlocal taken
        for value in range(1000):
            taken += 1
            yield value

    for n_consumed, _ in enumerate(ordered_map(abs, inputs(), workers, chunk=chunk)):
        assert taken - n_consumed <= (AHEAD_PER_WORKER * workers + 1) * chunk
        if n_consumed == 100:
            break


@pytest.mark.parametrize("workers", [2, 16, 64])
def test_of_large_inputs_fewer_are_held(workers: int) -> None:
    """Inputs of 50 MB: one a chunk, and no further one while those under way hold the most that is allowed."""
    taken, size = 0, 50 << 20

    def inputs() -> Iterator[int]:
        nonlocal taken
        for value in range(300):
            taken += 1
            yield value

    for n_consumed, value in enumerate(ordered_map(abs, inputs(), workers, chunk=8, size_of=lambda _: size)):
        assert value == n_consumed
        assert (taken - n_consumed - 2) * size < AHEAD_BYTES
    assert taken == 300


def test_chunks_elsewhere_are_no_longer_than_their_bytes() -> None:
    lengths: list[int] = []

    def elsewhere(
        function: Callable[[list[int]], list[int]], chunks: Iterable[list[int]]
    ) -> Iterator[list[int]]:
        for values in chunks:
            lengths.append(len(values))
            yield function(values)

    sizes = [1, 1, CHUNK_BYTES, CHUNK_BYTES, 1, 1]
    found = list(ordered_map(abs, sizes, cast(Mapper, elsewhere), chunk=8, size_of=abs))
    assert (found, lengths) == (sizes, [3, 1, 2])


def test_several_threads_work_at_once() -> None:
    together = threading.Barrier(3, timeout=10)
    assert list(ordered_map(lambda value: together.wait() >= 0, range(3), 3)) == [True] * 3


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_is_raised_at_its_turn(workers: int) -> None:
    def fails_at_five(value: int) -> int:
        if value == 5:
            raise ValueError("five")
        return value

    seen = []
    with pytest.raises(ValueError, match="five"):
        for value in ordered_map(fails_at_five, range(100), workers):
            seen.append(value)
    assert seen == [0, 1, 2, 3, 4]


def test_an_early_end_starts_nothing_more() -> None:
    started = []
    stream = ordered_map(started.append, range(1000), 2)
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    time.sleep(0.05)
    n_started = len(started)
    time.sleep(0.05)
    assert len(started) == n_started <= 2 * AHEAD_PER_WORKER + 1
