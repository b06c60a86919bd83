"""The files that maps are read from, kept open: whole rows by one read each, windows by HDF5.

A row's tiles lie side by side, so that a whole row is one read of the file, and its checksum is that of all its bytes.
Several threads take a row each, since HDF5 itself does one thing at a time. Windows, object stores and odd files are
read by HDF5, which checks each tile that it touches.
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
from typing import Any
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
    """Where a tile lies in the file, and its top left cell in the map."""

    name: str
    top: int
    left: int
    offset: int
    end: int


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
        if parts is None and self._tiles is not None:
            self._read_whole(row, into)
            return
        with hdf5.told_as_damage(self._source, self._name):
            for name, target in into.items():
                part = Part(0, 0, *target.shape[1:]) if parts is None else parts[name]
                rows, columns = slice(part.top, part.bottom), slice(part.left, part.right)
                target[...] = self._maps[name][row, :, rows, columns]

    def _read_whole(self, row: int, into: Mapping[str, Array]) -> None:
        for stretch in _stretches(self._tiles[row] if self._tiles else []):
            begin = stretch[0].offset
            content = self._bytes(begin, stretch[-1].end - begin)
            for tile in stretch:
                maps = self._maps[tile.name]
                shape = maps.chunks[1:]
                values = np.frombuffer(
                    content, maps.dtype, count=int(np.prod(shape)), offset=tile.offset - begin
                ).reshape(shape)
                target = into[tile.name][:, tile.top : tile.top + shape[1], tile.left : tile.left + shape[2]]
                target[...] = values[:, : target.shape[1], : target.shape[2]]
        checksum = 0
        for name in sorted(into):
            checksum = crc32(into[name].reshape(-1).view(np.uint8).data, checksum)
        if checksum != self.checksums[row]:
            raise StoreError(
                f"{self._name} is damaged (run `deponij depot verify` on a depot): its row {row} does not fit its checksum"
            )

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
                    raise StoreError(f"{self._name} is damaged: it ends in the middle of a row")
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


def _is_in_tiles(maps: h5py.Dataset) -> bool:
    """Whether bytes lie in the file as they are, row by row."""
    chunks = maps.chunks
    is_plain = maps.compression is None and not maps.shuffle and maps.scaleoffset is None
    return bool(chunks and chunks[0] == 1 and chunks[1] == maps.shape[1] and is_plain and maps.dtype.isnative)


def _tiles(maps: Mapping[str, h5py.Dataset], n_rows: int) -> list[list[_Tile]]:
    """Of each row, in the order of the file."""
    found: list[list[_Tile]] = [[] for _ in range(n_rows)]

    def add(name: str, chunk: Any) -> None:  # Any: h5py's StoreInfo has no types
        row, _, top, left = chunk.chunk_offset
        found[row].append(_Tile(name, top, left, chunk.byte_offset, chunk.byte_offset + chunk.size))

    for name, dataset in maps.items():
        dataset.id.chunk_iter(partial(add, name))
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
