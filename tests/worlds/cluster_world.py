"""A Dask scheduler and workers as processes of their own on loopback, with the made-up family of backbones.

A worker can be told to misbehave: to die of a picture of a certain colour, to be slow, or to have a full disk.
"""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fake_backbone
import numpy as np
import pyarrow as pa
from PIL import Image

from deponij.store.errors import StoreError
from deponij.store.items import ItemWriter
from deponij.store.keys import key_of_bytes

ROOT = Path(__file__).resolve().parent.parent.parent
SIDE_PX = 18
DEADLY_RGB = (255, 0, 0)
_START_S = 60
FULL_DISK = StoreError("cannot write the shard: No space left on device")
FULL_DISK = StoreError("cannot write the shard: No space left on device")


def picture(number: int) -> bytes:
    """PNG of noise that no other number gives."""
    pixels = np.random.default_rng(number).integers(0, 200, (SIDE_PX, SIDE_PX, 3), dtype=np.uint8)
    return _png(Image.fromarray(pixels))


def deadly_picture() -> bytes:
    """Of which a worker told so dies."""
    return _png(Image.new("RGB", (SIDE_PX, SIDE_PX), DEADLY_RGB))


def _png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def write_items(path: Path, contents: list[bytes]) -> Path:
    """Items of whole pictures, `0000`, `0001`, …"""
    with ItemWriter(path, pa.schema([("label", pa.string())])) as writer:
        for number, content in enumerate(contents):
            writer.add(
                item_id=f"{number:04d}",
                key=key_of_bytes(content),
                content=content,
                image_id=f"{number:04d}",
                width_px=SIDE_PX,
                height_px=SIDE_PX,
                phash=None,
                failure=None,
                given=None,
                metadata={"label": None},
            )
    return path


@dataclass
class Processes:
    """Scheduler and workers.

    Attributes:
        address: of the scheduler.
        folder: for their logs.
    """

    folder: Path
    address: str
    scheduler: "subprocess.Popen[bytes]"
    workers: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    def add_worker(
        self, *, nanny: bool = True, flags: Sequence[str] = (), **told: Any
    ) -> "subprocess.Popen[bytes]":
        """One more worker; it need not have joined yet.

        Args:
            told: `dies_of_red`, `sleep_s` (before each batch), `full_disk`, `says` (a file to which it appends a line
                per batch, with its process id and the batch's number of pictures).
        """
        log = (self.folder / f"worker{len(self.workers)}.log").open("wb")
        command = [sys.executable, "-m", "distributed.cli.dask_worker", self.address, "--nthreads", "1"]
        command += ["--host", "127.0.0.1", "--no-dashboard", "--memory-limit", "0", "--preload", __file__]
        command += [
            "--local-directory",
            str(self.folder / "scratch"),
            *([] if nanny else ["--no-nanny"]),
            *flags,
        ]
        process = _start(command, log, {"CLUSTER_WORLD": json.dumps(told)})
        self.workers.append(process)
        return process


@contextlib.contextmanager
def processes(
    folder: Path, n_workers: int = 0, flags: Sequence[str] = (), **told: Any
) -> Iterator[Processes]:
    """A scheduler, and workers that are all told the same."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "scheduler.json"
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0"]
    command += ["--no-dashboard", "--scheduler-file", str(file), *flags]
    scheduler = _start(command, (folder / "scheduler.log").open("wb"), {})
    address = ""
    try:
        limit = time.monotonic() + _START_S
        while not address:
            assert scheduler.poll() is None, (folder / "scheduler.log").read_text()
            assert time.monotonic() < limit
            with contextlib.suppress(FileNotFoundError, json.JSONDecodeError):
                address = json.loads(file.read_text())["address"]
            time.sleep(0.05)
        made = Processes(folder, address, scheduler)
        for _ in range(n_workers):
            made.add_worker(**told)
        yield made
    finally:
        for process in [*(made.workers if address else ()), scheduler]:
            end(process)


def end(process: "subprocess.Popen[bytes]") -> None:
    """Kill a process and all that it has started, at once."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _start(command: list[str], log: Any, more: dict[str, str]) -> "subprocess.Popen[bytes]":
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "worlds")])
    env = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **more}
    with log:
        return subprocess.Popen(
            command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=env, start_new_session=True
        )


def square(task: int) -> int:
    """A task."""
    return task * task


def first_waits(task: int, folder: Path, n_others: int) -> int:
    """A task; that of 0 ends when so many others have, which leave files in the folder."""
    if task:
        (folder / str(task)).touch()
    else:
        limit = time.monotonic() + _START_S
        while len(list(folder.iterdir())) < n_others and time.monotonic() < limit:
            time.sleep(0.02)
    return task


def pause() -> None:
    """What takes three seconds."""
    time.sleep(3.0)


def held(begun: Path, until: Path) -> None:
    """A task that tells when it is at work, and ends when the other file is there."""
    begun.touch()
    while not until.exists():
        time.sleep(0.02)


def call_here(calls: Path) -> None:
    """Add a line with the worker's address to a file."""
    from distributed import get_worker

    with calls.open("a") as file:
        file.write(f"{get_worker().address}\n")


@dataclass(frozen=True)
class Refusing:
    """A function of a task that some workers refuse; another, where one is named, does not come to an end of it.

    Attributes:
        refuse: their addresses.
        calls: file with the address of a worker for every call.
        holds: the address of the worker that is at work for ever.
        error: what is raised at those that refuse.
    """

    refuse: tuple[str, ...]
    calls: Path
    holds: str = ""
    error: Exception = FULL_DISK

    def __call__(self, task: int) -> int:
        from distributed import get_worker

        call_here(self.calls)
        address = get_worker().address
        if address in self.refuse:
            raise self.error
        time.sleep(3600 if address == self.holds else 0.1)
        return task


def inverse(task: int) -> float:
    """A task; that of 0 fails in a way that no user is told of."""
    return 1 / task


def dask_setup(worker: Any) -> None:
    """Called by Dask in every worker process that has this file as its `--preload`."""
    from deponij.pipeline.backbones import registry

    registry.register(fake_backbone.FAMILY)(fake_backbone.Fake)
    told = json.loads(os.environ.get("CLUSTER_WORLD", "{}"))
    if told:
        _misbehave(told)


def _misbehave(told: dict[str, Any]) -> None:
    from deponij.pipeline.data.adapters import instances, whole
    from deponij.store import shard

    real_embed = fake_backbone.Fake._embed_images

    def embed(self: Any, batch: Any) -> Any:
        if told.get("says"):
            with Path(told["says"]).open("a") as file:
                file.write(f"{os.getpid()} {len(batch)}\n")
        time.sleep(told.get("sleep_s", 0.0))
        if told.get("dies_of_red"):
            # Red is the channel's largest value and green its smallest, on every pixel.
            red = (batch[:, 0].amin((1, 2)) > 1.5) & (batch[:, 1].amax((1, 2)) < 0)
            if bool(red.any()):
                os.kill(os.getpid(), signal.SIGKILL)
        return real_embed(self, batch)

    fake_backbone.Fake._embed_images = embed  # type: ignore[method-assign]
    if told.get("dies_of_red"):
        for module in (instances, whole):

            def decode(content: bytes, real: Any = module.decode, **given: Any) -> Any:
                if content == deadly_picture():
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(content, **given)

            module.decode = decode  # type: ignore[attr-defined]
    if told.get("full_disk"):

        def full(*args: Any, **kwargs: Any) -> Any:
            raise FULL_DISK

        shard.commit = full
