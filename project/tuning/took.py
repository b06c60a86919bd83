"""What a tuning took of this machine: a fact that lies beside the timings of a run, and in no output of DVC's.

While it lasts its seconds are kept among what is not finished, so that those of a process that was killed are counted by
the one that goes on from its checkpoint.
"""

import time
from contextlib import suppress
from pathlib import Path

from deponij.project.frame.settings import Section, check
from deponij.store.atomic import write_bytes
from deponij.store.errors import StoreError, UsageError
from deponij.store.sealed import read_sealed, sealed

_NAME = "took.json"
_REMEDY = "delete it"
_KEPT_EVERY_S = 5.0


class Took(Section):
    """What it took.

    Attributes:
        seconds: from reading to judging, of all processes that it was gone on with in.
        peak_bytes: by which memory grew while it learned, of the last of them; None where the device does not tell.
    """

    seconds: float
    peak_bytes: int | None = None


class Stopwatch:
    """Seconds of a tuning, of which those that earlier processes took count where their work does.

    Args:
        unfinished: folder of what is not finished.
    """

    def __init__(self, unfinished: Path) -> None:
        self._path = unfinished / _NAME
        self._began = self._kept_at = time.perf_counter()
        self._earlier_s = read_took(self._path).seconds if self._path.is_file() else 0.0
        self._has_begun = False

    def step(self, n_done: int) -> None:
        """A step was done, of the whole training so many."""
        if not self._has_begun:
            self._has_begun = True
            self.goes_on(n_done > 1)
        if time.perf_counter() - self._kept_at > _KEPT_EVERY_S:
            self.keep()

    def goes_on(self, is_resumed: bool) -> None:
        """Whether it is by a checkpoint that this process began."""
        if not is_resumed:
            self._earlier_s = 0.0

    @property
    def seconds(self) -> float:
        """Until now."""
        return self._earlier_s + time.perf_counter() - self._began

    def keep(self) -> None:
        """For another process, where anything was done; a full disk is no reason to end."""
        if self._has_begun:
            with suppress(StoreError):
                write_took(self._path, Took(seconds=self.seconds))
            self._kept_at = time.perf_counter()


def write_took(path: Path, took: Took) -> None:
    """As a sealed document."""
    write_bytes(path, sealed(took.model_dump()))


def read_took(path: Path) -> Took:
    """What `write_took` wrote.

    Raises:
        StoreError: it is damaged or of another version.
    """
    try:
        return check(Took, read_sealed(path, _REMEDY), str(path))
    except UsageError as error:
        raise StoreError(f"{path} is of another version; {_REMEDY}: {error}") from error
