"""The one hierarchy of errors that Deponij raises for its users.

A message says what was got, what is allowed and what to do. `cli.py` prints it and exits 1
(2 for `UsageError`); nothing else in the project prints or exits.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager


class DeponijError(Exception):
    """Base of everything a user can be told. Never a programming error."""


class UsageError(DeponijError):
    """The request itself is wrong: an unknown name, a bad parameter, flags that exclude each other."""


class DataError(DeponijError):
    """A data set, picture, table or annotation file is missing, damaged or not what it should be."""


class PictureError(DataError):
    """One picture cannot be read. Recorded per item; the run goes on."""


class StoreError(DeponijError):
    """Something on disk is missing, damaged, of a newer format or held by another process."""


class IdentityError(StoreError):
    """Features of one identity were asked for and another one is there; the message names the difference."""


class BackboneError(DeponijError):
    """Weights are absent, do not fill the model, or the model cannot do what was asked."""


class ClusterError(DeponijError):
    """The cluster that was named cannot be reached, or its workers cannot do what was asked."""


class MachineError(DeponijError):
    """The machine has run out of something: memory, disk, file descriptors, threads."""


# What nobody can foresee line by line. Quota and a read-only medium are a full disk to a user.
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO}
# These say nothing about the file that was being opened.
_NO_MEANS = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}
# Of libraries that have no exception of their own for it: threads, torch, HDF5, the dynamic loader.
_SIGNS = (
    *(
        "can't start new thread",
        "can't allocate memory",
        "Cannot allocate memory",
        "memory allocation failed",
    ),
    *("failed to map segment", "std::bad_alloc", "not enough memory"),
)
_GO_ON = "what was committed is kept, run the same command to go on"


@contextmanager
def exhaustion_told() -> Iterator[None]:
    """Around a whole command or stage: what the machine has run out of ends it with a message, wherever that comes out.

    Raises:
        MachineError: memory, disk, descriptors or threads are used up. All other errors pass.
    """
    try:
        yield
    except (MemoryError, OSError, RuntimeError, ImportError) as error:
        if is_exhaustion(error):
            raise MachineError(f"{_told(error)}; {_GO_ON}") from error
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            where = f" ({error.filename})" if error.filename else ""
            raise MachineError(f"cannot go on: {error.strerror}{where}; {_GO_ON}") from error
        raise


def is_exhaustion(error: BaseException) -> bool:
    """Whether an error says that this process has no memory, descriptors or threads left, and nothing else."""
    if isinstance(error, OSError) and error.errno in _NO_MEANS:
        return True
    return isinstance(error, MemoryError) or any(sign in str(error) for sign in _SIGNS)


def blame_nothing(error: BaseException, what: str) -> None:
    """Where a decoder stumbled because descriptors are used up: say so, since what it was to decode may be sound.

    Raises:
        MachineError: the system's error says so. Of any other nothing is raised.
    """
    if isinstance(error, OSError) and error.errno in _NO_MEANS:
        raise MachineError(f"{what}: {_told(error)}") from error


def _told(error: BaseException) -> str:
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        return f"no file descriptors are left ({error.strerror or error}); allow more with `ulimit -n`"
    return (
        f"there is not enough memory ({error or type(error).__name__}); a smaller --batch-size may need less"
    )


@contextmanager
def explained(
    what: str, kind: type[DeponijError] = StoreError, *, passing: tuple[type[OSError], ...] = ()
) -> Iterator[None]:
    """Turn what the system stumbles over inside the block into an error that says what could not be done.

    Args:
        what: could not be done, as `cannot write FILE`.
        passing: errors that are left as they are.

    Raises:
        MachineError: descriptors or memory are used up, which no file is to be blamed for.
        kind: everything else.
    """
    try:
        yield
    except passing:
        raise
    except OSError as error:
        if is_exhaustion(error):
            raise MachineError(f"{what}: {_told(error)}") from error
        raise kind(f"{what}: {error.strerror or error}") from error
