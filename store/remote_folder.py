"""A depot's files in an object store, through fsspec (s3://, gs://, memory://, …).

There is no rename: a file is uploaded in one piece, and whatever commits it is uploaded last. Which endpoint, with which
credentials, and how often a request is tried again is the business of the protocol's package and its own settings.
"""

import datetime
import errno
import io
import shutil
import sys
import tempfile
import time
import weakref
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import IO, Any

from deponij.store import agreeing
from deponij.store.atomic import PART
from deponij.store.errors import StoreError, explained
from deponij.store.folders import Stamps
from deponij.store.locks import hold, release

# How folders for files that are about to be uploaded are called.
_STAGED = "deponij-upload-"
_IN_MEMORY_BYTES = 64 << 20
_FIRST = {"start": 0, "end": _IN_MEMORY_BYTES}
# Where a name can be given to one of several who want it (S3: `If-None-Match: *`; GCS: generation 0); other packages of
# fsspec's look first and write then.
_CREATING = {"s3", "s3a", "gs", "gcs", "memory"}
# What clients raise that is no OSError; only a module that was imported can have raised anything.
_CLIENTS = {
    "botocore.exceptions": ("BotoCoreError", "ClientError"),
    "aiohttp": ("ClientError",),
    "gcsfs.retry": ("HttpError",),
    "google.auth.exceptions": ("GoogleAuthError",),
    "azure.core.exceptions": ("AzureError",),
}


