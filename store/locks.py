"""Locks that the kernel lets go of when their process ends, however it ends.

They are those of the file system, not process ids, so that they hold across containers. Who is at work in a depot is told
by `deponij.store.presence`, also where there are none.
"""

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deponij.store.errors import StoreError

WAIT_S = 30.0
_POLL_S = 0.02
# What a file system says that has no locks: of NFS without a lock daemon, of FUSE and others.
NO_LOCKS = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS})

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
        except OSError as error:
            os.close(descriptor)
            if error.errno in NO_LOCKS:
                told = f"{error.strerror}: this file system has no locks; a depot can lie on it, a run needs another disk"
                raise OSError(error.errno, told) from error
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
        StoreError: another process keeps writing.
        OSError: as `hold`.
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
