"""The one hierarchy of errors that Deponij raises for its users.

A message says what was got, what is allowed and what to do. `cli.py` prints it and exits 1
(2 for `UsageError`); nothing else in the project prints or exits.
"""

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


@contextmanager
def explained(
    what: str, kind: type[DeponijError] = StoreError, *, passing: tuple[type[OSError], ...] = ()
) -> Iterator[None]:
    """Turn what the system stumbles over inside the block into an error that says what could not be done.

    Args:
        what: could not be done, as `cannot write FILE`.
        passing: errors that are left as they are.
    """
    try:
        yield
    except passing:
        raise
    except OSError as error:
        raise kind(f"{what}: {error.strerror or error}") from error
