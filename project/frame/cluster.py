"""Work on a Dask cluster: by its scheduler's address, or `local`, processes of this machine.

What is sent are small tasks of module-level functions; what comes back is small, too, or in order and a bounded way
ahead. Tasks are few at a time, so that neither the scheduler nor this process holds more than a window of them, however
many there are. What a task does, and how it is taken over where a worker died, is for its function to make harmless:
it may run twice.

Dask's messages are pickles: whoever reaches the scheduler can run code on every worker and here. Trusted networks only,
or `tls://` with certificates in Dask's own configuration, which is passed through.
"""

import logging
import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import metadata
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar
from uuid import uuid4

from deponij.project.frame.console import say, warn
from deponij.project.frame.local_cluster import of_this_machine
from deponij.project.frame.settings import RunOptions
from deponij.store.errors import ClusterError, DeponijError, UsageError, exhaustion_told

if TYPE_CHECKING:
    from deponij.pipeline.data.parallel import Each, Workers

# One that is worked on and one that waits, so that no worker is idle between two.
PER_WORKER = 2
# Results that wait for that of an earlier task, for each task that is sent: one slow task may not let all others pile up.
HELD_PER_SENT = 4
# A task that was lost so many times is taken to have killed its workers: as often as Dask tries where any may do it.
_LOST = 4
# Of a picture that was alone in its task then.
DIED_OF_IT = "worker after worker died while looking at it, or had too little memory; their logs may say why"
# So often it is looked whether the workers that tasks are bound to are still there, while nothing ends.
_ROUND_S = 1.0
# How long a result that is there may take to come here before that is looked at.
_FETCH_S = 20
_CONNECT_S = 20
_JOIN_S = 600
_LOCAL = re.compile(r"local(?::(?P<n>[1-9]\d{0,3}))?$")
_SCHEDULER = re.compile(r"(tcp|tls|ws|wss|ucx|inproc)://.+")

# Dask's classes are not typed.
Client: TypeAlias = Any
Future: TypeAlias = Any
Task = TypeVar("Task")
Result = TypeVar("Result")
In = TypeVar("In")
Out = TypeVar("Out")


@dataclass(frozen=True, slots=True)
class Outcome(Generic[Task, Result]):
    """What became of a task.

    Attributes:
        result: of its function; None where `died`.
        died: its workers did, one after the other, while they were at it, or had too little memory for it.
    """

    task: Task
    result: Result | None
    died: bool = False


@dataclass(frozen=True, slots=True)
class _Answer:
    """Of a task, as its worker sends it: a result, or why this worker cannot do it.

    Attributes:
        is_lost: it had too little memory for this one.
    """

    worker: str
    result: Any = None
    refusal: str | None = None
    is_lost: bool = False


@dataclass(frozen=True, slots=True)
class _Sent(Generic[Task]):
    """A task on its way.

    Attributes:
        only: workers that may do it; any where there are none.
        n_lost: how many times all of `only` were gone before it was done, or one had too little memory for it.
        lost_by: those that had.
    """

    task: Task
    only: tuple[str, ...] = ()
    n_lost: int = 0
    lost_by: tuple[str, ...] = ()


@cache
def _version() -> str:
    """Of Deponij, as it is installed."""
    try:
        return metadata.version("deponij")
    except metadata.PackageNotFoundError:
        return "unknown"


