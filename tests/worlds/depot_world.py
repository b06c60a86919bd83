"""Made-up rows for store tests: a row's vector follows from its key, so any reader can be checked."""

import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from deponij.store.depot import FeatureStore
from deponij.store.identity import Identity
from deponij.store.keys import key_of_text

CLIP = Identity(
    backbone="openclip:ViT-B-16",
    weights="ab" * 32,
    kind="embedding",
    transform="resize 224 bicubic",
    decode="full",
    precision="fp32",
    stored="float32",
)
OTHER = replace(CLIP, precision="bf16")
DIM = 6


def keys_of(numbers: Sequence[int] | range) -> list[str]:
    return [key_of_text(f"row {number}") for number in numbers]


def vectors(keys: Sequence[str], salt: str = "") -> np.ndarray:
    """[n, DIM]: float32 numbers made of the key."""
    seeds = [int(key[:8], 16) + sum(salt.encode()) for key in keys]
    rows = [np.random.default_rng(seed).standard_normal(DIM, np.float32) for seed in seeds]
    return np.stack(rows) if rows else np.empty((0, DIM), np.float32)


def fill(
    store: FeatureStore,
    numbers: range,
    *,
    identity: Identity = CLIP,
    batch: int = 4,
    shard_rows: int = 4,
    unsaved_s: float = 15.0,
    provenance: dict[str, Any] | None = None,
) -> int:
    """What an extraction does: compute what is missing, in batches; returns how many rows."""
    missing = store.missing(identity, keys_of(numbers))
    ends = {"shard_rows": shard_rows, "unsaved_s": unsaved_s}
    with store.writer(identity, provenance or {"torch": "2"}, **ends) as writer:
        for start in range(0, len(missing), batch):
            keys = missing[start : start + batch]
            writer.add(keys, {"embedding": vectors(keys, identity.precision)})
    return len(missing)


def dump(store: FeatureStore) -> dict[str, dict[str, bytes]]:
    """Fingerprint -> key -> the row's bytes, of everything that is known."""
    store.refresh()
    found = {}
    for fingerprint, identity in sorted(store.identities().items()):
        keys = store.keys(identity)
        found[fingerprint] = dict(
            zip(keys, [row.tobytes() for row in store.read(keys, identity)["embedding"]], strict=True)
        )
    return found


def loose_files(path: Path) -> list[str]:
    """Files of a depot's folder that are neither its marker nor a committed shard."""
    names = {p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file()}
    pairs = {
        n
        for n in names
        if n.removesuffix(".json") + ".h5" in names or n.removesuffix(".h5") + ".json" in names
    }
    return sorted(names - pairs - {"format.json"})


_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_STEPS = {"os.rename", "os.remove", "os.mkdir", "os.link", "fcntl.flock"}


def die_at_step(body: Callable[[], object], step: int) -> bool:
    """Run `body` in a child that is killed (-9) at its step-th act on the file system.

    Acts are: opening for writing, half a file written, flushing, renaming, linking, removing, making
    a folder, locking. Returns whether it died; False means that it came to its end before.
    """
    child = os.fork()
    if child == 0:
        _run_and_exit(lambda: (_count_steps(step), body()))
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "the child failed; see its traceback"
    return os.WIFSIGNALED(status)


def _run_and_exit(body: Callable[[], object]) -> NoReturn:
    """End this forked child here, so that it never comes back into the test run."""
    status = 1
    try:
        body()
        status = 0
    finally:
        if status:
            traceback.print_exc()
        os._exit(status)


def _count_steps(step: int) -> None:
    n_seen = 0

    def tick() -> None:
        nonlocal n_seen
        n_seen += 1
        if n_seen == step:
            os.kill(os.getpid(), signal.SIGKILL)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        is_write = event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITING
        if event in _STEPS or is_write:
            tick()

    whole = Path.write_bytes

    def by_halves(path: Path, data: bytes) -> int:
        with path.open("wb") as file:
            file.write(bytes(memoryview(data)[: len(data) // 2]))
        tick()
        return whole(path, data)

    os.fsync = lambda descriptor: tick()  # type: ignore[assignment]
    Path.write_bytes = by_halves  # type: ignore[method-assign,assignment]
    sys.addaudithook(hook)


def in_child(body: Callable[[], object]) -> int:
    """Start `body` in a child process; returns its process id. Wait with `finish`."""
    child = os.fork()
    if child == 0:
        _run_and_exit(body)
    return child


def finish(child: int) -> int:
    """Exit status of a child, or minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
