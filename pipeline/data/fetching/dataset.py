"""Fetching TACO: the official annotation file and every photograph from the host that keeps it.

Files keep the bytes that the host sent. A photograph stays in place only if it decodes and has,
upright, the size that its annotations were drawn for. What lives elsewhere: one transfer with its
retries (`deponij.pipeline.data.fetching.http`), the two tables left behind (`deponij.pipeline.data.fetching.ledger`),
reading annotations for cropping (`deponij.pipeline.data.adapters.coco`).

Source: https://github.com/pedropro/TACO (Proença and Simões, "TACO: Trash Annotations in Context
for Litter Detection", 2020); its README names the archive `TACO_ARCHIVE` as the fallback.
"""

import json
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock, Timeout

from deponij.pipeline.data.fetching.http import (
    Downloader,
    GaveUpError,
    Pace,
    WrongContentError,
    cannot_write,
    host_of,
)
from deponij.pipeline.data.fetching.ledger import (
    FAILURES,
    FETCHED,
    Failure,
    Fetched,
    read_fetched,
    write_failures,
    write_fetched,
)
from deponij.pipeline.data.inside import path_inside
from deponij.pipeline.pictures import decode
from deponij.store.atomic import write_bytes
from deponij.store.errors import DataError, PictureError, UsageError

# The commit of the official repository whose counts the project's label maps state.
TACO_ANNOTATIONS = "https://raw.githubusercontent.com/pedropro/TACO/29de1a9ba05a647b83a90f18d7772e20bb23d846/data/annotations.json"
TACO_ARCHIVE = "https://doi.org/10.5281/zenodo.3587843"
ANNOTATIONS = "annotations.json"
LOCK = ".fetch.lock"
MAX_REASONS = 6  # in a summary; the table has them all
_RESERVED = frozenset({ANNOTATIONS, FETCHED, FAILURES, LOCK})


class Progress(Protocol):
    """Told after each photograph, from the calling thread."""

    def __call__(self, n_done: int, n_total: int, n_bytes: int) -> None:
        """`n_bytes` are those fetched so far."""


@dataclass(frozen=True, slots=True)
class FetchReport:
    """What a run left behind.

    Attributes:
        root: the data set's folder.
        n_total: photographs asked for (the first `limit` of the annotation file).
        n_present: of these, how many lie there now, checked.
        n_fetched: of these, how many this run brought.
        n_bytes: size of what this run brought, photographs only.
        seconds: how long it took.
        failures: what could not be had; also in `failures.parquet`.
    """

    root: Path
    n_total: int
    n_present: int
    n_fetched: int
    n_bytes: int
    seconds: float
    failures: tuple[Failure, ...]

    @property
    def n_failed(self) -> int:
        """Photographs that could not be had."""
        return len(self.failures)

    @property
    def summary(self) -> str:
        """A few lines for a person."""
        lines = [
            f"{self.n_present:,} of {self.n_total:,} photographs are in {self.root}; {self.n_fetched:,} "
            f"were fetched now ({self.n_bytes / 1e6:,.1f} MB in {self.seconds:,.1f} s)."
        ]
        if self.failures:
            lines += [f"{self.n_failed:,} could not be had (table: {self.root / FAILURES}):"]
            reasons = Counter(failure.reason for failure in self.failures).most_common()
            lines += [f"  {count:,} x {reason}" for reason, count in reasons[:MAX_REASONS]]
            if rest := sum(count for _, count in reasons[MAX_REASONS:]):
                lines += [f"  {rest:,} for other reasons"]
            lines += [
                "Run this again to try those alone, or unpack the photographs of the archive "
                f"{TACO_ARCHIVE} into {self.root} (batch_1, batch_2, ...) first."
            ]
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class _Photograph:
    """One entry of the annotation file's `images`."""

    file_name: str
    url: str
    size_px: tuple[int, int]  # (width, height)

    def check(self, body: bytes) -> None:
        """Raise PictureError unless the body decodes and has, upright, the annotated size."""
        size_px = decode(body).size
        if size_px != self.size_px:
            raise WrongContentError(
                f"the picture is {size_px[0]} x {size_px[1]} px, "
                f"its annotations are for {self.size_px[0]} x {self.size_px[1]} px"
            )


# One photograph after the attempt: what lies there now or why not, and the bytes that this run brought for it, if any.
_Outcome = tuple[Fetched | Failure, int | None]


