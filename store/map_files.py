"""The files that maps are read from, kept open: a row, or the tiles of it that a window touches, by few reads.

A row's tiles lie side by side, so that a whole row is one read of the file, and its checksum is that of all its bytes;
of a window each tile is checked. Several threads take a row each, since HDF5 itself does one thing at a time. Object
stores and files that lie otherwise are read by HDF5, which checks what it reads.
"""

import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import h5py
import numpy as np
from isal.isal_zlib import crc32
from numpy.lib.stride_tricks import as_strided

from deponij.store import hdf5, shard
from deponij.store.errors import StoreError, explained
from deponij.store.folders import Folder
from deponij.store.hdf5 import Array
from deponij.store.shard import Sidecar

# Files that are kept open: more than a batch touches, far fewer than a process may have.
_N_OPEN = 64
_N_THREADS = 4
# Tiles that are this near each other are one read: HDF5 puts parts of its index between them.
_GAP_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class Part:
    """Cells [top, bottom) x [left, right) of a map."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in cells."""
        return self.bottom - self.top, self.right - self.left


@dataclass(frozen=True, slots=True)
class _Band:
    """Tiles [C, h, w] of a map that follow each other in a row of tiles and, at equal steps, in the file.

    Attributes:
        name: of the map.
        top, left: first cell of the first tile.
        shape: (C, h, w) of a tile; of the last in a line or column some cells may lie outside of the map.
        offset: of the first tile's bytes in the file; HDF5's Fletcher-32 checksum ends them.
        n_bytes: of a tile, its checksum included.
        step: bytes from one tile's begin to the next one's.
        n: tiles.
    """

    name: str
    top: int
    left: int
    shape: tuple[int, int, int]
    offset: int
    n_bytes: int
    step: int
    n: int

    @property
    def end(self) -> int:
        """Where the last tile's bytes end."""
        return self.offset + (self.n - 1) * self.step + self.n_bytes

    def followed_by(self, tile: "_Band") -> "_Band | None":
        """Both as one band, if the tile goes on where this one ends."""
        step = tile.offset - self.offset if self.n == 1 else self.step
        is_next = (
            (tile.name, tile.top) == (self.name, self.top)
            and tile.left == self.left + self.n * self.shape[2]
            and tile.offset == self.offset + self.n * step
        )
        return replace(self, step=step, n=self.n + 1) if is_next else None

    def touched_by(self, part: Part) -> "_Band | None":
        """Those of its tiles that hold some of the part's cells."""
        _, height, width = self.shape
        first = max(0, (part.left - self.left) // width)
        last = min(self.n, -(-(part.right - self.left) // width))
        if first >= last or self.top >= part.bottom or part.top >= self.top + height:
            return None
        left, offset = self.left + first * width, self.offset + first * self.step
        return replace(self, left=left, offset=offset, n=last - first)

    def place(self, content: memoryview, into: Array, part: Part) -> None:
        """Copy those of its values that are the part's into the part's array [C, h, w].

        Args:
            content: of the file, from the first tile's begin to the last one's end.
        """
        _, height, width = self.shape
        of_tile = (height * width * into.itemsize, width * into.itemsize, into.itemsize)
        tiles: Array = np.ndarray((self.n, *self.shape), into.dtype, content, strides=(self.step, *of_tile))
        top, bottom = max(self.top, part.top), min(self.top + height, part.bottom)
        tiles = tiles[:, :, top - self.top : bottom - self.top]
        lines = into[:, top - part.top : bottom - part.top]
        # Those that the part has whole go in one copy, line by line of the map: what is written lies side by side.
        whole = range(
            max(0, -(-(part.left - self.left) // width)), min(self.n, (part.right - self.left) // width)
        )
        if whole:
            begin = self.left + whole.start * width - part.left
            columns = lines[:, :, begin : begin + len(whole) * width]
            shape, strides = (*columns.shape[:2], len(whole), width), columns.strides
            as_tiles = as_strided(columns, shape, (*strides[:2], width * strides[2], strides[2]))
            as_tiles[...] = tiles[whole.start : whole.stop].transpose(1, 2, 0, 3)
        for number in range(self.n):
            if number not in whole:
                at = self.left + number * width
                left, right = max(at, part.left), min(at + width, part.right)
                lines[:, :, left - part.left : right - part.left] = tiles[
                    number, :, :, left - at : right - at
                ]


class MapFile:
    """One shard's file.

    Attributes:
        checksums: of its rows as they were written, uint32 [n].

    Raises:
        FileNotFoundError: it is not there any more.
        StoreError: it is damaged or another file than the sidecar says.
    """

    def __init__(self, folder: Folder, sidecar: Sidecar) -> None:
        self._name = f"{folder.location}/{sidecar.name}.h5"
        self._source = folder.source(f"{sidecar.name}.h5")
        self._open = ExitStack()
        # At the end of the process too, while all that closing needs is still there.
        weakref.finalize(self, self._open.close)
        file = self._open.enter_context(shard.opened(folder, sidecar))
        with hdf5.told_as_damage(self._source, self._name):
            self.checksums = hdf5.whole(file["checksums"])
            self._maps: dict[str, h5py.Dataset] = {name: file["arrays"][name] for name in sidecar.arrays}
            is_direct = isinstance(self._source, Path) and hasattr(os, "preadv")
            is_direct = is_direct and all(map(_is_in_tiles, self._maps.values()))
            self._bands = _bands(self._maps, len(self.checksums)) if is_direct else None
        self._descriptor = -1
        if self._bands is not None and isinstance(self._source, Path):
            self._descriptor = os.open(self._source, os.O_RDONLY)
            weakref.finalize(self, os.close, self._descriptor)

    def read(self, row: int, into: Mapping[str, Array], parts: Mapping[str, Part] | None) -> None:
        """Read one row's maps, or parts of them.

        Args:
            into: name -> [C, h', w'] to be filled, of all the file's maps.

        Raises:
            StoreError: bytes are damaged.
        """
        if self._bands is not None:
            self._read_bands(self._bands[row], into, parts)
            if parts is None:
                self._check_row(row, into)
            return
        with hdf5.told_as_damage(self._source, self._name):
            for name, target in into.items():
                part = _part_of(name, into, parts)
                rows, columns = slice(part.top, part.bottom), slice(part.left, part.right)
                target[...] = self._maps[name][row, :, rows, columns]

    def _read_bands(
        self, bands: Sequence[_Band], into: Mapping[str, Array], parts: Mapping[str, Part] | None
    ) -> None:
        """Those tiles that are touched, checked one by one where not all of a row is read."""
        wanted = {name: _part_of(name, into, parts) for name in into}
        touched = [one for band in bands if (one := band.touched_by(wanted[band.name]))]
        for stretch in _stretches(touched):
            begin = stretch[0].offset
            content = self._bytes(begin, stretch[-1].end - begin)
            for band in stretch:
                own = content[band.offset - begin : band.end - begin]
                if parts is not None:
                    self._check_tiles(band, own)
                band.place(own, into[band.name], wanted[band.name])

    def _check_tiles(self, band: _Band, content: memoryview) -> None:
        for begin in range(0, band.n * band.step, band.step):
            if not hdf5.is_whole_chunk(content[begin : begin + band.n_bytes]):
                self._tell_damage(f"a tile of {band.name} does not fit its checksum")

    def _check_row(self, row: int, maps: Mapping[str, Array]) -> None:
        checksum = 0
        for name in sorted(maps):
            checksum = crc32(maps[name].reshape(-1).view(np.uint8).data, checksum)
        if checksum != self.checksums[row]:
            self._tell_damage(f"its row {row} does not fit its checksum")

    def _tell_damage(self, what: str) -> NoReturn:
        raise StoreError(f"{self._name} is damaged (run `deponij depot verify` on a depot): {what}")

    def _bytes(self, offset: int, n_bytes: int) -> memoryview:
        """A stretch of the file, in memory that this thread uses for the next one, too."""
        kept: bytearray = getattr(_memory, "buffer", bytearray())
        if len(kept) < n_bytes:
            kept = _memory.buffer = bytearray(n_bytes)
        content = memoryview(kept)[:n_bytes]
        n_read = 0
        with explained(f"cannot read {self._name}"):
            while n_read < n_bytes:
                step = os.preadv(self._descriptor, [content[n_read:]], offset + n_read)
                if step == 0:
                    self._tell_damage("it ends in the middle of a row")
                n_read += step
        return content


class MapFiles:
    """Open files of shards, the last used ones, and threads to read them; a process that was forked has its own."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._files: OrderedDict[str, MapFile] = OrderedDict()
        self._threads: ThreadPoolExecutor | None = None

    def open(self, folder: Folder, sidecar: Sidecar) -> MapFile:
        """A shard's file; see `MapFile`."""
        if self._process != os.getpid():
            self._begin()
        with self._lock:
            file = self._files.pop(sidecar.name, None) or MapFile(folder, sidecar)
            self._files[sidecar.name] = file
            # A file goes when the last one who reads it lets it go.
            while len(self._files) > _N_OPEN:
                self._files.popitem(last=False)
            return file

    def run(self, tasks: Sequence[Callable[[], None]]) -> None:
        """Do all of these, several at a time; the first error is raised."""
        with self._lock:
            if self._threads is None:
                self._threads = ThreadPoolExecutor(_N_THREADS, thread_name_prefix="map-rows")
        for future in [self._threads.submit(task) for task in tasks]:
            future.result()


_memory = threading.local()


def _part_of(name: str, into: Mapping[str, Array], parts: Mapping[str, Part] | None) -> Part:
    return Part(0, 0, *into[name].shape[1:]) if parts is None else parts[name]


def _is_in_tiles(maps: h5py.Dataset) -> bool:
    """Whether bytes lie in the file as they are, row by row."""
    chunks = maps.chunks
    is_plain = maps.fletcher32 and maps.compression is None and not maps.shuffle and maps.scaleoffset is None
    return bool(chunks and chunks[0] == 1 and chunks[1] == maps.shape[1] and is_plain and maps.dtype.isnative)


def _bands(maps: Mapping[str, h5py.Dataset], n_rows: int) -> list[list[_Band]]:
    """Of each row, in the order of the file."""
    tiles: list[list[_Band]] = [[] for _ in range(n_rows)]

    def add(name: str, shape: tuple[int, int, int], chunk: Any) -> None:  # Any: h5py's StoreInfo has no types
        row, _, top, left = chunk.chunk_offset
        tiles[row].append(_Band(name, top, left, shape, chunk.byte_offset, chunk.size, chunk.size, 1))

    for name, dataset in maps.items():
        dataset.id.chunk_iter(partial(add, name, dataset.chunks[1:]))
    return [_joined(sorted(one, key=lambda tile: tile.offset)) for one in tiles]


def _joined(tiles: Sequence[_Band]) -> list[_Band]:
    bands: list[_Band] = []
    for tile in tiles:
        if bands and (both := bands[-1].followed_by(tile)):
            bands[-1] = both
        else:
            bands.append(tile)
    return bands


def _stretches(bands: Sequence[_Band]) -> list[list[_Band]]:
    """Bands that lie side by side."""
    stretches: list[list[_Band]] = []
    for band in bands:
        if stretches and band.offset - stretches[-1][-1].end <= _GAP_BYTES:
            stretches[-1].append(band)
        else:
            stretches.append([band])
    return stretches