@dataclass
class Cluster:
    """A cluster that work can be sent to.

    Attributes:
        address: of the scheduler, as a person knows it.
        excluded: workers that could not do what was asked, and why; they are asked no more.
        name: by which workers know that they have refused this one.
        version: of Deponij, which workers must have too.
    """

    client: Client
    address: str
    excluded: dict[str, str] = field(default_factory=dict)
    name: str = field(default_factory=lambda: uuid4().hex)
    version: str = field(default_factory=_version)

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

        `function` runs on the workers, perhaps more than once. A worker on which it raises a `DeponijError` or
        `OSError` (a full disk, weights that are not there) is asked no more, and others do its tasks; a `MemoryError`
        counts as its death.

        Raises:
            ClusterError: the scheduler is gone, or no worker is left that can do it.
        """
        return self._ended(function, tasks, lambda: 0)

    def _ended(
        self, function: Callable[[Task], Result], tasks: Iterable[Task], n_held: Callable[[], int]
    ) -> Iterator[Outcome[Task, Result]]:
        """See `as_completed`; `n_held` results wait at the caller for that of an earlier task."""
        waiting, source = deque[_Sent[Task]](), iter(tasks)
        sent = dict[Future, _Sent[Task]]()
        ended = self._watch()
        try:
            while True:
                window = self._window()
                n_more = min(window, HELD_PER_SENT * window - n_held()) - len(sent) - len(waiting)
                waiting.extend(_Sent(task) for task in islice(source, max(0, n_more)))
                while waiting:
                    future, one = self._submit(function, waiting.popleft())
                    sent[future] = one
                    ended.add(future)
                if not sent:
                    return
                future = _next(ended, _ROUND_S)
                outcome = self._outcome(future, sent[future].task) if future in sent else None
                lost: list[_Sent[Task]] = []
                if outcome is None:
                    lost = self._left_alone(sent)
                    if future in sent:
                        ended.add(future)
                elif isinstance(outcome, Outcome):
                    del sent[future]
                    yield outcome
                elif outcome.is_lost:
                    one = sent.pop(future)
                    lost = [replace(one, n_lost=one.n_lost + 1, lost_by=(*one.lost_by, outcome.worker))]
                else:
                    self._exclude(outcome.worker, str(outcome.refusal))
                    waiting.append(sent.pop(future))
                waiting.extend(one for one in lost if one.n_lost < _LOST)
                yield from (Outcome(one.task, None, died=True) for one in lost if one.n_lost >= _LOST)
        finally:
            self._forget(sent)

    def once_each(self, function: Callable[[], None], at_most_s: float) -> bool:
        """Whether every worker that is there has run `function` within this time; one that dies meanwhile need not.

        Raises:
            ClusterError: the scheduler is gone.
        """
        limit = time.monotonic() + at_most_s
        sent: dict[Future, str] = {}
        ended = self._watch()
        try:
            for one in self.workers():
                # By no other: an idle one would run it in the place of one that is at work.
                future = self._bound(function, only=(one,))
                sent[future] = one
                ended.add(future)
            while sent:
                left_s = limit - time.monotonic()
                future = _next(ended, min(_ROUND_S, left_s))
                if future in sent:
                    del sent[future]
                    if future.status == "cancelled":
                        raise self._gone(None)
                elif left_s <= 0:
                    return False
                elif future is None:
                    there = self.workers()
                    dead = [future for future, one in sent.items() if one not in there]
                    self._forget(dead)
                    for future in dead:
                        del sent[future]
        finally:
            self._forget(sent)
        return True

    def each(self, each: "Each[In, Out]", chunks: Iterable[list[In]]) -> Iterator[list[Out]]:
        """What comes of inputs, in their order; see `deponij.pipeline.data.parallel.Mapper`.

        Raises:
            ClusterError: as `as_completed`.
        """
        for outcome in self.in_order(each, chunks):
            yield self._by_halves(each, outcome.task) if outcome.result is None else outcome.result

    def _by_halves(self, each: "Each[In, Out]", values: list[In]) -> list[Out]:
        """Of inputs that workers died of, down to the one that takes a process with it."""
        if len(values) == 1:
            return [each.failed(values[0], DIED_OF_IT)]
        found, middle = list[Out](), len(values) // 2
        for half in (values[:middle], values[middle:]):
            for outcome in self.as_completed(each, [half]):
                found += self._by_halves(each, half) if outcome.result is None else outcome.result
        return found

    def in_order(
        self, function: Callable[[Task], Result], tasks: Iterable[Task]
    ) -> Iterator[Outcome[Task, Result]]:
        """What becomes of the tasks in their order, a bounded way ahead.

        Raises:
            ClusterError: as `as_completed`.
        """
        ready: dict[int, Outcome[Task, Result]] = {}
        n_given = 0
        for outcome in self._ended(_Numbered(function), enumerate(tasks), lambda: len(ready)):
            number, task = outcome.task
            ready[number] = Outcome(task, outcome.result, outcome.died)
            while n_given in ready:
                yield ready.pop(n_given)
                n_given += 1

    def _window(self) -> int:
        return PER_WORKER * max(1, len(self.workers()))

    def _watch(self) -> Any:
        """Tells which futures have ended; more of them can be added."""
        import distributed

        as_completed: Any = distributed.as_completed
        return as_completed(loop=self.client.loop)

    def _submit(self, function: Callable[[Task], Result], one: _Sent[Task]) -> tuple[Future, _Sent[Task]]:
        """Send a task; where a worker cannot do it, bound to the others that are there: else it would take it from them."""
        there = self.workers()
        others = [worker for worker in there if worker not in one.lost_by] or there
        only = tuple(others) if self.excluded or one.lost_by else ()
        future = self._bound(_done, self.name, self.version, function, one.task, only=only)
        return future, replace(one, only=only)

    def _bound(self, function: Callable[..., Any], *given: Any, only: tuple[str, ...]) -> Future:
        bound = {"workers": list(only), "allow_other_workers": False} if only else {}
        try:
            return self.client.submit(function, *given, pure=False, **bound)
        except (OSError, RuntimeError, ValueError) as error:
            raise self._gone(error) from error

    def _left_alone(self, sent: dict[Future, _Sent[Task]]) -> list[_Sent[Task]]:
        """Take out of `sent` the tasks of whose workers none is there any more; Dask would keep them for ever."""
        if not any(one.only for one in sent.values()):
            return []
        there = self.workers()
        left = [future for future, one in sent.items() if one.only and not there.keys() & set(one.only)]
        self._forget(left)
        return [replace(one, n_lost=one.n_lost + 1) for one in map(sent.pop, left)]

    def _outcome(self, future: Future, task: Task) -> "Outcome[Task, Any] | _Answer | None":
        """What has become of a task; None where its result went with its worker, and is to be made again."""
        from distributed import KilledWorker

        if future.status == "cancelled" or self.client.status != "running":
            raise self._gone(None)
        try:
            answer: _Answer = future.result(timeout=_FETCH_S)
        except KilledWorker:
            return Outcome(task, None, died=True)
        except OSError as error:  # CommClosedError and timeouts are of this kind
            if isinstance(error, TimeoutError) and future.status != "error":
                return None
            raise self._gone(error) from error
        return answer if answer.is_lost or answer.refusal is not None else Outcome(task, answer.result)

    def _exclude(self, worker: str, reason: str) -> None:
        """Ask a worker no more; tasks that were on their way to it come back with its reason, too."""
        is_new = worker not in self.excluded
        self.excluded[worker] = reason
        if not self.workers():
            raise ClusterError(f"no worker of {self.address} can do it; {worker} says: {reason}")
        if is_new:
            warn(f"worker {worker} is asked no more: {reason}")

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


def _next(ended: Any, at_most_s: float) -> Future:
    """One that has ended; None where none has within this time."""
    limit = time.monotonic() + at_most_s
    while not ended.has_ready():
        left_s = limit - time.monotonic()
        if left_s <= 0:
            return None
        with ended.thread_condition:
            ended.thread_condition.wait(timeout=min(0.1, left_s))  # as Dask itself waits
    return next(ended)


# On a worker: why it refused, by who asked and its address; tasks that were on their way here then are not tried.
_REFUSED: dict[tuple[str, str], str] = {}


def _done(asker: str, version: str, function: Callable[[Task], Result], task: Task) -> _Answer:
    """On a worker: a task's result, or why it cannot be had here."""
    from distributed import get_worker

    here = asker, get_worker().address
    if here in _REFUSED:
        return _Answer(here[1], refusal=_REFUSED[here])
    if version != _version():
        _REFUSED[here] = f"it has Deponij {_version()}, the command {version}; install the same one"
        return _Answer(here[1], refusal=_REFUSED[here])
    try:
        with exhaustion_told():
            try:
                return _Answer(here[1], function(task))
            except MemoryError:
                # A task that is too large for this worker, as for a system that ends its process in time.
                return _Answer(here[1], is_lost=True)
    except (DeponijError, OSError) as error:  # an OSError that nobody foresaw: its disk, no temporary folder
        _REFUSED[here] = str(error)
    return _Answer(here[1], refusal=_REFUSED[here])


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
    with of_this_machine(int(match["n"] or 0), options) as address, _connected(address) as there:
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
        yield there.each


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
