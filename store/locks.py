"""Who is at work: locks that the kernel lets go of when their process ends, however it ends.

Files that are not yet committed carry their writer's token in their name, so that what a dead
process left behind can be told from what a living one is about to commit. Locks are those of the
local file system, not process ids, so that they hold across containers; in an object store there
are none and age decides (`ORPHAN_AGE_S`).
"""

import fcntl
import os
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from deponij.store.errors import StoreError, explained

LOCKS = "writers"
ORPHAN_AGE_S = 24 * 3600.0
_TIDYING = "tidying"
WAIT_S = 30.0
_POLL_S = 0.02

# A forked child would keep its parent's locks alive after the parent was killed.
_HELD: set[int] = set()


def _let_go_in_child() -> None:
    for descriptor in _HELD:
        os.close(descriptor)
    _HELD.clear()


os.register_at_fork(after_in_child=_let_go_in_child)


def hold(path: Path, *, create: bool = True, wait_s: float = 0.0) -> int | None:
    """Lock a file (or an existing folder) for this process alone.

    Args:
        create: make the file where there is none.
        wait_s: how long to wait for another holder.

    Returns:
        A descriptor for `release`, or None while somebody else holds it.

    Raises:
        OSError: the file cannot be opened, or the file system has no locks.
    """
    deadline = time.monotonic() + wait_s
    # Network file systems lock only what is open for writing; folders cannot be opened so.
    flags = os.O_RDONLY if path.is_dir() else os.O_RDWR | (os.O_CREAT if create else 0)
    while True:
        descriptor = os.open(path, flags | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_still_there(descriptor, path):
                _HELD.add(descriptor)
                return descriptor
            os.close(descriptor)
        except BlockingIOError:
            os.close(descriptor)
            if time.monotonic() >= deadline:
                return None
            time.sleep(_POLL_S)
        except OSError:
            os.close(descriptor)
            raise


def release(descriptor: int) -> None:
    """Let go of a lock; nothing happens in a forked child, which does not hold it."""
    if descriptor in _HELD:
        _HELD.discard(descriptor)
        os.close(descriptor)


@contextmanager
def holding(path: Path, written: Path, *, create: bool = True) -> Iterator[None]:
    """Lock a file (or an existing folder) while `written` is being written; of two processes the second waits.

    Raises:
        StoreError: another process keeps writing. OSError: as `hold`.
    """
    held = hold(path, create=create, wait_s=WAIT_S)
    if held is None:
        raise StoreError(f"another process is writing {written}; wait for it to end")
    try:
        yield
    finally:
        release(held)


def _is_still_there(descriptor: int, path: Path) -> bool:
    # Whoever held the file before may have renamed or removed it.
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


class WriterLock:
    """A writer's presence in a depot, and the token that its files carry."""

    def __init__(self, folder: Path | None) -> None:
        """Args: folder: a depot's local folder; None in an object store, where there are no locks."""
        self.token = f"{_host()}.{os.getpid()}.{secrets.token_hex(4)}"
        self._path = None if folder is None else folder / LOCKS / f"{self.token}.lock"
        self._held: int | None = None

    def __enter__(self) -> Self:
        if self._path is not None:
            self._held = _hold_in_depot(self._path)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._path is not None and self._held is not None:
            self._path.unlink(missing_ok=True)
            release(self._held)
            self._held = None


@contextmanager
def tidying(folder: Path | None) -> Iterator[None]:
    """Be the only process that takes shards away; writers and readers go on.

    Raises:
        StoreError: another process is tidying this depot.
    """
    if folder is None:
        yield
        return
    path = folder / LOCKS / f"{_TIDYING}.lock"
    held = _hold_in_depot(path)
    if held is None:
        raise StoreError(
            f"another process is compacting, collecting or repairing {folder}; wait for it to end"
        )
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        release(held)


@contextmanager
def burying(folder: Path) -> Iterator[set[str]]:
    """Hold the locks of all dead writers while the block removes what they left; then forget them.

    Yields:
        The tokens of the living. A token that has no lock file at all is dead.
    """
    living, dead = set(), {}
    try:
        for path in sorted((folder / LOCKS).glob("*.lock")):
            try:
                held = hold(path, create=False)
            except FileNotFoundError:
                continue
            except OSError:
                # Not ours to judge: a depot of another user, or one that is read-only.
                held = None
            if held is None:
                living.add(path.stem)
            else:
                dead[path] = held
        yield living
    finally:
        for path, held in dead.items():
            path.unlink(missing_ok=True)
            release(held)


def _hold_in_depot(path: Path) -> int | None:
    with explained(f"cannot write to the depot: {path}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        return hold(path)


def _host() -> str:
    name = "".join(c if c.isalnum() and c.isascii() else "-" for c in socket.gethostname())
    return name[:24] or "host"
