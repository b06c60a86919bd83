"""Work on a Dask cluster: by its scheduler's address, or `local`, processes of this machine.

What is sent are small tasks of module-level functions; what comes back is small, too, or in order and a bounded way
ahead. Tasks are few at a time, so that neither the scheduler nor this process holds more than a window of them, however
many there are. What a task does, and how it is taken over where a worker died, is for its function to make harmless:
it may run twice.

Dask's messages are pickles: whoever reaches the scheduler can run code on every worker and here. Trusted networks only,
or `tls://` with certificates in Dask's own configuration, which is passed through.
"""

import logging
import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

from deponij.project.frame.console import say, warn
from deponij.project.frame.settings import RunOptions, n_cores
from deponij.store.errors import ClusterError, DeponijError, UsageError

if TYPE_CHECKING:
    from deponij.pipeline.data.parallel import Workers

# One that is worked on and one that waits, so that no worker is idle between two.
PER_WORKER = 2
# Results that wait for that of an earlier task, for each task that is sent: one slow task may not let all others pile up.
HELD_PER_SENT = 4
# A task that so many workers refuse is at fault itself.
_REFUSED_BY = 3
_CONNECT_S = 20
_JOIN_S = 600
_LOCAL = re.compile(r"local(?::(?P<n>[1-9]\d{0,3}))?$")
_SCHEDULER = re.compile(r"(tcp|tls|ws|wss|ucx|inproc)://.+")

# Dask's classes are not typed.
Client: TypeAlias = Any
Future: TypeAlias = Any
Task = TypeVar("Task")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Outcome(Generic[Task, Result]):
    """What became of a task.

    Attributes:
        result: of its function; None where `died`.
        died: its workers did, one after the other, while they were at it.
    """

    task: Task
    result: Result | None
    died: bool = False


@dataclass(frozen=True, slots=True)
class _Answer:
    """Of a task, as its worker sends it: a result, or why this worker cannot do it."""

    worker: str
    result: Any = None
    refusal: str | None = None


