"""Where a depot's files lie: a local folder, or any fsspec path (s3://, gs://, memory://, …).

Both backends give the same promise: a name is either absent or whole. Locally that is rename; an
object store has none, so a file is uploaded in one piece and whatever commits it is uploaded last.
"""

import datetime
import io
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Protocol

import fsspec

from store.atomic import PART, flush, publish
from store.errors import StoreError


class Folder(Protocol):
    """A flat-named set of files; names are POSIX paths below the folder."""

    location: str
    is_local: bool

    def names(self) -> list[str]:
        """All files' names, sorted, unfinished ones (`*.part`) included."""

    def read(self, name: str) -> bytes:
        """A file's bytes. Raises FileNotFoundError."""

    def read_many(self, names: Iterable[str]) -> dict[str, bytes]:
        """Several small files; names that vanish meanwhile are left out."""

    def write(self, name: str, data: bytes) -> None:
        """Publish a small file whole."""

    def staging(self, name: str) -> Path:
        """A local path at which to build the file that `publish` will give that name."""

    def publish(self, part: Path, name: str) -> None:
        """Make a file built at `staging(name)` visible under its name."""

    def open(self, name: str) -> IO[bytes]:
        """Open for reading with seek. Raises FileNotFoundError."""

    def size_bytes(self, name: str) -> int:
        """Raises FileNotFoundError."""

    def age_s(self, name: str) -> float:
        """Seconds since the file was last written; 0 where the backend does not tell."""

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
        self.path = path
        self.location = str(path)

    def names(self) -> list[str]:
        found = []
        for folder, _, files in os.walk(self.path):
            relative = Path(folder).relative_to(self.path)
            found += [(relative / file).as_posix() for file in files]
        return sorted(found)

    def read(self, name: str) -> bytes:
        return (self.path / name).read_bytes()

    def read_many(self, names: Iterable[str]) -> dict[str, bytes]:
        found = {}
        for name in names:
            with suppress(FileNotFoundError):
                found[name] = self.read(name)
        return found

    def write(self, name: str, data: bytes) -> None:
        part = self.staging(name)
        with _explained(f"cannot write {self.path / name}"):
            part.write_bytes(data)
            publish(part, self.path / name)

    def staging(self, name: str) -> Path:
        # Several processes may publish one name at once (a marker, say): each builds its own.
        path = self.path / f"{name}.{os.getpid()}{PART}"
        with _explained(f"cannot create {path.parent}"):
            path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def publish(self, part: Path, name: str) -> None:
        with _explained(f"cannot write {self.path / name}"):
            publish(part, self.path / name)

    def open(self, name: str) -> IO[bytes]:
        return (self.path / name).open("rb")

    def size_bytes(self, name: str) -> int:
        return (self.path / name).stat().st_size

    def age_s(self, name: str) -> float:
        try:
            return max(0.0, time.time() - (self.path / name).stat().st_mtime)
        except FileNotFoundError:
            return 0.0

    def delete(self, name: str) -> None:
        (self.path / name).unlink(missing_ok=True)
        with suppress(OSError):
            (self.path / name).parent.rmdir()
            flush(self.path)


class RemoteFolder:
    """A prefix of an object store, through fsspec."""

    is_local = False

    def __init__(self, url: str) -> None:
        self.location = url.rstrip("/")
        self._fs, self._root = fsspec.core.url_to_fs(self.location)
        self._local = Path(tempfile.mkdtemp(prefix="deponij-"))

    def __del__(self) -> None:
        if hasattr(self, "_local"):
            shutil.rmtree(self._local, ignore_errors=True)

    def _at(self, name: str) -> str:
        return f"{self._root}/{name}"

    def names(self) -> list[str]:
        self._fs.invalidate_cache()
        if not self._fs.exists(self._root):
            return []
        start = len(self._root.rstrip("/")) + 1
        return sorted(path[start:] for path in self._fs.find(self._root))

    def read(self, name: str) -> bytes:
        data = self._fs.cat_file(self._at(name))
        return bytes(data)

    def read_many(self, names: Iterable[str]) -> dict[str, bytes]:
        paths = {self._at(name): name for name in names}
        if not paths:
            return {}
        answers: dict[str, Any] = self._fs.cat(list(paths), on_error="return")
        return {paths[path]: bytes(data) for path, data in answers.items() if not isinstance(data, Exception)}

    def write(self, name: str, data: bytes) -> None:
        with _explained(f"cannot write {self.location}/{name}"):
            self._fs.pipe_file(self._at(name), data)

    def staging(self, name: str) -> Path:
        path = self._local / (name + PART)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def publish(self, part: Path, name: str) -> None:
        with _explained(f"cannot write {self.location}/{name}"):
            self._fs.put_file(str(part), self._at(name))
        part.unlink()

    def open(self, name: str) -> IO[bytes]:
        # HDF5 makes many small reads; a block cache turns them into a few large ones.
        file: IO[bytes] = io.BytesIO(self.read(name)) if self._small(name) else self._fs.open(self._at(name), "rb")
        return file

    def _small(self, name: str) -> bool:
        return self.size_bytes(name) <= 64 * 2**20

    def size_bytes(self, name: str) -> int:
        return int(self._fs.size(self._at(name)))

    def age_s(self, name: str) -> float:
        try:
            modified = self._fs.modified(self._at(name))
        except (NotImplementedError, FileNotFoundError):
            return 0.0
        if modified.tzinfo is None:
            modified = modified.replace(tzinfo=datetime.UTC)
        return max(0.0, (datetime.datetime.now(datetime.UTC) - modified).total_seconds())

    def delete(self, name: str) -> None:
        with suppress(FileNotFoundError):
            self._fs.rm_file(self._at(name))


@contextmanager
def _explained(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(f"{what}: {error.strerror or error}") from error
