"""How Deponij writes and reads HDF5: checksummed chunks, no times, errors that say what is damaged.

Every dataset carries HDF5's own Fletcher-32 filter, so that plain h5py checks each chunk it reads
as well. Metadata blocks are checksummed by the file format (version 1.10 and later); texts are of
fixed length, because HDF5 keeps those of variable length where no checksum covers them.
"""

import io
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import h5py
import numpy as np
import numpy.typing as npt

from deponij.store.errors import MachineError, StoreError, explained, is_exhaustion
from deponij.store.scratch import fits_in_memory, scratch, taken
from deponij.store.texts import is_storable

CHUNK_BYTES = 1 << 20
# Of one picture's map: a window reads few of them without need, and a picture has no more than some tens.
TILE_BYTES = 128 << 10
_CHECKSUM_BYTES = 4
# Of about 1 MiB, where not all of a dataset is held.
_CHUNKS_AT_ONCE = 32
_SIDE, _MODULUS = 256, 65535
# Files of the 1.10 format: metadata checksums, readable by h5py of the last years.
LIBVER = ("v110", "v110")

Array = npt.NDArray[Any]


@contextmanager
def creating(path: Path) -> Iterator[h5py.File]:
    """A new file, closed (but not yet flushed to the disk) on leaving.

    It is built in memory and then written in one go: on a full disk HDF5 itself cannot close its
    file any more and takes the process down when it exits.

    Raises:
        StoreError: the file cannot be written.
    """
    image = io.BytesIO()
    with h5py.File(image, "w", libver=LIBVER) as file:
        yield file
    with explained(f"cannot write {path}"):
        path.write_bytes(image.getbuffer())


@contextmanager
def reading(source: Path | IO[bytes], name: str) -> Iterator[h5py.File]:
    """An existing file; whatever HDF5 stumbles over inside the block is reported as damage to `name`.

    Raises:
        FileNotFoundError: there is no such file.
        StoreError: not HDF5, truncated, or a chunk's checksum does not fit.
    """
    # Files are immutable: no locks, which some network file systems do not have.
    options = {"locking": False} if isinstance(source, Path) else {}
    with told_as_damage(source, name), h5py.File(source, "r", **options) as file:
        _refuse_links(file)
        yield file


def _refuse_links(file: h5py.File) -> None:
    """A file of ours holds all of itself; a link would have whoever opens it read what its maker chose, anywhere."""
    names: list[bytes] = []
    file.id.links.visit(names.append)
    for name in names:
        if file.id.links.get_info(name).type != h5py.h5l.TYPE_HARD:
            raise ValueError(f"{name.decode(errors='replace')} is a link, which is never followed")


@contextmanager
def told_as_damage(source: Path | IO[bytes], name: str) -> Iterator[None]:
    """Whatever HDF5 stumbles over in a file inside the block is damage to `name`; see `reading`."""
    try:
        yield
    except (FileNotFoundError, StoreError):
        raise
    except PermissionError as error:
        raise StoreError(f"cannot read {name}: permission denied") from error
    # h5py raises RuntimeError, KeyError, TypeError or ValueError for broken headers and links
    # (AttributeError for a group in place of a dataset, IndexError for one that is too short), OSError for the rest.
    except (OSError, RuntimeError, LookupError, TypeError, ValueError, AttributeError) as error:
        if isinstance(source, Path) and not source.exists():
            # Tidied away while HDF5 was opening it, which then fails in its own words.
            raise FileNotFoundError(name) from error
        if is_exhaustion(error):
            # To call the file damaged would set it aside.
            raise MachineError(f"cannot read {name}: {error}") from error
        raise StoreError(f"{name} is damaged (run `deponij depot verify` on a depot): {error}") from error


