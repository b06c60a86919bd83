"""How a stage runs as `python -m stages.NAME`: errors become one message, wall time is kept."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

from stages.allocator import keep_pages
from stages.console import stderr
from stages.layout import Layout
from stages.settings import Section, load
from store.atomic import write_bytes
from store.errors import DeponijError


class _Profile(Section):
    profile: str


def run_stage(name: str, body: Callable[[], None], *, offline: bool = True) -> None:
    """Run a stage's body under DVC, in a process that keeps its pages (`allocator`).

    Args:
        offline: keep model libraries from asking the hub; only `prepare` may.

    Raises:
        SystemExit: 1 after a DeponijError, whose message is printed.
    """
    if offline:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    keep_pages()
    try:
        start = time.perf_counter()
        body()
        record_time(layout().timings, name, time.perf_counter() - start)
    except DeponijError as error:
        stderr.print(f"error in stage {name}: {error}", style="red", markup=False)
        raise SystemExit(1) from error


def layout() -> Layout:
    """Of the profile in force."""
    return Layout.of(load(_Profile).profile)


def record_time(folder: Path, stage: str, seconds: float) -> None:
    """Keep a stage's wall time for the summary; what DVC restores from its cache keeps its old one."""
    write_bytes(folder / f"{stage}.json", json.dumps({"stage": stage, "seconds": round(seconds, 3)}).encode())


def read_times(folder: Path) -> dict[str, float]:
    """Stage -> seconds, as recorded."""
    records = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    return {record["stage"]: record["seconds"] for record in records}
