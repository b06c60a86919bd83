"""Features by the workers of a cluster: each holds the backbone, reads pictures and writes its own shards. This is no stage.

Items, the backbone's files and the depot lie where every worker finds them under the same name: a shared folder, or for
the depot any fsspec URL. A task names pictures by row and key and hands back what failed; rows go from the worker
into the depot, through the same writer as those of one process. A task that is done anew, after its worker died, passes
over what the depot already has. Which pictures share a batch is as in one process, but for pictures that fail.
"""

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock

from deponij.pipeline.backbones.extraction import AUTO_BATCH, Progress
from deponij.project.extraction.feature_maker import FeatureMaker, FoundBackbone, first_rows, pictures_at
from deponij.project.extraction.filling import fill
from deponij.project.frame.allocator import keep_pages
from deponij.project.frame.cluster import DIED_OF_IT, Cluster, cluster
from deponij.project.frame.console import bar, say, warn
from deponij.project.frame.settings import RunOptions
from deponij.store.depot import FeatureStore
from deponij.store.errors import ClusterError, IdentityError
from deponij.store.items import Items
from deponij.store.manifest import MANIFEST
from deponij.store.writer import SHARD_ROWS

# So many tasks a worker at least where there are enough pictures, so that a slow one does not keep the others waiting.
_TASKS_PER_WORKER = 4
# As a batch of any device fits into a task a whole number of times.
_BATCHES = max(AUTO_BATCH.values())

# How long a task that another command has left under way is waited for.
_LEFT_S = 600

Places = list[tuple[int, str]]


@dataclass(frozen=True, slots=True)
class Job:
    """What the workers need to know: the same for all tasks of an extraction.

    Attributes:
        items: their folder.
        items_sha256: of its manifest, so that no worker reads other ones of that name.
        backbone: whose features are wanted.
        options: of a worker; its `threads` are of each.
    """

    items: Path
    items_sha256: str
    backbone: FoundBackbone
    options: RunOptions


@dataclass
class Taken:
    """What came of the pictures of a task."""

    n_rows: int
    failures: list[tuple[str, str]]
    busy_s: dict[str, float]
    load_s: float


@dataclass(frozen=True)
class _Task:
    """Pictures, as rows of the items and keys."""

    job: Job
    places: Places


@dataclass
class _AtWork:
    """What a worker process holds: of one job at a time, for there is memory for one backbone."""

    lock: Lock = field(default_factory=Lock)
    job: Job | None = None
    items: Items | None = None
    maker: FeatureMaker | None = None
    store: FeatureStore | None = None

    def open(self, job: Job) -> tuple[Items, FeatureMaker, FeatureStore]:
        """Items, backbone and depot of a job; those of the last one where it is the same."""
        if self.job != job or self.items is None or self.maker is None or self.store is None:
            self.job = self.items = self.maker = self.store = None
            keep_pages()
            self.items = _the_same_items(job)
            self.maker = FeatureMaker(_the_same_backbone(job.backbone), job.options)
            self.store = FeatureStore(job.options.depot)
            self.job = job
        return self.items, self.maker, self.store


_HERE = _AtWork()


def compute(store: FeatureStore, table: Items, missing: Sequence[str], maker: FeatureMaker) -> Progress:
    """Bring rows that the depot lacks into it; see `deponij.project.extraction.filling.fill`.

    Raises:
        ClusterError: it cannot be reached, or no worker can do it. What is finished is kept.
    """
    places: Places = list(first_rows(table.keys, missing).items())
    progress = Progress(n_workers=maker.options.n_workers, batch_size=0)
    begun, label = time.perf_counter(), f"extract {maker.backbone.description.name}"
    with cluster(maker.options) as there:
        job = _job(store, table, maker, there)
        n_workers = len(there.workers())
        say(f"{label}: {len(places):,} pictures, {_counted(n_workers)} of {there.address}")
        # Else the same pictures would be computed beside a task of a client that is gone, which goes on all the same.
        if not there.once_each(wait_for_what_is_under_way, _LEFT_S):
            warn(f"a worker of {there.address} is still at work for another command; going on without it")
        size = task_rows(len(places), n_workers, maker.options.batch_size)
        tasks = (_Task(job, places[at : at + size]) for at in range(0, len(places), size))
        with bar(label, len(places), "pictures") as advance:
            for n_ended, taken in _taken(there, tasks):
                _add(progress, taken)
                advance(n_ended, _parts(progress, len(there.workers())))
    progress.working_s = time.perf_counter() - begun
    progress.n_workers *= n_workers
    store.refresh()
    # The depot knows: a worker that dies after it has committed tells nobody, and is taken to have failed.
    absent = set(store.missing(maker.backbone.identity, missing))
    progress.n_rows = len(missing) - len(absent)
    progress.failures = [(key, reason) for key, reason in progress.failures if key in absent]
    return progress