def write_array(group: h5py.Group, name: str, values: Array) -> None:
    """Write one array, rows first, in equal checksummed chunks of at most about 1 MiB."""
    if values.size == 0:
        group.create_dataset(name, data=values, track_times=False)
        return
    row_bytes = values.itemsize * int(np.prod(values.shape[1:], dtype=np.int64))
    n_chunks = -(-len(values) // max(1, CHUNK_BYTES // row_bytes))
    rows = -(-len(values) // n_chunks)
    group.create_dataset(
        name, data=values, chunks=(rows, *values.shape[1:]), fletcher32=True, track_times=False
    )


def write_maps(group: h5py.Group, maps: Mapping[str, Array]) -> None:
    """Write maps [n, C, h, w] of pictures in checksummed tiles (1, C, h', w') of at most about 128 KiB.

    Picture by picture, so that all of a picture's tiles lie side by side in the file, map by map in name order.
    """
    if not all(values.size for values in maps.values()):
        for name, values in sorted(maps.items()):
            write_array(group, name, values)
        return
    options = {"fletcher32": True, "track_times": False}
    datasets = {
        name: group.create_dataset(
            name, values.shape, values.dtype, chunks=tile_of(values.shape[1:], values.itemsize), **options
        )
        for name, values in sorted(maps.items())
    }
    for row in range(len(next(iter(maps.values())))):
        for name, dataset in datasets.items():
            dataset[row] = maps[name][row]
            # Tiles get their places when they leave the cache, which would be in its own order.
            dataset.id.flush()


def tile_of(shape: tuple[int, ...], item_bytes: int) -> tuple[int, int, int, int]:
    """Shape (1, C, h', w') of the tiles of maps [C, h, w]: all channels of about a square, equal parts of the map."""
    channels, height, width = shape
    n_tiles = -(-channels * height * width * item_bytes // TILE_BYTES)
    n_rows = min(height, max(1, round((n_tiles * height / width) ** 0.5)))
    n_columns = min(width, -(-n_tiles // n_rows))
    return 1, channels, -(-height // n_rows), -(-width // n_columns)


def map_bytes(shape: tuple[int, ...], item_bytes: int) -> int:
    """What a map [C, h, w] takes on disk: its tiles, of which those at the end are as large as the others."""
    _, channels, height, width = tile_of(shape, item_bytes)
    n_tiles = -(-shape[1] // height) * -(-shape[2] // width)
    return n_tiles * (channels * height * width * item_bytes + _CHECKSUM_BYTES)


def is_whole_chunk(content: memoryview) -> bool:
    """Whether a chunk's bytes, as they lie in the file, fit the Fletcher-32 checksum at their end."""
    end = len(content) - _CHECKSUM_BYTES
    return fletcher32(content[:end]) == int.from_bytes(content[end:], "little")


def fletcher32(content: memoryview) -> int:
    """HDF5's checksum of an even number of bytes (H5_checksum_fletcher32), in NumPy.

    Of 16-bit words d_1 … d_n the sums of d_i and of (n + 1 - i) d_i, modulo 65535. Squares of 256 x 256 words have sums of
    rows and of columns below 2**24, which are exact in float32. HDF5 takes words as big-endian: that is 256 times the
    little-endian one, modulo 65535.
    """
    words = np.frombuffer(content, "<u2")
    squares = np.empty((-(-len(words) // _SIDE**2), _SIDE, _SIDE), np.float32)
    squares.reshape(-1)[: len(words)] = words
    squares.reshape(-1)[len(words) :] = 0
    ones = np.ones(_SIDE, np.float32)
    rows = (squares @ ones).astype(np.int64).reshape(-1)  # [squares * 256]
    columns = (ones @ squares).astype(np.int64).sum(axis=0)  # [256]
    weights = (len(words) - _SIDE * np.arange(len(rows))) % _MODULUS
    plain, weighted = int(rows.sum()), int(rows @ weights) - int(columns @ np.arange(_SIDE))
    if plain == 0:
        return 0
    # Folding the carry, as HDF5 does, makes no zero of what is none.
    return (weighted * 256 % _MODULUS or _MODULUS) << 16 | (plain * 256 % _MODULUS or _MODULUS)


def encoded(values: Sequence[str], what: str) -> npt.NDArray[np.bytes_]:
    """Strings as fixed-length UTF-8 [n].

    Raises:
        StoreError: a string is no valid Unicode (a file name of another encoding, say) or holds NUL.
    """
    strangers = [value for value in values if not is_storable(value)]
    if strangers:
        raise StoreError(
            f"{what} must be valid Unicode without NUL, got {strangers[0]!r}; rename the file it stands for"
        )
    raw = [value.encode() for value in values]
    return np.array(raw, dtype=f"S{max((len(value) for value in raw), default=1) or 1}")


def write_strings(group: h5py.Group, name: str, values: Sequence[str]) -> npt.NDArray[np.bytes_]:
    """Write strings as fixed-length UTF-8, which chunk checksums cover; returns what is written."""
    raw = encoded(values, name)
    write_array(group, name, raw)
    write_text(group[name], "encoding", "utf-8")
    return raw


def decoded(raw: npt.NDArray[np.bytes_]) -> npt.NDArray[np.str_]:
    """What `encoded` made, back as a NumPy array of str [n]."""
    return np.char.decode(raw, "utf-8") if len(raw) else np.array([], dtype="U1")


def read_strings(group: h5py.Group, name: str) -> npt.NDArray[np.str_]:
    """What `write_strings` wrote, as a NumPy array of str [n]."""
    return decoded(whole(group[name]))


def whole(dataset: h5py.Dataset) -> Array:
    """All of a dataset that lies in its own file.

    Raises:
        ValueError: it claims more than the file holds, which would be filled up in memory: made up, or kept elsewhere.
    """
    _refuse_lacking(dataset)
    values: Array = dataset[:]
    return values


def _refuse_lacking(dataset: h5py.Dataset) -> None:
    _refuse_elsewhere(dataset)
    n_held = dataset.id.get_storage_size()
    if n_held < dataset.nbytes:
        raise ValueError(f"its {dataset.name} claims {dataset.nbytes:,} bytes and holds {n_held:,}")


def _refuse_elsewhere(dataset: h5py.Dataset) -> None:
    if dataset.is_virtual or dataset.external:
        raise ValueError(f"its {dataset.name} lies in another file, which is never read")


def write_text(owner: h5py.HLObject, name: str, text: str) -> None:
    """Write one text attribute at fixed length."""
    owner.attrs[name] = np.bytes_(text.encode())


def read_text(owner: h5py.HLObject, name: str) -> str | None:
    """What `write_text` wrote; None where it is absent."""
    value = owner.attrs.get(name)
    return value.decode() if isinstance(value, bytes) else value


def read_rows(dataset: h5py.Dataset, rows: npt.NDArray[np.int64]) -> Array:
    """Rows in any order, with repeats; reads each needed stretch once.

    Args:
        rows: [m] row numbers.

    Returns:
        [m, …] of the dataset's dtype.
    """
    if len(rows) == 0:
        return np.empty((0, *dataset.shape[1:]), dataset.dtype)
    is_all = len(rows) == len(dataset) and np.array_equal(rows, np.arange(len(rows)))
    distinct, inverse = (rows, rows) if is_all else np.unique(rows, return_inverse=True)
    if len(distinct) * 4 >= len(dataset):
        if not fits_in_memory(dataset.nbytes):
            return _gone_through(dataset, rows)
        return whole(dataset) if is_all else whole(dataset)[rows]
    _refuse_elsewhere(dataset)
    values = scratch((len(distinct), *dataset.shape[1:]), dataset.dtype)
    breaks = np.flatnonzero(np.diff(distinct) != 1) + 1
    for start, stop in zip([0, *breaks], [*breaks, len(distinct)], strict=True):
        values[start:stop] = dataset[distinct[start] : distinct[stop - 1] + 1]
    in_order = np.array_equal(inverse, np.arange(len(distinct)))
    return values if in_order else taken(values, inverse)


def _gone_through(dataset: h5py.Dataset, rows: npt.NDArray[np.int64]) -> Array:
    """As `read_rows`, of many rows, some chunks at a time."""
    _refuse_lacking(dataset)
    values = scratch((len(rows), *dataset.shape[1:]), dataset.dtype)
    places = np.argsort(rows, kind="stable")
    ascending = rows[places]
    if ascending[-1] >= len(dataset):
        raise IndexError(
            f"its {dataset.name} has {len(dataset):,} rows, and row {ascending[-1]:,} was asked for"
        )
    step = (dataset.chunks or (1,))[0] * _CHUNKS_AT_ONCE
    for start in range(0, len(dataset), step):
        some = slice(*np.searchsorted(ascending, (start, start + step)))
        values[places[some]] = dataset[start : start + step][ascending[some] - start]
    return values


def lies_row_by_row(dataset: h5py.Dataset) -> bool:
    """Whether each row's bytes lie in the file side by side, as they are."""
    is_plain = dataset.compression is None and not dataset.shuffle and dataset.scaleoffset is None
    rows_only = bool(dataset.chunks) and dataset.chunks[1:] == dataset.shape[1:]
    return bool(rows_only and is_plain and dataset.dtype.isnative and hasattr(os, "preadv"))


def read_bare_rows(path: Path, dataset: h5py.Dataset, rows: npt.NDArray[np.int64]) -> Array:
    """Rows in any order, with repeats, read from where they lie in the file; nothing is checked: the caller must.

    For a few rows of many: HDF5 reads and checks the whole chunk of each.

    Args:
        path: of the dataset's file.
        dataset: one that `lies_row_by_row`.
        rows: [m] row numbers.

    Returns:
        [m, …] of the dataset's dtype.

    Raises:
        StoreError: the file ends before a row does.
    """
    values = scratch((len(rows), *dataset.shape[1:]), dataset.dtype)
    content = values.reshape(-1).view(np.uint8).data
    n_bytes = len(content) // max(1, len(rows))
    chunk_rows, rest = dataset.chunks[0], (0,) * (dataset.ndim - 1)
    offsets: dict[int, int] = {}
    descriptor = os.open(path, os.O_RDONLY)
    try:
        for place, row in enumerate(rows.tolist()):
            chunk, within = divmod(row, chunk_rows)
            if chunk not in offsets:
                offsets[chunk] = dataset.id.get_chunk_info_by_coord((chunk * chunk_rows, *rest)).byte_offset
            own = content[place * n_bytes : (place + 1) * n_bytes]
            if os.preadv(descriptor, [own], offsets[chunk] + within * n_bytes) != n_bytes:
                raise StoreError(f"{path} is damaged: it ends in the middle of a row")
    finally:
        os.close(descriptor)
    return values
