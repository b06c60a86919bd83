"""Pictures that a table names by address, fetched into a folder of their own, several at a time.

A file lies there under the hash of its address once its body has been seen to decode; so an interrupted run goes on, and a
second one asks for nothing again. How hosts are asked is `deponij.pipeline.data.fetching.http`'s business.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from deponij.pipeline.data.fetching.http import Downloader, GaveUpError, Pace
from deponij.pipeline.data.inside import MAX_PICTURE_BYTES
from deponij.pipeline.pictures import decode
from deponij.store.errors import DataError

AT_ONCE = 8
TIMEOUT_S = 30.0
RETRIES = 4


class Addresses:
    """Fetches what is not here yet, from any threads.

    Args:
        folder: for the files.
        downloader: whose pace hosts are asked at.
    """

    def __init__(self, folder: Path, downloader: Downloader) -> None:
        self._folder, self._downloader = folder, downloader

    def stop(self) -> None:
        """Make all transfers end soon; what has arrived stays for the next run."""
        self._downloader.stop()

    def fetched(self, address: str) -> str:
        """The file of an address below the folder, which is fetched where it is not there.

        Raises:
            DataError: it is no address of the web, its host does not give it, or what it gives is no picture; or the
                disk is full.
        """
        name = file_of(address)
        path = self._folder / name
        if path.is_file():
            return name
        if urlsplit(address).scheme not in ("http", "https"):
            raise DataError(f"{address} is no address that is fetched: http and https are")
        try:
            self._downloader.fetch(address, path, _check)
        except GaveUpError as error:
            raise DataError(f"{address}: {error.reason} (after {error.n_attempts} attempts)") from error
        return name


def file_of(address: str) -> str:
    """Where an address's picture lies, or will, below the folder."""
    digest = hashlib.sha256(address.encode()).hexdigest()
    return f"{digest[:2]}/{digest}"


def _check(body: bytes) -> None:
    decode(body)


@contextmanager
def addresses(folder: Path, pace: Pace | None = None) -> Iterator[Addresses]:
    """For the time of the block; what is under way when it ends early stays for the next run."""
    pace = pace or Pace()
    with Downloader(
        timeout_s=TIMEOUT_S, retries=RETRIES, pace=pace, max_bytes=MAX_PICTURE_BYTES
    ) as downloader:
        there = Addresses(folder, downloader)
        try:
            yield there
        finally:
            there.stop()
