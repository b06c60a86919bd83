"""The sample on a Dask cluster of two workers, one of which is killed with -9; then the depot held against one process's.

    python benchmarks/cluster.py [--backbone mini-openclip] [--json FILE]

Scheduler and workers are started as docs/clusters.md says, on loopback. Prints what each side took, what was computed
twice, and how far the vectors differ; the logs stay in the folder that is printed where something is wrong.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from figures import ROOT, Line, below, deponij, parser, report

from deponij.stages.prepare import draw_sample
from deponij.store.depot import FeatureStore
from deponij.store.errors import DeponijError

N_SCENES = 240
# In the first tenths of the work, so that the other worker takes over several tasks.
KILLED_AT_ROWS = 200


@contextlib.contextmanager
def dask(folder: Path) -> Iterator[tuple[str, list["subprocess.Popen[bytes]"]]]:
    """A scheduler's address, and two workers without anybody who would start them anew."""
    file, started = folder / "scheduler.json", []

    def start(name: str, *arguments: str) -> None:
        with (folder / f"{name}.log").open("wb") as log:
            command = [sys.executable, "-m", *arguments]
            started.append(subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True))

    try:
        start(
            "scheduler",
            "distributed.cli.dask_scheduler",
            "--host",
            "127.0.0.1",
            "--port",
            "0",
            "--no-dashboard",
            "--scheduler-file",
            str(file),
        )
        while not file.exists() or not file.read_text():
            time.sleep(0.05)
        address = json.loads(file.read_text())["address"]
        for name in ("worker0", "worker1"):
            start(
                name,
                "distributed.cli.dask_worker",
                address,
                "--nthreads",
                "1",
                "--no-nanny",
                "--host",
                "127.0.0.1",
                "--no-dashboard",
                "--local-directory",
                str(folder),
            )
        yield address, started[1:]
    finally:
        for process in started:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def n_rows(depot: Path) -> int:
    """Rows that are committed."""
    try:
        return sum(len(one.keys) for one in FeatureStore(depot).sidecars)
    except DeponijError:
        return 0


def measured(folder: Path, args: argparse.Namespace) -> Iterator[Line]:
    """One process, then the cluster."""
    draw_sample(folder / "sample", N_SCENES, 0, os.cpu_count() or 1)
    deponij(
        folder, "crop", "--coco", "sample/annotations.json", "--images", "sample/images", "--out", "items"
    )
    asked = ("extract", "--items", "items", "--backbone", args.backbone, "--threads", "1", "--workers", "1")
    yield Line("one process", deponij(folder, *asked, "--depot", "alone", "--out", "alone.h5"), "s")
    with dask(folder) as (address, workers):
        begun = time.perf_counter()
        command = [
            sys.executable,
            str(ROOT / "cli.py"),
            *asked,
            "--depot",
            "shared",
            "--out",
            "shared.h5",
            "--cluster",
            address,
        ]
        with (folder / "command.log").open("wb") as log:
            client = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
        while n_rows(folder / "shared") < KILLED_AT_ROWS and client.poll() is None:
            time.sleep(0.05)
        os.killpg(workers[0].pid, signal.SIGKILL)
        yield Line("rows in the depot when one of two workers was killed", n_rows(folder / "shared"))
        if client.wait():
            raise SystemExit((folder / "command.log").read_text())
        yield Line("two workers, one killed", time.perf_counter() - begun, "s")
    yield from compared(FeatureStore(folder / "alone"), FeatureStore(folder / "shared"))
    print((folder / "command.log").read_text())


def compared(alone: FeatureStore, shared: FeatureStore) -> Iterator[Line]:
    """Key for key."""
    identity = next(iter(alone.identities().values()))
    keys, every = alone.keys(identity), [key for one in shared.sidecars for key in one.keys]
    yield Line("keys of one process", len(keys))
    yield below("keys that only one of both has", len(set(keys) ^ set(every)), "", 1)
    yield Line("keys that lie in the depot twice", len(every) - len(set(every)))
    one, other = (store.read(keys, identity)["embedding"] for store in (alone, shared))
    yield below(
        "largest difference of vectors of length 1", float(np.abs(unit(one) - unit(other)).max()), "", 1e-5
    )


def unit(vectors: np.ndarray) -> np.ndarray:
    """Of length 1."""
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def main() -> int:
    flags = parser(__doc__)
    flags.add_argument("--backbone", default="mini-openclip")
    args = flags.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="deponij-cluster-"))
    status = report(measured(folder, args), args.json, backbone=args.backbone, folder=folder)
    if not status:
        shutil.rmtree(folder)
    return status


if __name__ == "__main__":
    raise SystemExit(main())
