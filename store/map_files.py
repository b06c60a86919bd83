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
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn
from zlib import crc32

import h5py
import numpy as np

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
class _Tile:
    """A tile [C, h', w'] of a map: its top left cell, and where its bytes and their checksum lie in the file."""

    name: str
    top: int
    left: int
    shape: tuple[int, int, int]
    offset: int
    end: int

    def touches(self, part: Part) -> bool:
        """Whether it holds some of the part's cells."""
        _, height, width = self.shape
        return (
            self.top < part.bottom
            and part.top < self.top + height
            and self.left < part.right
            and part.left < self.left + width
        )

    def place(self, values: Array, into: Array, part: Part) -> None:
        """Copy those of its values that are the part's into the part's array [C, h, w]."""
        _, height, width = self.shape
        top, bottom = max(self.top, part.top), min(self.top + height, part.bottom)
        left, right = max(self.left, part.left), min(self.left + width, part.right)
        into[:, top - part.top : bottom - part.top, left - part.left : right - part.left] = values[
            :, top - self.top : bottom - self.top, left - self.left : right - self.left
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
            self.checksums = file["checksums"][:]
            self._maps: dict[str, h5py.Dataset] = {name: file["arrays"][name] for name in sidecar.arrays}
            is_direct = isinstance(self._source, Path) and hasattr(os, "preadv")
            is_direct = is_direct and all(map(_is_in_tiles, self._maps.values()))
            self._tiles = _tiles(self._maps, len(self.checksums)) if is_direct else None
        self._descriptor = -1
        if self._tiles is not None and isinstance(self._source, Path):
            self._descriptor = os.open(self._source, os.O_RDONLY)
            weakref.finalize(self, os.close, self._descriptor)

    def read(self, row: int, into: Mapping[str, Array], parts: Mapping[str, Part] | None) -> None:
        """Read one row's maps, or parts of them.

        Args:
            into: name -> [C, h', w'] to be filled, of all the file's maps.

        Raises:
            StoreError: bytes are damaged.
        """
        if self._tiles is not None:
            self._read_tiles(self._tiles[row], into, parts)
            if parts is None:
                self._check_row(row, into)
            return
        with hdf5.told_as_damage(self._source, self._name):
            for name, target in into.items():
                part = _part_of(name, into, parts)
                rows, columns = slice(part.top, part.bottom), slice(part.left, part.right)
                target[...] = self._maps[name][row, :, rows, columns]

    def _read_tiles(
        self, tiles: Sequence[_Tile], into: Mapping[str, Array], parts: Mapping[str, Part] | None
    ) -> None:
        """Those that are touched, checked one by one where not all of a row is read."""
        touched = [tile for tile in tiles if tile.touches(_part_of(tile.name, into, parts))]
        for stretch in _stretches(touched):
            begin = stretch[0].offset
            content = self._bytes(begin, stretch[-1].end - begin)
            for tile in stretch:
                own = content[tile.offset - begin : tile.end - begin]
                if parts is not None and not hdf5.is_whole_chunk(own):
                    self._tell_damage(f"a tile of {tile.name} does not fit its checksum")
                values = np.frombuffer(own, into[tile.name].dtype, count=int(np.prod(tile.shape)))
                tile.place(values.reshape(tile.shape), into[tile.name], _part_of(tile.name, into, parts))

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


def _tiles(maps: Mapping[str, h5py.Dataset], n_rows: int) -> list[list[_Tile]]:
    """Of each row, in the order of the file."""
    found: list[list[_Tile]] = [[] for _ in range(n_rows)]

    def add(name: str, shape: tuple[int, int, int], chunk: Any) -> None:  # Any: h5py's StoreInfo has no types
        row, _, top, left = chunk.chunk_offset
        end = chunk.byte_offset + chunk.size
        found[row].append(_Tile(name, top, left, shape, chunk.byte_offset, end))

    for name, dataset in maps.items():
        dataset.id.chunk_iter(partial(add, name, dataset.chunks[1:]))
    return [sorted(tiles, key=lambda tile: tile.offset) for tiles in found]


def _stretches(tiles: Sequence[_Tile]) -> list[list[_Tile]]:
    """Tiles that lie side by side."""
    stretches: list[list[_Tile]] = []
    for tile in tiles:
        if stretches and tile.offset - stretches[-1][-1].end <= _GAP_BYTES:
            stretches[-1].append(tile)
        else:
            stretches.append([tile])
    return stretches