@dataclass
class Cluster:
    """A cluster that work can be sent to.

    Attributes:
        address: of the scheduler, as a person knows it.
        excluded: workers that could not do what was asked, and why; they are asked no more.
    """

    client: Client
    address: str
    excluded: dict[str, str] = field(default_factory=dict)

    def workers(self) -> dict[str, str]:
        """Address -> host of those that are there and can be asked."""
        known = self.client.scheduler_info(n_workers=-1)["workers"]
        return {one: facts["host"] for one, facts in known.items() if one not in self.excluded}

    def on_host(self) -> int:
        """The most workers that share a machine, at least one."""
        hosts = list(self.workers().values())
        return max(map(hosts.count, hosts), default=1)

    def as_completed(
        self, function: Callable[[Task], Result], tasks: Iterable[Task]
    ) -> Iterator[Outcome[Task, Result]]:
        """What becomes of every task, in the order of their ends.

        `function` runs on the workers, perhaps more than once. A worker on which it raises a `DeponijError` (a full
        disk, weights that are not there) is asked no more, and others do its tasks.

        Raises:
            ClusterError: the scheduler is gone, or no worker is left that can do it.
        """
        return self._ended(function, tasks, lambda: 0)

    def _ended(
        self, function: Callable[[Task], Result], tasks: Iterable[Task], n_held: Callable[[], int]
    ) -> Iterator[Outcome[Task, Result]]:
        """See `as_completed`; `n_held` results wait at the caller for that of an earlier task."""
        import distributed

        as_completed: Any = distributed.as_completed
        waiting: deque[tuple[Task, tuple[str, ...]]] = deque()
        source, sent = iter(tasks), dict[Any, tuple[Task, tuple[str, ...]]]()
        ended = as_completed(loop=self.client.loop)
        try:
            while True:
                window = self._window()
                n_more = min(window, HELD_PER_SENT * window - n_held()) - len(sent) - len(waiting)
                waiting.extend((one, ()) for one in islice(source, max(0, n_more)))
                while waiting:
                    task, refused_by = waiting.popleft()
                    future = self._submit(function, task, refused_by)
                    sent[future] = task, refused_by
                    ended.add(future)
                if not sent:
                    return
                future = next(ended)
                task, refused_by = sent.pop(future)
                outcome = self._outcome(future, task)
                if isinstance(outcome, Outcome):
                    yield outcome
                else:
                    waiting.append((task, self._refused(outcome, refused_by)))
        finally:
            self._forget(sent)

    def once_each(self, function: Callable[[], None], at_most_s: float) -> bool:
        """Whether every worker that is there has run `function` within this time; one that dies meanwhile need not.

        Raises:
            ClusterError: the scheduler is gone.
        """
        import distributed

        as_completed: Any = distributed.as_completed
        sent: list[Future] = []
        try:
            for one in self.workers():
                sent.append(self.client.submit(function, pure=False, workers=[one], allow_other_workers=True))
            for _ in as_completed(sent, loop=self.client.loop, timeout=at_most_s):
                pass
        except TimeoutError:
            return False
        except (OSError, RuntimeError, ValueError) as error:
            raise self._gone(error) from error
        finally:
            self._forget(sent)
        return True

    def in_order(self, function: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
        """The results in the order of the tasks, a bounded way ahead.

        Raises:
            ClusterError: as `as_completed`, or the workers die of a task.
        """
        ready: dict[int, Result] = {}
        n_given = 0
        for outcome in self._ended(_Numbered(function), enumerate(tasks), lambda: len(ready)):
            number, _ = outcome.task
            if outcome.died:
                raise ClusterError(
                    f"{self.address}: worker after worker died of one task, the {number + 1}th; look at their logs"
                )
            ready[number] = outcome.result  # type: ignore[assignment]
            while n_given in ready:
                yield ready.pop(n_given)
                n_given += 1

    def _window(self) -> int:
        return PER_WORKER * max(1, len(self.workers()))

    def _submit(self, function: Callable[[Task], Result], task: Task, refused_by: tuple[str, ...]) -> Future:
        only: dict[str, Any] = {}
        if self.excluded:
            others = [one for one in self.workers() if one not in refused_by]
            # As a wish: should those die, the task would otherwise wait for ever.
            only = {"workers": others, "allow_other_workers": True} if others else {}
        try:
            return self.client.submit(_done, function, task, pure=False, **only)
        except (OSError, RuntimeError, ValueError) as error:
            raise self._gone(error) from error

    def _outcome(self, future: Future, task: Task) -> "Outcome[Task, Any] | _Answer":
        from distributed import KilledWorker

        if future.status == "cancelled" or self.client.status != "running":
            raise self._gone(None)
        try:
            answer: _Answer = future.result()
        except KilledWorker:
            return Outcome(task, None, died=True)
        except OSError as error:  # CommClosedError and timeouts are of this kind
            raise self._gone(error) from error
        return Outcome(task, answer.result) if answer.refusal is None else answer

    def _refused(self, answer: _Answer, before: tuple[str, ...]) -> tuple[str, ...]:
        """By whom a task was refused now."""
        refused_by = tuple(dict.fromkeys((*before, answer.worker)))
        reason = str(answer.refusal)
        if answer.worker not in self.excluded:
            self.excluded[answer.worker] = reason
        if len(refused_by) >= _REFUSED_BY or not self.workers():
            raise ClusterError(f"no worker of {self.address} can do it; {answer.worker} says: {reason}")
        if answer.worker not in before:
            warn(f"worker {answer.worker} is asked no more: {reason}")
        return refused_by

    def _forget(self, futures: Iterable[Future]) -> None:
        if futures and self.client.status == "running":
            self.client.cancel(list(futures))

    def _gone(self, error: Exception | None) -> ClusterError:
        why = f" ({error})" if error is not None and str(error) else ""
        return ClusterError(
            f"the scheduler at {self.address} is gone{why}; what is finished is kept, and the same command goes on"
        )


@dataclass(frozen=True)
class _Numbered(Generic[Task, Result]):
    """A function of a task that carries its number."""

    function: Callable[[Task], Result]

    def __call__(self, numbered: tuple[int, Task]) -> Result:
        return self.function(numbered[1])


def _done(function: Callable[[Task], Result], task: Task) -> _Answer:
    """On a worker: a task's result, or why it cannot be had here."""
    from distributed import get_worker

    address = get_worker().address
    try:
        return _Answer(address, function(task))
    except DeponijError as error:
        return _Answer(address, refusal=str(error))
    except MemoryError:
        return _Answer(address, refusal="it has too little memory")


@contextmanager
def cluster(options: RunOptions) -> Iterator[Cluster]:
    """The cluster that `options.cluster` names, for the time of the block.

    Raises:
        UsageError: it names none.
        ClusterError: nobody answers at the address, or no worker joins.
    """
    match = _LOCAL.match(options.cluster)
    if match is None and _SCHEDULER.match(options.cluster) is None:
        raise UsageError(
            f"a cluster is tcp://HOST:PORT of a Dask scheduler (or tls://), local, or local:N; got {options.cluster!r}"
        )
    # What it says of lost connections is said here, in a line.
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    if match is None:
        with _connected(options.cluster) as there:
            yield there
        return
    with _of_this_machine(int(match["n"] or 0), options) as address, _connected(address) as there:
        yield there


@contextmanager
def workers_of(options: RunOptions) -> "Iterator[Workers]":
    """Who reads and decodes pictures: threads of this process, or the cluster that `options` name.

    Raises:
        DeponijError: as `cluster`.
    """
    if not options.cluster:
        yield options.n_workers
        return
    with cluster(options) as there:
        yield there.in_order


@contextmanager
def _connected(address: str) -> Iterator[Cluster]:
    import distributed

    connect: Any = distributed.Client
    try:
        client = connect(address, timeout=_CONNECT_S, set_as_default=False)
    except (OSError, RuntimeError, ValueError, TypeError) as error:
        raise ClusterError(
            f"no Dask scheduler answers at {address} ({error}); `dask scheduler` starts one"
        ) from error
    with client:
        if not client.scheduler_info(n_workers=-1)["workers"]:
            say(f"no worker is at {address} yet; `dask worker {address}` starts one; waiting")
        try:
            client.wait_for_workers(1, timeout=_JOIN_S)
        except (TimeoutError, OSError) as error:
            raise ClusterError(f"no worker joined {address} within {_JOIN_S // 60} minutes") from error
        yield Cluster(client, address)


@contextmanager
def _of_this_machine(n_workers: int, options: RunOptions) -> Iterator[str]:
    """A scheduler and its workers: one a GPU; without any, one for each `threads` cores."""
    import distributed

    cluster_of: Any = distributed.SpecCluster
    specs = worker_specs(visible_gpus(options.device), n_workers, options)
    # Nobody else may reach it, its page neither.
    at_home = {"host": "127.0.0.1", "port": 0, "dashboard": False, "dashboard_address": "127.0.0.1:0"}
    scheduler = {"cls": distributed.Scheduler, "options": at_home}
    with cluster_of(workers=specs, scheduler=scheduler, silence_logs=logging.CRITICAL) as made:
        yield str(made.scheduler_address)


def worker_specs(gpus: Sequence[str], n_workers: int, options: RunOptions) -> dict[int, dict[str, Any]]:
    """Of each worker process of this machine: its class and options, as `distributed.SpecCluster` takes them.

    Args:
        gpus: by the names that CUDA_VISIBLE_DEVICES takes; every worker sees one of them alone.
        n_workers: 0 for one a GPU, or one for each `options.threads` cores (all that are free, for 1 thread each).
    """
    from distributed import Nanny

    n_workers = n_workers or len(gpus) or max(1, n_cores() // (options.threads or 1))
    common = {
        "nthreads": 1,
        "host": "127.0.0.1",
        "memory_limit": 0,
        "dashboard_address": "127.0.0.1:0",
        "silence_logs": logging.CRITICAL,
    }
    specs = {}
    for number in range(n_workers):
        seen = {"CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)]} if gpus else {}
        specs[number] = {"cls": Nanny, "options": {**common, "env": seen}}
    return specs


def visible_gpus(device: str) -> list[str]:
    """Names of the GPUs that processes of this one may use; none where another device is asked for."""
    if device not in ("auto", "cuda"):
        return []
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    n_seen = torch.cuda.device_count()
    return named.split(",")[:n_seen] if named else [str(number) for number in range(n_seen)]
