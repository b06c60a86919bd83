"""How a stage runs, under DVC (`python -m deponij.stages.NAME`) and in `deponij run`: parameters, wall time, errors."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator

from deponij.project.frame.allocator import keep_pages
from deponij.project.frame.console import complain, say
from deponij.project.frame.lacking import lack_of, leave_empty
from deponij.project.frame.layout import Layout
from deponij.project.frame.leaving import leave
from deponij.project.frame.settings import RunOptions, Section, load
from deponij.store.atomic import write_bytes
from deponij.store.errors import DataError, DeponijError, MachineError, StoreError, exhaustion_told
from deponij.store.sealed import read_sealed, sealed

# A stage's body: its parameters, where the run's files lie, how to run; the key where it runs for each of something.
Main = Callable[..., None]
# What a stage writes, of which it leaves an empty one where it lacks what it needs.
Outs = Callable[[Layout], Iterable[Path]]


def _is_one_name(profile: str) -> str:
    """Refuse what would lead out of the folder of runs."""
    if not profile or profile.startswith(".") or set(profile) & set("/\\\0"):
        raise ValueError("a profile is named by one name without slashes, as `mine`")
    return profile


class _Profile(Section):
    profile: Annotated[str, AfterValidator(_is_one_name)]


def run_stage(
    name: str, params: type[Section], main: Main, *, offline: bool = True, outs: Outs = lambda at: ()
) -> None:
    """Run a stage under DVC: parameters from params.yaml, options from the environment, a key from the command.

    Where `main` is that of the program which this process runs, the process ends here.

    Args:
        offline: keep model libraries from asking the hub; only `weights` and `prepare` may.
        outs: of a stage that needs a section of the profile (`lacking`); they are left empty where it is.

    Raises:
        SystemExit: 1 after a DeponijError, whose message is printed.
    """
    if offline:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    keys = sys.argv[1:]
    label = "@".join([name, *keys])
    try:
        keep_pages()
        values, at = load(params), layout()
        options = RunOptions.from_environment().model_copy(update={"under_dvc": True})
        with exhaustion_told(), timed(at, label):
            if lack := lack_of(values):
                leave_empty(outs(at))
                say(f"{label}: nothing to do, since {lack}")
            else:
                main(values, at, options, *keys)
    except MachineError as error:
        # Nothing may have to be imported or laid out for this one.
        sys.stderr.write(f"error in stage {label}: {error}\n")
        raise SystemExit(1) from error
    except DeponijError as error:
        complain(f"error in stage {label}: {error}")
        raise SystemExit(1) from error
    if getattr(sys.modules["__main__"], "main", None) is main:
        leave(0)


def for_each(names: Iterable[str], work: Callable[[str], None]) -> None:
    """Work on every one, also where the data are too few for another.

    Raises:
        DataError: after all of them, naming those for which they were too few, and why.
    """
    failed: dict[str, list[str]] = {}
    for name in names:
        try:
            work(name)
        except DataError as error:
            failed.setdefault(str(error), []).append(name)
    if failed:
        raise DataError("; ".join(f"{', '.join(names)}: {reason}" for reason, names in failed.items()))


def layout() -> Layout:
    """Of the profile in force."""
    return Layout.of(load(_Profile).profile)


@contextmanager
def timed(at: Layout, stage: str) -> Iterator[None]:
    """Keep a stage's wall time for the summary; what DVC restores from its cache keeps its old one."""
    start = time.perf_counter()
    yield
    seconds = round(time.perf_counter() - start, 3)
    write_bytes(at.timings / f"{stage}.json", sealed({"stage": stage, "seconds": seconds}))


def read_times(folder: Path, is_wanted: Callable[[str], bool] = lambda label: True) -> dict[str, float]:
    """Stage -> seconds, as recorded.

    Args:
        is_wanted: of a record's label, `STAGE` or `STAGE@KEY`; others are not looked at.

    Raises:
        StoreError: a record is damaged.
    """
    times = {}
    for path in sorted(path for path in folder.glob("*.json") if is_wanted(path.stem)):
        record = read_sealed(path, "delete it")
        match record:
            case {"stage": str(stage), "seconds": float(seconds) | int(seconds)}:
                times[stage] = float(seconds)
            case _:
                raise StoreError(f"{path} is of another version; delete it")
    return times


def write_metrics(at: Layout, stage: str, numbers: Mapping[str, Any]) -> None:
    """All of a stage's numbers, as JSON. The few that DVC compares are written by the stage `report`."""
    write_bytes(at.metrics(stage), (json.dumps(numbers, indent=1, sort_keys=True) + "\n").encode())
