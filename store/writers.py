"""Who is writing: a token for each writer, alive as long as its lock is held.

Files that are not yet committed carry their writer's token in their name, so that what a dead
process left behind can be told from what a living one is about to commit. Locks are those of the
local file system; in an object store age decides (`ORPHAN_AGE_S`).
"""

import fcntl
import os
import secrets
import socket
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from store.errors import StoreError

LOCKS = "writers"
ORPHAN_AGE_S = 24 * 3600.0


class WriterLock:
    """A held lock file; the kernel lets go of it when the process ends, however it ends."""

    def __init__(self, folder: Path | None) -> None:
        """Args: folder: a depot's local folder; None in an object store, where there are no locks."""
        self.token = f"{_host()}.{os.getpid()}.{secrets.token_hex(4)}"
        self._path = None if folder is None else folder / LOCKS / f"{self.token}.lock"
        self._file: IO[str] | None = None

    def __enter__(self) -> Self:
        if self._path is not None:
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._acquire(self._path)
            except OSError as error:
                raise StoreError(f"cannot write to the depot: {self._path}: {error.strerror}") from error
        return self

    def _acquire(self, path: Path) -> None:
        # A sweeper may take the file between its creation and its locking; then it is made again.
        while self._file is None:
            file = path.open("w")
            fcntl.flock(file, fcntl.LOCK_EX)
            try:
                same = os.fstat(file.fileno()).st_ino == path.stat().st_ino
            except FileNotFoundError:
                same = False
            if same:
                self._file = file
            else:
                file.close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._path is not None and self._file is not None:
            self._path.unlink(missing_ok=True)
            self._file.close()
            self._file = None


def dead_tokens(folder: Path) -> list[str]:
    """Tokens of writers that are gone; their lock files are removed by `forget`."""
    dead = []
    for path in sorted((folder / LOCKS).glob("*.lock")):
        try:
            with path.open("r") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                dead.append(path.stem)
        except (BlockingIOError, FileNotFoundError):
            continue
    return dead


def living_tokens(folder: Path) -> set[str]:
    """Tokens whose lock is held at this moment."""
    dead = set(dead_tokens(folder))
    return {path.stem for path in (folder / LOCKS).glob("*.lock")} - dead


def forget(folder: Path, token: str) -> None:
    """Remove a dead writer's lock file."""
    (folder / LOCKS / f"{token}.lock").unlink(missing_ok=True)


def _host() -> str:
    name = "".join(c if c.isalnum() else "-" for c in socket.gethostname())
    return name[:24] or "host"