def fetch_taco(
    root: Path,
    *,
    limit: int | None = None,
    annotations: str | None = None,
    workers: int = 8,
    timeout_s: float = 30.0,
    retries: int = 5,
    pace: Pace | None = None,
    progress: Progress | None = None,
) -> FetchReport:
    """Bring TACO to a folder, or what is still missing of it.

    The annotation file is kept whole and as served, whatever the limit. Photographs that are there
    (from an earlier run, or unpacked from the archive) are compared with their recorded digest, or
    else decoded, and not fetched again. One that is there and wrong is moved to `NAME.refused`.

    Args:
        root: folder to fill: `annotations.json`, `batch_*/*`, `fetched.parquet`, `failures.parquet`.
        limit: take only the first photographs of the annotation file.
        annotations: address or path of the annotation file; None: what the folder has, else
            `TACO_ANNOTATIONS`.
        workers: photographs under way at once, over all hosts.
        timeout_s: longest wait for a connection or for the next bytes.
        retries: attempts per photograph after the first.
        pace: how hard hosts are pressed.
        progress: told after each photograph.

    Raises:
        UsageError: a limit or number of workers below 1.
        DataError: the annotation file cannot be had or is not one; nothing can be written; another
            process is fetching into the same folder.
    """
    if workers < 1 or (limit is not None and limit < 1):
        raise UsageError(f"limit and workers must be at least 1; got limit {limit}, workers {workers}")
    began = time.monotonic()
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock = FileLock(root / LOCK, timeout=0)
        lock.acquire()
    except Timeout as error:
        raise DataError(f"another process is fetching into {root}; wait for its end") from error
    except OSError as error:
        raise cannot_write(root, error) from error
    try:
        known = read_fetched(root)
        with Downloader(timeout_s=timeout_s, retries=retries, pace=pace or Pace()) as downloader:
            known[ANNOTATIONS] = _fetch_annotations(root, annotations, known.get(ANNOTATIONS), downloader)
            photographs, refused = _read_photographs(root / ANNOTATIONS, limit)
            run = _Run(root.resolve(), downloader, known, refused, len(photographs) + len(refused), progress)
            run.go(photographs, workers)
    finally:
        (root / LOCK).unlink(missing_ok=True)
        lock.release()
    return FetchReport(
        root=root,
        n_total=run.n_total,
        n_present=run.n_present,
        n_fetched=run.n_fetched,
        n_bytes=run.n_bytes,
        seconds=time.monotonic() - began,
        failures=tuple(sorted(run.failures, key=lambda failure: failure.file_name)),
    )


@dataclass
class _Run:
    """The photographs of one run, fetched by threads and counted by the caller's own."""

    root: Path
    downloader: Downloader
    known: dict[str, Fetched]
    failures: list[Failure]
    n_total: int
    progress: Progress | None
    n_present: int = 0
    n_fetched: int = 0
    n_bytes: int = 0

    def go(self, photographs: Sequence[_Photograph], workers: int) -> None:
        """Fetch all; the tables are written however it ends."""
        pool = ThreadPoolExecutor(workers, thread_name_prefix="fetch")
        try:
            pending: list[Future[_Outcome]] = [pool.submit(self._one, one) for one in _mixed(photographs)]
            for future in as_completed(pending):
                self._count(future.result())
        except BaseException:  # Ctrl-C too: threads must end before the tables are written
            self.downloader.stop()
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            there = {name: row for name, row in self.known.items() if (self.root / name).is_file()}
            write_fetched(self.root, there.values())
            write_failures(self.root, self.failures)

    def _count(self, outcome: _Outcome) -> None:
        row, n_new_bytes = outcome
        if isinstance(row, Fetched):
            self.n_present += 1
            self.known[row.file_name] = row
        else:
            self.failures.append(row)
            self.known.pop(row.file_name, None)
        if n_new_bytes is not None:
            self.n_fetched += 1
            self.n_bytes += n_new_bytes
        if self.progress is not None:
            self.progress(self.n_present + len(self.failures), self.n_total, self.n_bytes)

    def _one(self, photograph: _Photograph) -> _Outcome:
        """Keep, fetch or fail one photograph; runs in a worker thread."""
        try:
            target = path_inside(self.root, photograph.file_name)
            there = self._there(photograph, target)
        except DataError as error:
            return Failure(photograph.file_name, photograph.url, str(error), 0), None
        except OSError as error:
            raise cannot_write(self.root / photograph.file_name, error) from error
        if there is not None:
            return there, None
        try:
            body = self.downloader.fetch(photograph.url, target, photograph.check)
        except GaveUpError as error:
            return Failure(photograph.file_name, photograph.url, error.reason, error.n_attempts), None
        return Fetched.of(photograph.file_name, photograph.url, body), len(body)

    def _there(self, photograph: _Photograph, target: Path) -> Fetched | None:
        """The sound picture that lies there already; a wrong one is moved aside."""
        if not target.is_file():
            return None
        body = target.read_bytes()
        fetched = Fetched.of(photograph.file_name, photograph.url, body)
        if self.known.get(photograph.file_name) == fetched:
            return fetched
        try:
            photograph.check(body)
        except PictureError:
            target.replace(target.with_name(target.name + ".refused"))
            return None
        return fetched


