"""Where a depot's files lie: a local folder, or any fsspec path (s3://, gs://, memory://, …).

Both backends give the same promise: a name is either absent or whole. Locally that is rename; an
object store has none, so a file is uploaded in one piece and whatever commits it is uploaded last.
"""

import datetime
import errno
import io
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Protocol

from deponij.store import agreeing
from deponij.store.atomic import PART, make_folder, publish
from deponij.store.errors import StoreError, explained

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
# damaged/<fingerprint>/<shard>.h5; deeper lies nothing of a depot.
_DEPTH = 3


class Folder(Protocol):
    """A flat-named set of files; names are POSIX paths below the folder.

    Where a file is absent `FileNotFoundError` is raised; everything else that goes wrong with the
    medium (rights, a full disk, a lost connection) is a `StoreError`.
    """

    location: str
    is_local: bool

    def names(self, below: str = "") -> list[str]:
        """All files' names, sorted, unfinished ones (`*.part`) included.

        Args:
            below: list this folder alone.
        """

    def read(self, name: str) -> bytes:
        """A file's bytes. Raises FileNotFoundError."""

    def read_many(self, names: Iterable[str]) -> dict[str, bytes]:
        """Several small files; names that vanish meanwhile are left out."""

    def write(self, name: str, data: bytes) -> None:
        """Publish a small file whole."""

    def create(self, name: str, data: bytes) -> bool:
        """Publish a small file whole where there is none of that name; False where there is one.

        Args:
            data: nobody else's, so that one can tell who was first.
        """

    def staging(self, name: str) -> Path:
        """A local path at which to build the file that `publish` will give that name."""

    def publish(self, part: Path, name: str) -> None:
        """Make a file built at `staging(name)` visible under its name."""

    def source(self, name: str) -> Path | IO[bytes]:
        """What to hand to HDF5: a local path, or an open file with seek. Raises FileNotFoundError."""

    def open(self, name: str) -> IO[bytes]:
        """Open for reading with seek. Raises FileNotFoundError."""

    def copy(self, name: str, to: str) -> None:
        """Give a file a second name; an earlier file of that name is replaced."""

    def size_bytes(self, name: str) -> int:
        """Raises FileNotFoundError."""

    def modified_s(self, name: str) -> float:
        """When the file was last written, by the medium's clock, in seconds since 1970. Raises FileNotFoundError."""

    def age_s(self, name: str) -> float:
        """Seconds since the file was last written, by this machine's clock; 0 where the backend does not tell."""

    def delete(self, name: str) -> None:
        """Remove a file; absent is fine."""


def open_folder(location: str | Path) -> Folder:
    """The backend for a path or URL.

    Raises:
        StoreError: the protocol is unknown or its package is not installed.
    """
    text = str(location)
    if "://" not in text:
        return LocalFolder(Path(text))
    protocol, path = text.split("://", 1)
    if protocol in ("file", "local"):
        return LocalFolder(Path(path))
    try:
        return RemoteFolder(text)
    except (ValueError, ImportError) as error:
        raise StoreError(f"cannot open the depot {text}: {error}") from error


