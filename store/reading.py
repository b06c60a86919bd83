"""Features for whoever learns: maps out of the depot, whole or as windows, in batches of bounded memory; vectors of views.

A view of maps names its rows; the maps lie in the depot's shards, in tiles (`deponij.store.hdf5.write_maps`). What is
read is checked: that the shard's row is the one which the view was made from, and its bytes. A window reads only the
tiles that it touches. This module knows arrays, no torch.

Shape letters: m rows asked for, C channels of a level, h and w its sides in cells, h' and w' those of a window.
"""

import json
import re
from collections import deque
from collections.abc import Generator, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from math import log2

import numpy as np

from deponij.store.depot import FeatureStore
from deponij.store.errors import StoreError, UsageError
from deponij.store.hdf5 import Array
from deponij.store.map_files import MapFiles, Part
from deponij.store.places.finding import Places
from deponij.store.shard import Rows, Shard
from deponij.store.view import View

_STRIDE = re.compile(r"stride(\d+)(?:_|$)")
_STAGE = re.compile(r"stage\d+$")


@dataclass(frozen=True, slots=True)
class MapLevel:
    """One map of each picture.

    Attributes:
        name: of its array in the depot.
        channels, height, width: C, h and w.
        stride_px: pixels of the model's input per cell, by the array's name, else by its height: patches tile a side,
            stages have powers of two, whose last cell is partly empty or cut off where they do not.
    """

    name: str
    channels: int
    height: int
    width: int
    stride_px: int


@dataclass(frozen=True, slots=True)
class Window:
    """A part of a picture, in cells of the coarsest level.

    On a level of stride s all four numbers are multiplied by coarsest / s, and the window ends where the level ends.
    """

    top: int
    left: int
    height: int
    width: int


Wanted = tuple[Sequence[str], Sequence[Window] | None]


