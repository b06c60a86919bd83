"""Arrays of as many rows as there are: in memory where they are small beside it, on a disk where they are not.

`scratch` makes room, and what it gives is an ordinary array either way, so that no result depends on where it lies. The
others fill such room without a second copy in memory.

Shape letters: n rows, d width.
"""

import mmap
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deponij.store.errors import MachineError, UsageError, explained

Array = npt.NDArray[Any]
# How many GiB to take for available, in place of what the machine says.
MEMORY = "DEPONIJ_MEMORY_GIB"
# One array has an eighth of what is available. What it fills is available no more, so that many never take it all.
_PARTS = 8
# Less is not worth asking the machine.
_SMALL_BYTES = 32 << 20
# Of what is gone through at once.
_BLOCK_BYTES = 64 << 20
# Rows that begin at multiples of it are read fastest.
_ALIGNED_BYTES = 64
_CGROUPS = Path("/sys/fs/cgroup")


def scratch(shape: Sequence[int], dtype: npt.DTypeLike) -> Array:
    """Room for an array, C-contiguous and not filled; gone with the array, and with the process however that ends.

    Raises:
        MachineError: it must lie on a disk that has no room for it.
        UsageError: `DEPONIJ_MEMORY_GIB` is no number from 0 on.
    """
    kind = np.dtype(dtype)
    n_bytes = kind.itemsize * int(np.prod(shape, dtype=np.int64))
    if fits_in_memory(n_bytes):
        room = np.empty(n_bytes + _ALIGNED_BYTES, np.uint8)
        start = -room.ctypes.data % _ALIGNED_BYTES
        return room[start : start + n_bytes].view(kind).reshape(shape)
    return np.frombuffer(_on_disk(n_bytes), kind).reshape(shape)


def fits_in_memory(n_bytes: int) -> bool:
    """Whether an array of so many bytes is small beside the memory that is available now.

    Raises:
        UsageError: `DEPONIJ_MEMORY_GIB` is no number from 0 on.
    """
    given = os.environ.get(MEMORY)
    if given is None:
        return n_bytes <= _SMALL_BYTES or n_bytes * _PARTS <= available_bytes()
    try:
        gib = float(given)
    except ValueError:
        gib = -1.0
    if not gib >= 0:
        raise UsageError(f"{MEMORY} must be a number of GiB from 0 on, got {given!r}")
    return n_bytes * _PARTS <= gib * 2**30


def available_bytes() -> int:
    """Memory that this process can still take without swapping: of the machine, and of the control groups it is in."""
    import psutil

    return min([int(psutil.virtual_memory().available), *_left_in_groups()])


def _left_in_groups() -> Iterator[int]:
    """Of each control group (version 2) with a limit, a container's or a batch system's; cached files make way."""
    try:
        name = Path("/proc/self/cgroup").read_text().partition("0::")[2].split("\n")[0].strip("/")
    except OSError:
        return
    own = _CGROUPS / name
    for folder in (own, *own.parents[: len(Path(name).parts)]):
        try:
            limit, used = ((folder / f"memory.{what}").read_text() for what in ("max", "current"))
            stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        except OSError:
            continue
        if limit.strip() != "max":
            yield int(limit) - int(used) + int(stat["file"])


def folder() -> Path:
    """Where arrays lie that are not in memory: `TMPDIR`, or else /var/tmp, since /tmp itself often is memory."""
    chosen, usual = os.environ.get("TMPDIR"), Path("/var/tmp")
    return Path(chosen) if chosen else usual if usual.is_dir() else Path(tempfile.gettempdir())


def _on_disk(n_bytes: int) -> mmap.mmap:
    """A file without a name. It has all its room from the start: to fill what a disk lacks would kill the process."""
    where = folder()
    what = f"cannot set {n_bytes:,} bytes aside in {where} for an array beyond memory (TMPDIR names another folder)"
    with explained(what, MachineError), tempfile.TemporaryFile(dir=where, buffering=0) as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, n_bytes)
        else:
            file.truncate(n_bytes)
        return mmap.mmap(file.fileno(), n_bytes)


def taken(values: Array, rows: npt.NDArray[np.integer]) -> Array:
    """`values[rows]` of row numbers from 0 [m]; of rows that lie side by side it is no copy, and must not be written to.

    What is no array, as features that are read when they are asked for, is asked for the rows itself.
    """
    if isinstance(values, np.ndarray) and len(rows) and (np.diff(rows) == 1).all():
        return values[rows[0] : rows[-1] + 1]
    if not isinstance(values, np.ndarray) or fits_in_memory(len(rows) * row_bytes(values)):
        chosen: Array = values[rows]
        return chosen
    chosen = scratch((len(rows), *values.shape[1:]), values.dtype)
    for some in blocks_of(chosen):
        chosen[some] = values[rows[some]]
    return chosen


def stacked(arrays: Sequence[Array]) -> Array:
    """Arrays [n_i, d] one below the other, as `numpy.concatenate`."""
    return _joined(arrays, 0)


def beside(arrays: Sequence[Array]) -> Array:
    """Arrays [n, d_i] side by side, as `numpy.concatenate`; of a single one it is no copy."""
    return arrays[0] if len(arrays) == 1 else _joined(arrays, 1)


def _joined(arrays: Sequence[Array], axis: int) -> Array:
    shape = list(arrays[0].shape)
    shape[axis] = sum(array.shape[axis] for array in arrays)
    return np.concatenate(arrays, axis, out=scratch(shape, np.result_type(*arrays)))


def converted(values: Array, dtype: npt.DTypeLike) -> Array:
    """`values.astype(dtype)`."""
    wide = scratch(values.shape, dtype)
    wide[...] = values
    return wide


def finite_rows(values: Array) -> npt.NDArray[np.bool_]:
    """Which rows of [n, …] have no NaN and nothing infinite, [n]."""
    are_finite = np.empty(len(values), np.bool_)
    for some in blocks_of(values):
        are_finite[some] = np.isfinite(values[some]).reshape(some.stop - some.start, -1).all(axis=1)
    return are_finite


def blocks_of(values: Array) -> Iterator[slice]:
    """All rows of [n, …], so many at a time that a copy of them is small."""
    step = max(1, _BLOCK_BYTES // max(1, row_bytes(values)))
    for start in range(0, len(values), step):
        yield slice(start, min(start + step, len(values)))


def row_bytes(values: Array) -> int:
    """What a row of [n, …] takes."""
    return values.itemsize * int(np.prod(values.shape[1:], dtype=np.int64))
