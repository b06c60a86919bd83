"""Work that arrives together is done together, without waiting for more: what queues up meanwhile is the next batch."""

from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from threading import Lock
from typing import Generic, TypeVar

from deponij.store.errors import DeponijError

In = TypeVar("In")
Out = TypeVar("Out")


class BusyError(DeponijError):
    """More is waiting than can be served soon; asking again later helps."""


@dataclass
class _Batch(Generic[In, Out]):
    """Things by key, and the one future of all of them."""

    items: dict[Hashable, In] = field(default_factory=dict)
    n_asked: int = 0
    answers: "Future[dict[Hashable, Out | DeponijError]]" = field(init=False)


@dataclass(frozen=True)
class Ticket(Generic[Out]):
    """One thing's place in a batch.

    Attributes:
        answers: of the whole batch; shared, so that it must not be cancelled.
    """

    key: Hashable
    answers: "Future[dict[Hashable, Out | DeponijError]]"

    def chosen(self, answers: "dict[Hashable, Out | DeponijError]") -> Out:
        """This thing's answer among those of its batch.

        Raises:
            DeponijError: what was wrong with this thing.
        """
        answer = answers[self.key]
        if isinstance(answer, DeponijError):
            raise answer
        return answer

    def result(self, timeout_s: float | None = None) -> Out:
        """Wait for it."""
        return self.chosen(self.answers.result(timeout_s))


@dataclass(eq=False)
class Batcher(Generic[In, Out]):
    """Collects what is submitted while the executor is busy.

    Attributes:
        work: answers for many things, in their order.
        executor: of one thread; several batchers may share it.
        max_batch: things at most that are worked on together.
        max_waiting: more are refused.
        seen: told the size of each batch.
        n_waiting: things that were submitted and are not being worked on.
    """

    work: Callable[[list[In]], Sequence[Out]]
    executor: Executor
    max_batch: int = 32
    max_waiting: int = 256
    seen: Callable[[int], None] = lambda _: None
    n_waiting: int = field(default=0, init=False)
    _lock: Lock = field(default_factory=Lock, init=False)
    _open: _Batch[In, Out] | None = field(default=None, init=False)

    def submit(self, key: Hashable, item: In) -> Ticket[Out]:
        """Queue a thing; of equal keys in one batch, only the first is worked on.

        Raises:
            BusyError: too much is waiting.
        """
        with self._lock:
            if self.n_waiting >= self.max_waiting:
                raise BusyError(f"{self.n_waiting} queries are waiting to be encoded; ask again in a second")
            batch = self._open
            if batch is None or (key not in batch.items and len(batch.items) >= self.max_batch):
                batch = self._open = _Batch()
                batch.items[key] = item
                batch.answers = self.executor.submit(self._run, batch)
            batch.items.setdefault(key, item)
            batch.n_asked += 1
            self.n_waiting += 1
            return Ticket(key, batch.answers)

    def _run(self, batch: _Batch[In, Out]) -> dict[Hashable, Out | DeponijError]:
        with self._lock:
            if self._open is batch:
                self._open = None
            self.n_waiting -= batch.n_asked
        self.seen(len(batch.items))
        return self._answers(batch.items)

    def _answers(self, items: dict[Hashable, In]) -> dict[Hashable, Out | DeponijError]:
        try:
            return dict(zip(items, self.work(list(items.values())), strict=True))
        except DeponijError as error:
            if len(items) == 1:
                return dict.fromkeys(items, error)
        # One thing must not cost the others their answers.
        return {key: self._answers({key: item})[key] for key, item in items.items()}