class MapReader:
    """Reads the maps of a view.

    It may be sent to other processes, each of which opens its own files, and be used by several threads.

    Args:
        view: of maps, opened with its depot.

    Attributes:
        levels: finest first.
        input_px: (height, width) of the model's input.

    Raises:
        StoreError: the view holds vectors, was opened without its depot, or the depot lacks rows.
    """

    def __init__(self, view: View) -> None:
        if not view.identity.is_of_maps:
            raise StoreError(
                f"{view.path} is a view of {view.kind} features, which it holds itself: use read(ids)"
            )
        if view.depot is None:
            raise StoreError(
                f"{view.path} holds keys only, its maps lie in a depot: open it with View(path, depot=FeatureStore(…))"
            )
        self.view = view
        self._depot = view.depot
        self._files = MapFiles()
        self._require_rows()
        self.input_px = _input_px(view)
        self.levels = _levels(self._depot.first_shard(view.identity), self.input_px)

    def __reduce__(self) -> tuple[object, ...]:
        return _reopened, (str(self.view.path), self._depot.location)

    def __len__(self) -> int:
        return len(self.view)

    @property
    def whole_cells(self) -> tuple[int, int]:
        """(height, width) in cells of the coarsest level of what all levels have whole: windows in it are of one size."""
        heights, widths = [], []
        for level in self.levels:
            factor = self._factor(level)
            heights.append(level.height // factor)
            widths.append(level.width // factor)
        return min(heights, default=0), min(widths, default=0)

    def read(self, ids: Sequence[str], windows: Sequence[Window] | None = None) -> dict[str, Array]:
        """Maps of these items, in this order; repeats allowed.

        Args:
            ids: m item ids.
            windows: one for each id, of one size; whole maps by default.

        Returns:
            Name -> [m, C, h', w'] of the stored dtype, finest level first.

        Raises:
            StoreError: an id is unknown, the depot lacks its row or holds another one, or bytes are damaged.
            UsageError: windows lie outside, or would differ in size.
        """
        if windows is not None and len(windows) != len(ids):
            raise UsageError(f"{len(ids)} ids, but {len(windows)} windows; give one for each id")
        rows = self.view.rows(ids)
        parts = None
        if windows is not None:
            parts = {level.name: self._parts(level, windows) for level in self.levels}
        keys = self.view.keys[rows].tolist()
        return self._depot.with_places(
            self.view.identity, keys, lambda places: self._read(rows, places, parts), self._explain_absence
        )

    def batches(self, wanted: Iterable[Wanted], ahead: int = 2) -> Generator[dict[str, Array], None, None]:
        """`read` of each of `wanted`, in order; a thread reads ahead.

        No more than `ahead` batches lie ready or are being read. An error arrives in the place of its batch.

        Args:
            wanted: (ids, windows or None) of each batch; taken up as they are needed.
            ahead: 0 reads when asked.
        """
        source = iter(wanted)
        if ahead < 1:
            yield from (self.read(*one) for one in source)
            return
        waiting: deque[Future[dict[str, Array]]] = deque()
        with ThreadPoolExecutor(1, thread_name_prefix="maps") as thread:
            try:
                while True:
                    for one in islice(source, ahead - len(waiting)):
                        waiting.append(thread.submit(self.read, *one))
                    if not waiting:
                        return
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()

    def _read(
        self, rows: Rows, places: Places, parts: Mapping[str, Sequence[Part]] | None
    ) -> dict[str, Array]:
        keys = self.view.keys[rows]
        found = self._room(len(rows), parts)
        tasks = []
        for number, one in enumerate(places.shards):
            where = np.flatnonzero(places.numbers == number)
            file = self._files.open(self._depot.folder, one)
            in_file = places.rows[where]
            file.check_keys(in_file, keys[where])
            others = where[file.checksums[in_file] != self.view.checksums[rows[where]]]
            if len(others):
                self._tell_other_rows(rows[others])
            for place, row in zip(where.tolist(), in_file.tolist(), strict=True):
                into = {name: values[place] for name, values in found.items()}
                wanted = None if parts is None else {name: level[place] for name, level in parts.items()}
                tasks.append(partial(file.read, row, into, wanted))
        self._files.run(tasks)
        return found

    def _room(self, n_rows: int, parts: Mapping[str, Sequence[Part]] | None) -> dict[str, Array]:
        """Arrays to be filled: name -> [m, C, h', w']."""
        found = {}
        for level in self.levels:
            size = parts[level.name][0].size if parts and n_rows else (level.height, level.width)
            found[level.name] = np.empty((n_rows, level.channels, *size), self.view.identity.stored)
        return found

    def _parts(self, level: MapLevel, windows: Sequence[Window]) -> list[Part]:
        """What of a level the windows are, all of one size."""
        parts = [_part(level, self._factor(level), window) for window in windows]
        sizes = sorted({part.size for part in parts})
        if len(sizes) > 1:
            height, width = self.whole_cells
            raise UsageError(
                f"windows of one batch must be of one size; on {level.name} they have "
                f"{' and '.join(f'{one[0]}x{one[1]}' for one in sizes)} cells. Within {height}x{width} cells of the "
                "coarsest level none ends early"
            )
        return parts

    def _factor(self, level: MapLevel) -> int:
        return self.levels[-1].stride_px // level.stride_px

    def _require_rows(self) -> None:
        keys = self.view.keys.tolist()
        if self._depot.missing(self.view.identity, keys):
            # Others may have committed them since the depot was opened.
            self._depot.refresh()
            if absent := self._depot.missing(self.view.identity, keys):
                raise StoreError(self._explain_absence(absent))

    def _explain_absence(self, absent: list[str]) -> str:
        view, location = self.view, self._depot.location
        keys = view.keys.tolist()
        item_id = str(view.ids[keys.index(absent[0])])
        return (
            f"the depot {location} lacks the maps of {len(absent)} of {len(set(keys))} pictures of {view.path} "
            f"({view.backbone}, {view.kind}), the first: {item_id!r}. They lie in a depot, not in the view: "
            f"{view.how_had(location)}"
        )

    def _tell_other_rows(self, rows: Rows) -> None:
        raise StoreError(
            f"{len(rows)} rows are not those that {self.view.path} was made from, the first: "
            f"{str(self.view.ids[rows[0]])!r}; check with `deponij depot verify` and extract again"
        )


class VectorReader:
    """Reads the vectors of a view; each process that it is sent to loads them once.

    Args:
        view: of embeddings, tokens or texts.
    """

    def __init__(self, view: View) -> None:
        self.view = view

    def __reduce__(self) -> tuple[object, ...]:
        return _vectors_reopened, (str(self.view.path),)

    def __len__(self) -> int:
        return len(self.view)

    def read(self, ids: Sequence[str]) -> Array:
        """Vectors [m, …] of these items, in this order; repeats allowed.

        Raises:
            StoreError: an id is unknown, or rows are damaged.
        """
        vectors: Array = self.view.embedding
        return vectors[self.view.rows(ids)]


def _vectors_reopened(path: str) -> VectorReader:
    return VectorReader(View(path))


def _reopened(path: str, depot: str) -> MapReader:
    return MapReader(View(path, depot=FeatureStore(depot)))


def _input_px(view: View) -> tuple[int, int]:
    """Sides of what the model saw, as the transform in the identity says."""
    try:
        transform = json.loads(view.identity.transform)
        height, width = transform["crop_px"] or transform["resize_px"]
        return int(height), int(width)
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{view.path} does not say the size of its pictures: {error!r}") from error


def _levels(shard: Shard | None, input_px: tuple[int, int]) -> tuple[MapLevel, ...]:
    if shard is None:
        return ()
    levels = []
    for name, shape in shard.arrays.items():
        channels, height, width = shape
        levels.append(MapLevel(name, channels, height, width, _stride_px(name, input_px[0] / height)))
    # Of one stride, by the number of their block.
    return tuple(sorted(levels, key=lambda level: (level.stride_px, len(level.name), level.name)))


def _stride_px(name: str, px_a_cell: float) -> int:
    if named := _STRIDE.match(name):
        return int(named[1])
    return 1 << round(log2(px_a_cell)) if _STAGE.match(name) else round(px_a_cell)


def _part(level: MapLevel, factor: int, window: Window) -> Part:
    part = Part(
        window.top * factor,
        window.left * factor,
        min(level.height, (window.top + window.height) * factor),
        min(level.width, (window.left + window.width) * factor),
    )
    if window.top < 0 or window.left < 0 or min(part.size) < 1:
        raise UsageError(
            f"{window} has nothing of {level.name}, which has {level.height}x{level.width} cells, "
            f"{factor} a cell of the window"
        )
    return part