class RemoteFolder:
    """A prefix of an object store, through fsspec."""

    is_local = False

    def __init__(self, url: str) -> None:
        import fsspec

        self.location = url.rstrip("/")
        # From a listing that the client keeps would be missing what others have written since.
        self._fs, self._root = fsspec.core.url_to_fs(self.location, use_listings_cache=False)
        # Whether the server knows the condition is asked when it is needed.
        self._can_create: bool | None = None if _CREATING & set(_protocols(self._fs)) else False

    @cached_property
    def _local(self) -> Path:
        """Where files lie until they are uploaded; those of processes that were killed go."""
        for left in Path(tempfile.gettempdir()).glob(f"{_STAGED}*"):
            with suppress(OSError):  # another user's, or gone meanwhile
                if (held := hold(left, create=False)) is not None:
                    _drop(left, held)
        path, held = _own_folder()
        # When this is freed, or the process ends.
        weakref.finalize(self, _drop, path, held)
        return path

    def _at(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    def names(self, below: str = "") -> list[str]:
        with _explained(f"cannot list {self.location}"):
            start = len(self._root.rstrip("/")) + 1
            try:
                return sorted(path[start:] for path in self._fs.find(self._at(below).rstrip("/")))
            except FileNotFoundError:
                return []

    def stamps(self, but: Collection[str]) -> Stamps | None:
        return None

    def made(self, name: str) -> str:
        with _explained(f"cannot read {self.location}/{name}"):
            return str(self._fs.ukey(self._at(name)))

    def read(self, name: str) -> bytes:
        with _explained(f"cannot read {self.location}/{name}"):
            data = self._first(name)
            return data if len(data) < _IN_MEMORY_BYTES else bytes(self._fs.cat_file(self._at(name)))

    def _first(self, name: str) -> bytes:
        """As many bytes as are kept in memory: all of most files, in one request; s3fs alone asks for the size before."""
        try:
            return bytes(self._fs.cat_file(self._at(name), **_FIRST))
        except FileNotFoundError:
            raise
        except OSError as error:
            # S3 knows no ranges of an empty file.
            if error.errno == errno.EINVAL and self._fs.size(self._at(name)) == 0:
                return b""
            raise

    def read_many(self, names: Iterable[str]) -> dict[str, bytes]:
        paths = {self._at(name): name for name in names}
        if not paths:
            return {}
        with _explained(f"cannot read {self.location}"):
            answers: dict[str, Any] = self._fs.cat(list(paths), on_error="return", **_FIRST)
        found = {}
        for path, data in answers.items():
            if isinstance(data, bytes) and len(data) < _IN_MEMORY_BYTES:
                found[paths[path]] = data
            elif not isinstance(data, FileNotFoundError):
                # Empty, large, or not to be had: taking that for absent would compute it all again.
                with suppress(FileNotFoundError):
                    found[paths[path]] = self.read(paths[path])
        return found

    def write(self, name: str, data: bytes) -> None:
        with _explained(f"cannot write {self.location}/{name}", also_absent=True):
            self._fs.pipe_file(self._at(name), data)

    def create(self, name: str, data: bytes) -> bool:
        with _explained(f"cannot write {self.location}/{name}", also_absent=True):
            if self._can_create is None:
                probe = agreeing.probe_name()
                self._can_create = self._take(probe, b"first") and not self._take(probe, b"second")
                self.delete(probe)
            return self._take(name, data) if self._can_create else agreeing.settle(self, name, data)

    def _take(self, name: str, data: bytes) -> bool:
        """Upload under the condition that there is nothing of that name."""
        try:
            self._fs.pipe_file(self._at(name), data, mode="create")
            return True
        except OSError:
            # Refused; or done, its answer lost, and then refused when the client asked again. What is there tells.
            with suppress(FileNotFoundError):
                return self._first(name) == data
            raise

    def staging(self, name: str) -> Path:
        with explained(f"cannot write a temporary file for {self.location}/{name}"):
            path = self._local / (name + PART)
            path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def publish(self, part: Path, name: str) -> None:
        with _explained(f"cannot write {self.location}/{name}", also_absent=True):
            self._fs.put_file(str(part), self._at(name))
        part.unlink()

    def source(self, name: str) -> Path | IO[bytes]:
        return self.open(name)

    def open(self, name: str) -> IO[bytes]:
        with _explained(f"cannot read {self.location}/{name}"):
            data = self._first(name)
            if len(data) < _IN_MEMORY_BYTES:
                return io.BytesIO(data)
            # HDF5 makes many small reads; a block cache turns them into a few large ones.
            file: IO[bytes] = self._fs.open(self._at(name), "rb")
            return file

    def copy(self, name: str, to: str) -> None:
        with _explained(f"cannot write {self.location}/{to}"):
            self._fs.cp_file(self._at(name), self._at(to))

    def size_bytes(self, name: str) -> int:
        with _explained(f"cannot read {self.location}/{name}"):
            return int(self._fs.size(self._at(name)))

    def modified_s(self, name: str) -> float:
        with _explained(f"cannot read {self.location}/{name}"):
            modified: datetime.datetime = self._fs.modified(self._at(name))
        return (modified if modified.tzinfo else modified.replace(tzinfo=datetime.UTC)).timestamp()

    def age_s(self, name: str) -> float:
        try:
            return max(0.0, time.time() - self.modified_s(name))
        except (NotImplementedError, FileNotFoundError):
            return 0.0

    def delete(self, name: str) -> None:
        with _explained(f"cannot delete {self.location}/{name}"), suppress(FileNotFoundError):
            self._fs.rm_file(self._at(name))


def _own_folder() -> tuple[Path, int | None]:
    """A new folder for temporary files, and the lock that says that its process lives; None where there are no locks."""
    while True:
        path = Path(tempfile.mkdtemp(prefix=_STAGED))
        try:
            if (held := hold(path, create=False)) is not None:
                return path, held
        except FileNotFoundError:
            continue  # swept by another process before it was locked
        except OSError:
            # Nobody can lock it, so that nobody sweeps it.
            return path, None


def _drop(path: Path, held: int | None) -> None:
    shutil.rmtree(path, ignore_errors=True)
    if held is not None:
        release(held)


@contextmanager
def _explained(what: str, *, also_absent: bool = False) -> Iterator[None]:
    """In a line what the system or the libraries behind fsspec raise, each by its own hierarchy."""
    with explained(what, passing=() if also_absent else (FileNotFoundError,)):
        try:
            yield
        except _client_errors() as error:
            raise StoreError(f"{what}: {' '.join(str(error).split()) or type(error).__name__}") from error


def _client_errors() -> tuple[type[Exception], ...]:
    return tuple(
        getattr(sys.modules[module], name)
        for module, names in _CLIENTS.items()
        if module in sys.modules
        for name in names
    )


def _protocols(fs: Any) -> tuple[str, ...]:
    return (fs.protocol,) if isinstance(fs.protocol, str) else tuple(fs.protocol)
