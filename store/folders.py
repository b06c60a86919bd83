"""Where a depot's files lie: a local folder, or any fsspec path (s3://, gs://, memory://, …).

Both give the same promise: a name is either absent or whole. An object store is in `deponij.store.remote_folder`.
"""

import os
import shutil
import time
from collections.abc import Iterable
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import IO, Protocol

from deponij.store.atomic import PART, make_folder, publish
from deponij.store.errors import StoreError, explained

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
    from deponij.store.remote_folder import RemoteFolder

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


def _explained(what: str, *, also_absent: bool = False) -> AbstractContextManager[None]:
    return explained(what, passing=() if also_absent else (FileNotFoundError,))


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
