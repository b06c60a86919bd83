"""Batching: fewer calls, equal answers, and a thing that cannot be done costs itself alone."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from deponij.services.serve.batching import Batcher, BusyError
from deponij.store.errors import PictureError


class Work:
    """Squares numbers, when it is let; refuses negative ones."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.go = threading.Event()

    def __call__(self, numbers: list[int]) -> list[int]:
        self.calls.append(list(numbers))
        self.go.wait(10)
        if any(number < 0 for number in numbers):
            raise PictureError("negative")
        return [number**2 for number in numbers]


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


def held(work: Work) -> None:
    """Until the first call is under way."""
    until = time.monotonic() + 10
    while not work.calls and time.monotonic() < until:
        time.sleep(0.001)
    assert work.calls


def test_what_arrives_meanwhile_is_the_next_batch(executor: ThreadPoolExecutor) -> None:
    work, sizes = Work(), []
    batcher = Batcher(work, executor, max_batch=8, seen=sizes.append)
    first = batcher.submit(3, 3)
    held(work)
    tickets = [batcher.submit(n, n) for n in range(20)]
    assert batcher.n_waiting == 20
    work.go.set()
    assert first.result(10) == 9
    assert [ticket.result(10) for ticket in tickets] == [n**2 for n in range(20)]
    # One alone at once, without waiting for company; then 8 at most.
    assert [len(call) for call in work.calls] == sizes == [1, 8, 8, 4]
    assert batcher.n_waiting == 0


def test_equal_things_are_done_once(executor: ThreadPoolExecutor) -> None:
    work = Work()
    batcher = Batcher(work, executor)
    batcher.submit("x", 1)
    held(work)
    tickets = [batcher.submit(n % 2, n % 2) for n in range(10)]
    work.go.set()
    assert [ticket.result(10) for ticket in tickets] == [n % 2 for n in range(10)]
    assert work.calls == [[1], [0, 1]]


def test_a_bad_thing_fails_alone(executor: ThreadPoolExecutor) -> None:
    work = Work()
    batcher = Batcher(work, executor)
    batcher.submit(1, 1)
    held(work)
    tickets = [batcher.submit(n, n) for n in (2, -3, 4)]
    work.go.set()
    assert tickets[0].result(10) == 4
    assert tickets[2].result(10) == 16
    with pytest.raises(PictureError, match="negative"):
        tickets[1].result(10)


def test_a_mistake_of_the_program_reaches_all_who_wait(executor: ThreadPoolExecutor) -> None:
    def broken(_: list[int]) -> list[int]:
        raise ZeroDivisionError

    batcher = Batcher(broken, executor)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            batcher.submit(1, 1).result(10)
    assert batcher.n_waiting == 0


def test_too_many_are_refused_and_later_served(executor: ThreadPoolExecutor) -> None:
    work = Work()
    batcher = Batcher(work, executor, max_waiting=3)
    batcher.submit(0, 0)
    held(work)
    tickets = [batcher.submit(n, n) for n in range(3)]
    with pytest.raises(BusyError, match="3 queries"):
        batcher.submit(9, 9)
    work.go.set()
    assert [ticket.result(10) for ticket in tickets] == [0, 1, 4]
    assert batcher.submit(9, 9).result(10) == 81


def test_two_batchers_share_a_thread(executor: ThreadPoolExecutor) -> None:
    """Both wait for the first call; each then works on its own."""
    work, other = Work(), Work()
    one, two = Batcher(work, executor), Batcher(other, executor)
    one.submit(0, 0)
    held(work)
    tickets = [batcher.submit(n, n) for n in range(4) for batcher in (one, two)]
    work.go.set()
    other.go.set()
    assert [ticket.result(10) for ticket in tickets] == [0, 0, 1, 1, 4, 4, 9, 9]
    assert work.calls == [[0], [0, 1, 2, 3]] and other.calls == [[0, 1, 2, 3]]


def test_many_threads_get_their_own_answers(executor: ThreadPoolExecutor) -> None:
    """Against NumPy; whoever asks, whatever is batched with what. The first call ends when 300 rows wait."""
    calls, go = [], threading.Event()

    def embed(rows: list[np.ndarray]) -> list[np.ndarray]:
        calls.append(len(rows))
        go.wait(60)
        return list(np.stack(rows) @ np.full((3, 2), 2.0))

    def ask(client: int) -> list[np.ndarray]:
        tickets = []
        for i in range(client, 400, 20):
            tickets.append(batcher.submit(i, rows[i]))
            if batcher.n_waiting >= 300:
                go.set()
        return [ticket.result(60) for ticket in tickets]

    batcher = Batcher(embed, executor, max_waiting=10_000)
    rows = np.random.default_rng(0).normal(size=(400, 3))
    found = np.empty((400, 2))
    with ThreadPoolExecutor(20) as clients:
        for client, answers in enumerate(clients.map(ask, range(20))):
            found[client::20] = answers
    np.testing.assert_allclose(found, rows @ np.full((3, 2), 2.0), rtol=1e-12)
    assert sum(calls) == 400
    assert len(calls) < 200
