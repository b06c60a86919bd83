"""Runs `deponij …` in forks of a process that has imported everything once, and kills them from outside at a set time.

    python fork_server.py        jobs on standard input, a JSON object a line; one answer a line

A job: `argv`, `cwd`, `output` (a file for what it says), `kill_after_s` or null, `arm` (for the fault shim: prefix, fault,
n) or null, `limits` (resource name -> value) or null, and optionally `call` (`module:function`, called with `argv` instead
of the command). Answers with `status` (exit status, or minus the signal that ended it), `wall_s`, and `n_sites` where the
shim counted. The client (`Server`) is here too; what is run and how it is judged lies in `jobs_world`.
"""

import gc
import importlib
import json
import os
import resource
import select
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fault_shim

from deponij.stages.registry import STAGES

ROOT = Path(__file__).resolve().parents[2]
# Enough for the slowest job on a busy machine; past it something hangs.
PATIENCE_S = 240.0
# What commands import inside their functions, so that a fork pays for none of it.
WARM = (
    "duckdb",
    "faiss",
    "safetensors.torch",
    "scipy.stats",
    "sklearn.linear_model",
    "peft",
    "transformers.models.dinov2",
    *(f"deponij.stages.{stage.name}" for stage in STAGES),
    "deponij.services.run",
    "deponij.services.tune",
)
LIGHT = ("deponij.cli", "deponij.services.depots", "deponij.stages.items", "deponij.stages.extract")


@dataclass(frozen=True)
class Outcome:
    """What became of a job."""

    status: int
    wall_s: float
    said: str
    sites: tuple[str, ...] = ()
    n_hit: int = 0

    @property
    def was_killed(self) -> bool:
        return self.status == -signal.SIGKILL


class Server:
    """The other end: a running `fork_server.py`."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def run(
        self,
        argv: list[str] | tuple[str, ...],
        cwd: Path,
        *,
        kill_after_s: float | None = None,
        arm: tuple[str, int] | None = None,
        limits: dict[str, int] | None = None,
        call: str | None = None,
    ) -> Outcome:
        """Run a job to its end, or to the moment when it is killed.

        Args:
            arm: a fault (`enospc`, `eio`, `short`) and the how-manieth write below `cwd` it befalls; 0: only count.
        """
        output = cwd.parent / f"{cwd.name}.said"
        job = {
            "argv": [str(one) for one in argv],
            "cwd": str(cwd),
            "output": str(output),
            "kill_after_s": kill_after_s,
            "arm": arm,
            "limits": limits,
            "call": call,
        }
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the fork server has died"
        answer = json.loads(line)
        # Of a job that was killed at once there is none.
        said = output.read_text(errors="replace") if output.exists() else ""
        output.unlink(missing_ok=True)
        return Outcome(answer["status"], answer["wall_s"], said, tuple(answer["sites"]), answer["n_hit"])


@contextmanager
def serving(shim: Path | None = None, *, is_light: bool = False) -> Iterator[Server]:
    """A fork server.

    Args:
        shim: a shared object (see `fault_shim`) that is loaded before everything else.
        is_light: it imports what reading, extracting and tidying take, and nothing else beforehand.
    """
    environment = os.environ | {
        "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests/worlds'}",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "DEPONIJ_THREADS": "1",
        "DEPONIJ_DEVICE": "cpu",
        "COLUMNS": "200",
    }
    environment.pop("DEPONIJ_DEPOT", None)
    if shim is not None:
        environment["LD_PRELOAD"] = str(shim)
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).resolve()), *(["light"] if is_light else [])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
    )
    try:
        yield Server(process)
    finally:
        process.kill()
        process.communicate()


def _run(job: dict[str, Any]) -> int:
    """The job's body, in the fork."""
    from deponij import cli

    os.chdir(job["cwd"])
    os.environ["DEPONIJ_CACHE"] = str(Path(job["cwd"]) / "cache")
    for name, value in (job["limits"] or {}).items():
        which = getattr(resource, name)
        # What it has mapped already is not counted.
        n_pages = int(Path("/proc/self/statm").read_text().split()[0]) if which == resource.RLIMIT_AS else 0
        resource.setrlimit(which, (value + n_pages * resource.getpagesize(), resource.getrlimit(which)[1]))
    if job["arm"]:
        fault, n = job["arm"]
        fault_shim.arm(Path(job["cwd"]), fault, n, Path(f"{job['output']}.sites"))
    if job["call"]:
        module, _, function = job["call"].partition(":")
        getattr(importlib.import_module(module), function)(*job["argv"])
        return 0
    sys.argv = ["deponij", *job["argv"]]
    try:
        cli.main()
    except SystemExit as done:
        return int(done.code or 0)
    return 0


def _forked(job: dict[str, Any]) -> dict[str, Any]:
    begin = time.monotonic()
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        with open(job["output"], "wb", buffering=0) as output:  # noqa: PTH123
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
        status = 70
        try:
            status = _run(job)
        except BaseException:  # noqa: BLE001 a fork must never go on as its parent
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    patience = job["kill_after_s"] if job["kill_after_s"] is not None else PATIENCE_S
    with os.fdopen(os.pidfd_open(child), "rb", buffering=0) as handle:
        if not select.select([handle], [], [], max(0.0, patience))[0]:
            try:
                os.killpg(child, signal.SIGKILL)
            except ProcessLookupError:
                # It had not yet a group of its own.
                os.kill(child, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    wall_s = time.monotonic() - begin
    if job["kill_after_s"] is None and status == -signal.SIGKILL:
        status = -signal.SIGALRM
    log = Path(f"{job['output']}.sites")
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    log.unlink(missing_ok=True)
    sites = [line[2:] for line in lines]
    return {"status": status, "wall_s": wall_s, "sites": sites, "n_hit": sum(one[0] == "!" for one in lines)}


def main() -> None:
    """Jobs in, answers out, until standard input ends."""
    import fake_backbone
    import kill_driver
    import torch

    torch.set_num_threads(1)
    kill_driver.small_shards()
    for name in LIGHT if "light" in sys.argv[1:] else (*LIGHT, *WARM):
        importlib.import_module(name)
    gc.freeze()
    with fake_backbone.registered():
        for line in sys.stdin:
            print(json.dumps(_forked(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
