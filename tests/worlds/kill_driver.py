"""Runs `deponij …` with the made-up backbone and small shards, and dies (-9) at a chosen moment.

    python kill_driver.py        jobs on standard input, a JSON object a line, each in a fork of its own

A job: `argv` of the command, and `kill`: a moment and its how-manieth occurrence, or null. Answers with
one JSON line: the exit status, or minus the signal that ended the process, and whether the moment came.
"""

import json
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fake_backbone
import torch
from torch import nn

import deponij.commands.features
import deponij.stages.extract
from deponij import cli
from deponij.pipeline.backbones import extraction
from deponij.store.depot import FeatureStore

SHARD_ROWS = 8
# Every batch is committed at once: as stand-ins until a shard is full.
UNSAVED_S = 0.0
# In the order in which they come: while a batch is decoded; in the middle of a forward pass; with half a
# shard written; before and after its renaming; with half a sidecar written; before and after its renaming;
# with half a view written; before its renaming.
MOMENTS = (
    "decode",
    "forward",
    "shard-half",
    "shard-rename-before",
    "shard-rename-after",
    "sidecar-half",
    "sidecar-rename-before",
    "sidecar-rename-after",
    "view-half",
    "view-rename-before",
)


def die_at(moment: str, occurrence: int, sign: Path) -> None:
    """Arrange that this process kills itself when `moment` comes for the given time; `sign` says that it did."""
    if moment not in MOMENTS:
        raise ValueError(f"no moment {moment!r}; there are {MOMENTS}")
    seen = 0

    def tick(name: str) -> None:
        nonlocal seen
        if name != moment:
            return
        seen += 1
        if seen == occurrence:
            sign.write_text(name)
            os.kill(os.getpid(), signal.SIGKILL)

    _watch_work(tick)
    _watch_files(tick)


def _watch_work(tick: Callable[[str], None]) -> None:
    real_decode = extraction.decode

    def decode(*args: Any, **kwargs: Any) -> Any:
        tick("decode")
        return real_decode(*args, **kwargs)

    extraction.decode = decode

    def hook(module: nn.Module, *_: Any) -> None:
        # The first of the model's two layers has run.
        if isinstance(module, nn.Conv2d):
            tick("forward")

    nn.modules.module.register_module_forward_hook(hook)


def _watch_files(tick: Callable[[str], None]) -> None:
    real_replace, real_bytes = Path.replace, Path.write_bytes

    def replace(path: Path, target: Path) -> Path:
        kind = _kind(path)
        tick(f"{kind}-rename-before")
        done = real_replace(path, target)
        tick(f"{kind}-rename-after")
        return done

    def write_bytes(path: Path, data: bytes) -> int:
        with path.open("wb") as file:
            file.write(bytes(memoryview(data)[: len(data) // 2]))
        tick(f"{_kind(path)}-half")
        return real_bytes(path, data)

    Path.replace = replace  # type: ignore[method-assign,assignment]
    Path.write_bytes = write_bytes  # type: ignore[method-assign,assignment]


def _kind(path: Path) -> str:
    """What a file that is being written will be: of a depot (numbered parts), a view, or anything else."""
    staged = re.search(r"\.(h5|json)\.\d+\.part$", path.name)
    if staged:
        return "shard" if staged[1] == "h5" else "sidecar"
    return "view" if path.name.endswith(".h5.part") else "other"


def run(job: dict[str, Any]) -> int:
    """Run a job's command here; its exit status."""
    if job["kill"]:
        die_at(*job["kill"], Path(job["sign"]))
    sys.argv = ["deponij", *job["argv"]]
    try:
        cli.main()
    except SystemExit as done:
        return int(done.code or 0)
    return 0


def run_forked(job: dict[str, Any]) -> int:
    """The same in a child, which may die."""
    child = os.fork()
    if child == 0:
        with open(job["output"], "wb", buffering=0) as output:  # noqa: PTH123
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
        status = 70
        try:
            status = run(job)
        except BaseException:  # noqa: BLE001 a fork must never go on as its parent
            traceback.print_exc()
        sys.stdout.flush()
        os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def small_shards() -> None:
    """Every writer of this process makes shards of few rows, and commits each batch at once."""
    keywords = FeatureStore.writer.__kwdefaults__
    assert keywords and {"shard_rows", "unsaved_s"} <= keywords.keys(), (
        "when a shard ends is set elsewhere now"
    )
    keywords |= {"shard_rows": SHARD_ROWS, "unsaved_s": UNSAVED_S}


def main() -> None:
    """Jobs in, statuses out, until standard input ends."""
    torch.set_num_threads(1)
    small_shards()
    assert deponij.commands.features.app and deponij.stages.extract.run  # imported once, before all forks
    with fake_backbone.registered():
        for line in sys.stdin:
            job = json.loads(line)
            print(json.dumps(run(job) if job.get("here") else run_forked(job)), flush=True)


if __name__ == "__main__":
    main()