class LocalFolder:
    """A folder of the local file system."""

    is_local = True

    def __init__(self, path: Path) -> None:
        # Absolute, so that a change of the working directory moves nothing.
        self.path = path.expanduser().absolute()
        self.location = str(self.path)

    def names(self, below: str = "") -> list[str]:
        found: list[str] = []
        with _explained(f"cannot read {self.path / below}"):
            if below:
                self._list(self.path / below, f"{below}/", found, 1)
            else:
                self._list(self.path, "", found, _DEPTH)
        return sorted(found)

    def _list(self, folder: Path, prefix: str, found: list[str], depth: int) -> None:
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.is_dir() and depth > 1:
                        self._list(folder / entry.name, f"{prefix}{entry.name}/", found, depth - 1)
                    else:
                        found.append(prefix + entry.name)
        except FileNotFoundError:
            return

    def read(self, name: str) -> bytes:
        with _explained(f"cannot read {self.path / name}"):
            return (self.path / name).read_bytes()

    def read_many(self, names: Iterable[str]) -> dict[str, bytes]:
        found = {}
        for name in names:
            with suppress(FileNotFoundError):
                found[name] = self.read(name)
        return found

    def write(self, name: str, data: bytes) -> None:
        part = self.staging(name)
        with _explained(f"cannot write {self.path / name}", also_absent=True):
            try:
                part.write_bytes(data)
                publish(part, self.path / name)
            except BaseException:
                part.unlink(missing_ok=True)
                raise

    def create(self, name: str, data: bytes) -> bool:
        part = self.staging(name)
        with _explained(f"cannot write {self.path / name}", also_absent=True):
            try:
                part.write_bytes(data)
                _give_name(part, self.path / name, data)
            except FileExistsError:
                return False
            finally:
                part.unlink(missing_ok=True)
        return True

    def staging(self, name: str) -> Path:
        # Several processes may publish one name at once (a marker, say): each builds its own.
        path = self.path / f"{name}.{os.getpid()}{PART}"
        with _explained(f"cannot create {path.parent}", also_absent=True):
            make_folder(path.parent)
        return path

    def publish(self, part: Path, name: str) -> None:
        with _explained(f"cannot write {self.path / name}", also_absent=True):
            publish(part, self.path / name)

    def source(self, name: str) -> Path | IO[bytes]:
        return self.path / name

    def open(self, name: str) -> IO[bytes]:
        with _explained(f"cannot read {self.path / name}"):
            return (self.path / name).open("rb")

    def copy(self, name: str, to: str) -> None:
        with _explained(f"cannot write {self.path / to}"):
            make_folder((self.path / to).parent)
            (self.path / to).unlink(missing_ok=True)
            try:
                (self.path / to).hardlink_to(self.path / name)
            except FileNotFoundError:
                raise
            except OSError:
                # No hard links on this file system.
                part = self.staging(to)
                shutil.copyfile(self.path / name, part)
                publish(part, self.path / to)

    def size_bytes(self, name: str) -> int:
        with _explained(f"cannot read {self.path / name}"):
            return (self.path / name).stat().st_size

    def modified_s(self, name: str) -> float:
        with _explained(f"cannot read {self.path / name}"):
            return (self.path / name).stat().st_mtime

    def age_s(self, name: str) -> float:
        try:
            return max(0.0, time.time() - (self.path / name).stat().st_mtime)
        except FileNotFoundError:
            return 0.0

    def delete(self, name: str) -> None:
        # The folder stays even when it is empty: a writer may be about to build a file in it.
        with _explained(f"cannot delete {self.path / name}"):
            (self.path / name).unlink(missing_ok=True)


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
        self._local = Path(tempfile.mkdtemp(prefix="deponij-"))

    def __del__(self) -> None:
        if hasattr(self, "_local"):
            shutil.rmtree(self._local, ignore_errors=True)

    def _at(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    def names(self, below: str = "") -> list[str]:
        with _explained_remote(f"cannot list {self.location}"):
            start = len(self._root.rstrip("/")) + 1
            try:
                return sorted(path[start:] for path in self._fs.find(self._at(below).rstrip("/")))
            except FileNotFoundError:
                return []

    def read(self, name: str) -> bytes:
        with _explained_remote(f"cannot read {self.location}/{name}"):
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
        with _explained_remote(f"cannot read {self.location}"):
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
        with _explained_remote(f"cannot write {self.location}/{name}", also_absent=True):
            self._fs.pipe_file(self._at(name), data)

    def create(self, name: str, data: bytes) -> bool:
        with _explained_remote(f"cannot write {self.location}/{name}", also_absent=True):
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
        path = self._local / (name + PART)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def publish(self, part: Path, name: str) -> None:
        with _explained_remote(f"cannot write {self.location}/{name}", also_absent=True):
            self._fs.put_file(str(part), self._at(name))
        part.unlink()

    def source(self, name: str) -> Path | IO[bytes]:
        return self.open(name)

    def open(self, name: str) -> IO[bytes]:
        with _explained_remote(f"cannot read {self.location}/{name}"):
            data = self._first(name)
            if len(data) < _IN_MEMORY_BYTES:
                return io.BytesIO(data)
            # HDF5 makes many small reads; a block cache turns them into a few large ones.
            file: IO[bytes] = self._fs.open(self._at(name), "rb")
            return file

    def copy(self, name: str, to: str) -> None:
        with _explained_remote(f"cannot write {self.location}/{to}"):
            self._fs.cp_file(self._at(name), self._at(to))

    def size_bytes(self, name: str) -> int:
        with _explained_remote(f"cannot read {self.location}/{name}"):
            return int(self._fs.size(self._at(name)))

    def modified_s(self, name: str) -> float:
        with _explained_remote(f"cannot read {self.location}/{name}"):
            modified: datetime.datetime = self._fs.modified(self._at(name))
        return (modified if modified.tzinfo else modified.replace(tzinfo=datetime.UTC)).timestamp()

    def age_s(self, name: str) -> float:
        try:
            return max(0.0, time.time() - self.modified_s(name))
        except (NotImplementedError, FileNotFoundError):
            return 0.0

    def delete(self, name: str) -> None:
        with _explained_remote(f"cannot delete {self.location}/{name}"), suppress(FileNotFoundError):
            self._fs.rm_file(self._at(name))


def _explained(what: str, *, also_absent: bool = False) -> AbstractContextManager[None]:
    return explained(what, passing=() if also_absent else (FileNotFoundError,))


@contextmanager
def _explained_remote(what: str, *, also_absent: bool = False) -> Iterator[None]:
    """As `_explained`, of what the libraries behind fsspec raise too, each by its own hierarchy."""
    with _explained(what, also_absent=also_absent):
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


def _give_name(part: Path, path: Path, data: bytes) -> None:
    """Give a file its name where there is none of that name; raises FileExistsError."""
    try:
        # A second name is given to a file or not at all, on network file systems too.
        path.hardlink_to(part)
    except FileExistsError:
        raise
    except OSError:
        # No hard links on this file system. For a moment others may find the file empty.
        with path.open("xb") as file:
            file.write(data)