def task_rows(n_pictures: int, n_workers: int, batch_size: int) -> int:
    """Pictures a task: whole batches, at most a shard, few enough that all workers have several.

    Args:
        batch_size: 0 where each device chooses its own.
    """
    batch = batch_size or (
        AUTO_BATCH["cpu"] if n_pictures < _BATCHES * n_workers * _TASKS_PER_WORKER else _BATCHES
    )
    even = -(-n_pictures // (n_workers * _TASKS_PER_WORKER))
    n_batches = min(-(-even // batch), max(1, SHARD_ROWS // batch))
    return max(1, n_batches) * batch


def _taken(there: Cluster, tasks: Iterator[_Task]) -> Iterator[tuple[int, Taken]]:
    """Number of pictures that came to an end, and what came of them.

    Where workers died of a task, its halves are tried, down to the picture that takes a process with it.
    """
    again: list[_Task] = []
    for outcome in there.as_completed(extract_here, tasks):
        if outcome.result is not None:
            yield len(outcome.task.places), outcome.result
        else:
            again += _halves(outcome.task)
    while again:
        one = again.pop()
        for outcome in there.as_completed(extract_here, [one]):
            if outcome.result is not None:
                yield len(one.places), outcome.result
            elif len(one.places) > 1:
                again += _halves(one)
            else:
                key = one.places[0][1]
                yield 1, Taken(0, [(key, DIED_OF_IT)], {}, 0.0)


def _halves(task: _Task) -> list[_Task]:
    middle = (len(task.places) + 1) // 2
    return [replace(task, places=part) for part in (task.places[:middle], task.places[middle:]) if part]


def wait_for_what_is_under_way() -> None:
    """On a worker: return when the task that is done here, if any, has ended."""
    with _HERE.lock:
        pass


def extract_here(task: _Task) -> Taken:
    """On a worker: compute and commit what the depot lacks of a task's pictures.

    Raises:
        DeponijError: items, backbone or depot are not what they should be here, or rows cannot be written.
    """
    # A worker with several threads has several tasks; the model is one.
    with _HERE.lock:
        items, maker, store = _HERE.open(task.job)
        store.refresh()
        missing = set(store.missing(maker.backbone.identity, [key for _, key in task.places]))
        key_of = {row: key for row, key in task.places if key in missing}
        if not key_of:
            return Taken(0, [], {}, 0.0)
        pictures = pictures_at(items, key_of)
        progress = fill(store, maker, pictures, str(items.path), lambda n, so_far: None)
        return Taken(progress.n_rows, progress.failures, progress.busy_s, progress.load_s)


def _job(store: FeatureStore, table: Items, maker: FeatureMaker, there: Cluster) -> Job:
    options = maker.options
    # Several workers of a machine share its cores.
    threads = options.threads or max(1, options.n_threads // there.on_host())
    workers = options.workers or max(1, options.n_workers // there.on_host())
    here = options.model_copy(
        update={"depot": store.location, "threads": threads, "workers": workers, "cluster": ""}
    )
    folder = Path(maker.backbone.spec)
    backbone = replace(maker.backbone, spec=str(folder.resolve())) if folder.exists() else maker.backbone
    path = table.path.resolve()
    return Job(path, _digest(path), backbone, here)


def _the_same_items(job: Job) -> Items:
    items = Items(job.items)
    if _digest(job.items) != job.items_sha256:
        raise ClusterError(f"the items at {job.items} are others here than where the command runs")
    return items


def _the_same_backbone(wanted: FoundBackbone) -> FoundBackbone:
    from deponij.pipeline.backbones import describe
    from deponij.project.extraction import identities

    description = describe(wanted.spec, input_px=wanted.input_px)
    asked = wanted.identity
    identity = identities.of_pictures(description, wanted.kind, wanted.route, asked.precision, asked.stored)
    if identity != asked:
        raise IdentityError(
            f"{wanted.name} is another backbone here than where the command runs: "
            + "; ".join(asked.differences(identity))
        )
    return replace(wanted, description=description)


def _digest(items: Path) -> str:
    return hashlib.sha256((items / MANIFEST).read_bytes()).hexdigest()


def _add(progress: Progress, taken: Taken) -> None:
    progress.n_rows += taken.n_rows
    progress.failures += taken.failures
    progress.load_s = max(progress.load_s, taken.load_s)
    for part, seconds in taken.busy_s.items():
        progress.busy_s[part] += seconds


def _parts(progress: Progress, n_workers: int) -> str:
    """Who works, and what all of them could do a second of each part; the slowest is marked."""
    marks = {progress.bottleneck: "*"}
    rates = " ".join(
        f"{part} {rate * n_workers:,.0f}{marks.get(part, '')}" for part, rate in progress.rates().items()
    )
    return f"{_counted(n_workers)}: {rates}"


def _counted(n_workers: int) -> str:
    return f"{n_workers} worker{'s' * (n_workers != 1)}"
