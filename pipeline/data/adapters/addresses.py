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

    def file(self, address: str) -> Path:
        """Where an address's picture lies, or will."""
        digest = hashlib.sha256(address.encode()).hexdigest()
        return self._folder / digest[:2] / digest

    def fetched(self, address: str) -> Path:
        """The file of an address, which is fetched where it is not there.

        Raises:
            DataError: it is no address of the web, its host does not give it, or what it gives is no picture; or the
                disk is full.
        """
        path = self.file(address)
        if path.is_file():
            return path
        if urlsplit(address).scheme not in ("http", "https"):
            raise DataError(f"{address} is no address that is fetched: http and https are")
        try:
            self._downloader.fetch(address, path, _check)
        except GaveUpError as error:
            raise DataError(f"{address}: {error.reason} (after {error.n_attempts} attempts)") from error
        return path


def _check(body: bytes) -> None:
    decode(body)


@contextmanager
def addresses(folder: Path, pace: Pace | None = None) -> Iterator[Addresses]:
    """For the time of the block; what is under way when it ends early stays for the next run."""
    with Downloader(timeout_s=TIMEOUT_S, retries=RETRIES, pace=pace or Pace()) as downloader:
        try:
            yield Addresses(folder, downloader)
        finally:
            downloader.stop()
