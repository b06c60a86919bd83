"""How Deponij writes and reads HDF5: checksummed chunks, no times, errors that say what is damaged.

Every dataset carries HDF5's own Fletcher-32 filter, so that plain h5py checks each chunk it reads
as well. Metadata blocks are checksummed by the file format (version 1.10 and later).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import h5py
import numpy as np
import numpy.typing as npt

from store.errors import StoreError

CHUNK_BYTES = 1 << 20
# zlib-free files of the 1.10 format: metadata checksums, readable by h5py of the last years.
LIBVER = ("v110", "v110")

Array = npt.NDArray[Any]


@contextmanager
def creating(path: Path) -> Iterator[h5py.File]:
    """A new file, closed (but not yet flushed to the disk) on leaving."""
    try:
        with h5py.File(path, "w", libver=LIBVER) as file:
            yield file
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error}") from error


@contextmanager
def reading(source: Path | IO[bytes], name: str) -> Iterator[h5py.File]:
    """An existing file; whatever HDF5 stumbles over inside the block is reported as damage to `name`.

    Raises:
        FileNotFoundError: there is no such file.
        StoreError: not HDF5, truncated, or a chunk's checksum does not fit.
    """
    if isinstance(source, Path) and not source.exists():
        raise FileNotFoundError(source)
    try:
        with h5py.File(source, "r") as file:
            yield file
    # h5py raises RuntimeError or KeyError for broken links and B-trees, OSError for the rest.
    except (OSError, RuntimeError, KeyError) as error:
        raise StoreError(f"{name} is damaged (run `deponij depot verify` on a depot): {error}") from error


def write_array(group: h5py.Group, name: str, values: Array) -> None:
    """Write one array, rows first, in checksummed chunks of about 1 MiB."""
    row_bytes = max(1, values.itemsize * int(np.prod(values.shape[1:], dtype=np.int64)))
    rows = max(1, min(len(values), CHUNK_BYTES // row_bytes))
    if values.size == 0:
        group.create_dataset(name, data=values, track_times=False)
        return
    group.create_dataset(
        name, data=values, chunks=(rows, *values.shape[1:]), fletcher32=True, track_times=False
    )


def write_strings(group: h5py.Group, name: str, values: list[str]) -> None:
    """Write strings as fixed-length UTF-8, so that the chunk checksums cover them."""
    encoded = [value.encode() for value in values]
    width = max((len(value) for value in encoded), default=1) or 1
    write_array(group, name, np.array(encoded, dtype=f"S{width}"))
    group[name].attrs["encoding"] = "utf-8"


def read_strings(group: h5py.Group, name: str) -> npt.NDArray[np.str_]:
    """What `write_strings` wrote, as a NumPy array of str [n]."""
    raw = group[name][:]
    return np.char.decode(raw, "utf-8") if len(raw) else np.array([], dtype="U1")


def read_rows(dataset: h5py.Dataset, rows: npt.NDArray[np.int64]) -> Array:
    """Rows in any order, with repeats; reads each needed stretch once.

    Args:
        rows: [m] row numbers.

    Returns:
        [m, …] of the dataset's dtype.
    """
    wanted, inverse = np.unique(rows, return_inverse=True)
    if len(wanted) == 0:
        return np.empty((0, *dataset.shape[1:]), dataset.dtype)
    if len(wanted) * 4 >= len(dataset):
        found = dataset[:][wanted]
    else:
        found = np.empty((len(wanted), *dataset.shape[1:]), dataset.dtype)
        breaks = np.flatnonzero(np.diff(wanted) != 1) + 1
        for start, stop in zip([0, *breaks], [*breaks, len(wanted)], strict=True):
            found[start:stop] = dataset[wanted[start] : wanted[stop - 1] + 1]
    in_order = np.array_equal(inverse, np.arange(len(wanted)))
    return found if in_order else found[inverse]
