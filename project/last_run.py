"""What a run that has finished leaves for later commands: what it was made from, and that it is the last one here.

    RUN/run.json             the record: when it finished, by what, the sections of params.yaml that it was made by
    .deponij/last-run.json   the pointer, in the folder in which the command ran: which run was the last to finish

Both are facts of this machine, like times: no outputs of DVC's, ignored by git. Whose run a command means by them is
the business of `deponij.project.meant`.
"""

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime

from deponij.pipeline.record_lists import parsed, told
from deponij.project.frame.layout import Layout
from deponij.project.frame.settings import Section
from deponij.project.in_force import InForce
from deponij.store.atomic import write_bytes
from deponij.store.errors import StoreError
from deponij.store.sealed import read_sealed, sealed

POINTER = Path(".deponij/last-run.json")
_REMEDY = "name the run with --run FOLDER; `deponij run` writes it anew when a run finishes"


class RunRecord(Section):
    """`run.json`.

    Attributes:
        finished: when its last stage ended.
        by: which command made it.
        depot: folder or URL of its feature rows.
        made_by: the sections of parameters that it was made by.
        run, folder: the run's folder as it was named, and the one in which the command ran. Relative paths in here are
            relative to the latter, wherever it is now (`home`).
    """

    format: Literal[1] = 1
    finished: AwareDatetime
    by: str
    depot: str
    run: Path
    folder: Path
    made_by: InForce

    def home(self, at: Layout) -> Path:
        """The folder that paths in this record are relative to; it may have been moved or copied with the run in it."""
        named, place = self.run.parts, at.root.resolve().parts
        if not self.run.is_absolute() and ".." not in named and place[-len(named) :] == named:
            return Path(*place[: -len(named)])
        return self.folder

    def path(self, at: Layout, named: str) -> Path:
        """A path that is relative to `home`, as it is named from the current folder."""
        home = self.home(at)
        return Path(named) if home == Path.cwd() else Path(os.path.normpath(home / named))


class _Pointer(Section):
    format: Literal[1] = 1
    run: Path


def remember(at: Layout, made_by: InForce, *, by: str, depot: str) -> None:
    """Write the record of a run that has finished, then point at it.

    Args:
        by: which command made it, for people.

    Raises:
        StoreError: one of the files cannot be written.
    """
    record = RunRecord(
        format=1,
        finished=datetime.now(UTC).replace(microsecond=0),
        by=by,
        depot=depot,
        run=at.root,
        folder=Path.cwd(),
        made_by=made_by,
    )
    write_bytes(at.record, sealed(record.model_dump(mode="json")))
    write_bytes(POINTER, sealed(_Pointer(format=1, run=at.root).model_dump(mode="json")))


def forget_last() -> None:
    """Point at no run, so that the profile in force counts."""
    POINTER.unlink(missing_ok=True)


def last_run() -> Layout | None:
    """The run that was the last to finish in this folder; None where none has.

    Raises:
        StoreError: the pointer is damaged or of another version, or the run is no longer there.
    """
    if not POINTER.is_file():
        return None
    body = read_sealed(POINTER, _REMEDY)
    try:
        at = Layout(parsed(_Pointer, json.dumps(body)).run)
    except ValueError as error:
        raise StoreError(f"{POINTER} is of another version: {told(error)}; {_REMEDY}") from None
    if not at.items.is_dir():
        raise StoreError(
            f"the last run that finished here, {at.root}, is gone or was moved: there is no {at.items}; name another "
            f"with --run FOLDER{others(at.root)}, or run again"
        )
    return at


def record_of(at: Layout) -> RunRecord | None:
    """What a run left when it finished; None where it has not finished, or an earlier version made it.

    Raises:
        StoreError: the record is damaged or of another version.
    """
    if not at.record.is_file():
        return None
    body = read_sealed(at.record, f"delete it, or run again into {at.root}")
    try:
        return parsed(RunRecord, json.dumps(body))
    except ValueError as error:
        raise StoreError(
            f"{at.record} is of another version: {told(error)}; delete it, or run again into {at.root}"
        ) from None


def others(besides: Path | None = None) -> str:
    """The runs that lie below `runs` here, for messages."""
    runs = sorted(path.parent for path in Path("runs").glob("*/items") if path.parent != besides)
    return f" (there are: {', '.join(map(str, runs))})" if runs else ""
