"""Pictures that a table names by address, kept in a folder: what is there already is not asked for again.

    DOWNLOADS/3f/3f9c….jpg        a picture, named by the hash of its address; it decoded when it came
    DOWNLOADS/failures.parquet    what could not be had in the last run (file_name, url, reason, attempts)

Manners towards hosts are those of `deponij.pipeline.data.fetching.http`: retries with growing pauses, Retry-After, four
requests at a host at any time. Which rows name addresses is the business of the adapter.
"""

import hashlib
import threading
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from filelock import FileLock, Timeout

from deponij.pipeline.data.endings import PICTURE_ENDINGS
from deponij.pipeline.data.fetching.http import Downloader, GaveUpError, Pace, cannot_write
from deponij.pipeline.data.fetching.ledger import Failure, write_failures
from deponij.pipeline.likeness.phash import GRID_PX
from deponij.pipeline.pictures import Route, decode
from deponij.store.errors import DataError

LOCK = ".fetch.lock"
# Transfers under way, over all hosts.
AT_ONCE = 8
PACE = Pace()


@dataclass
class PictureFetcher:
    """Brings pictures into a folder, from any threads; a context manager, one at a time for a folder.

    Attributes:
        folder: where they are kept.
        timeout_s: longest wait for a connection, or for the next bytes. retries: attempts after the first.
        max_bytes: larger files are refused.

    Raises:
        DataError: another process is fetching into the folder, or it cannot be written.
    """

    folder: Path
    timeout_s: float
    retries: int
    max_bytes: int
    _failures: dict[str, Failure] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> Self:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._held = FileLock(self.folder / LOCK, timeout=0)
            self._held.acquire()
        except Timeout as error:
            raise DataError(f"another process is fetching into {self.folder}; wait for its end") from error
        except OSError as error:
            raise cannot_write(self.folder, error) from error
        self._downloader = Downloader(
            timeout_s=self.timeout_s, retries=self.retries, pace=PACE, max_bytes=self.max_bytes
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._downloader.__exit__()
        try:
            write_failures(self.folder, self._failures.values())
        finally:
            self._held.release()

    def stop(self) -> None:
        """Make all transfers end soon; what has arrived stays for the next run."""
        self._downloader.stop()

    def fetch(self, url: str) -> None:
        """See to it that the picture of an address lies at `file_of`.

        Raises:
            GaveUpError: it cannot be had. StoppedError: after `stop`. DataError: the folder cannot be written.
        """
        name = file_of(url)
        if (self.folder / name).is_file():
            return
        try:
            self._downloader.fetch(url, self.folder / name, _check)
        except GaveUpError as error:
            with self._lock:
                self._failures[name] = Failure(name, url, error.reason, error.n_attempts)
            raise


def file_of(url: str) -> str:
    """Where the picture of an address lies, below the folder."""
    digest = hashlib.blake2b(url.encode(), digest_size=20).hexdigest()
    try:
        ending = PurePosixPath(urlsplit(url).path).suffix.lower()
    except ValueError:
        ending = ""
    return f"{digest[:2]}/{digest}{ending if ending in PICTURE_ENDINGS else ''}"


def _check(body: bytes) -> None:
    """Raise PictureError unless this is a picture, whole."""
    decode(body, route=Route.DRAFT, input_px=(GRID_PX, GRID_PX))