def _fetch_annotations(
    root: Path, source: str | None, known: Fetched | None, downloader: Downloader
) -> Fetched:
    """Bring `annotations.json` where it is not the one that was asked for already."""
    target = root / ANNOTATIONS
    there = target.read_bytes() if target.is_file() else None
    if there is not None:
        fetched = Fetched.of(ANNOTATIONS, source or (known.url if known else ""), there)
        if source is None or fetched == known:
            return fetched
    address = source or TACO_ANNOTATIONS
    if "://" not in address:
        return _copied(Path(address), target)
    try:
        return Fetched.of(ANNOTATIONS, address, downloader.fetch(address, target, _check_annotations))
    except GaveUpError as error:
        raise DataError(
            f"TACO's annotation file cannot be had from {address}: {error.reason}. Without a network, "
            f"put it at {target} and the photographs beside it (batch_1, batch_2, ...); both are in "
            f"{TACO_ARCHIVE}"
        ) from error


def _copied(source: Path, target: Path) -> Fetched:
    try:
        body = source.expanduser().read_bytes()
    except OSError as error:
        raise DataError(f"annotation file {source} cannot be read: {error.strerror or error}") from error
    _refuse(body, f"{source}: {{}}")
    write_bytes(target, body)
    return Fetched.of(ANNOTATIONS, str(source), body)


def _refuse(body: bytes, told: str) -> None:
    """Raise DataError with `told` around the reason if this is no annotation file."""
    try:
        _check_annotations(body)
    except WrongContentError as error:
        raise DataError(told.format(error)) from error


def _check_annotations(body: bytes) -> None:
    """Raise WrongContentError unless this is a COCO file with at least one image."""
    try:
        images = json.loads(body)["images"]
    except (ValueError, KeyError, TypeError) as error:
        raise WrongContentError(f"not a COCO annotation file ({type(error).__name__}: {error})") from error
    if not isinstance(images, list) or not images:
        raise WrongContentError("the annotation file lists no images")


def _read_photographs(path: Path, limit: int | None) -> tuple[list[_Photograph], list[Failure]]:
    """The first `limit` images: those to be had, and those whose entry is refused.

    Raises:
        DataError: not an annotation file, or an entry without name or size.
    """
    body = path.read_bytes()
    _refuse(body, f"{path}: {{}}; delete it to have it fetched again")
    photographs: list[_Photograph] = []
    refused: list[Failure] = []
    taken: set[str] = set()
    for index, entry in enumerate(json.loads(body)["images"][:limit]):
        photograph = _photograph(entry, path, index)
        reason = _refusal(photograph, taken)
        taken.add(photograph.file_name)
        if reason is None:
            photographs.append(photograph)
        else:
            refused.append(Failure(photograph.file_name, photograph.url or None, reason, 0))
    return photographs, refused


def _photograph(entry: Any, path: Path, index: int) -> _Photograph:
    try:
        size_px = int(entry["width"]), int(entry["height"])
        url = entry.get("flickr_url") or entry.get("coco_url") or ""
        return _Photograph(str(entry["file_name"]), str(url), size_px)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{path}: image {index} needs file_name, width and height; {error!r}") from error


def _refusal(photograph: _Photograph, taken: set[str]) -> str | None:
    if photograph.file_name in taken:
        return "the annotation file names this photograph twice"
    if photograph.file_name in _RESERVED or photograph.file_name.endswith(
        (".part", ".part.json", ".refused")
    ):
        return f"refused: {photograph.file_name!r} is a name that the fetching needs for itself"
    if not photograph.url:
        return "the annotation file has no address (flickr_url) for it"
    return None


def _mixed(photographs: Sequence[_Photograph]) -> list[_Photograph]:
    """The same photographs with their hosts in turn, so that all hosts are busy."""
    by_host: dict[str, list[_Photograph]] = {}
    for photograph in photographs:
        by_host.setdefault(host_of(photograph.url), []).append(photograph)
    rounds = zip_longest(*by_host.values())
    return [photograph for photograph in chain.from_iterable(rounds) if photograph is not None]
