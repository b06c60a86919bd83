"""What a head is given of a view: vectors, one of its tokens, all of them side by side, or maps. This is no stage.

Shape letters: n items, K blocks, t token width, d channels, h and w sides of the grid.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from deponij.pipeline.cards import FeatureSource, Token
from deponij.store.errors import UsageError
from deponij.store.hdf5 import Array
from deponij.store.reading import MapReader
from deponij.store.scratch import scratch
from deponij.store.view import View

T = TypeVar("T")
# Maps that are read at once while their mean is taken.
_ROWS = 256


class StoredMaps:
    """Maps of items, read from the depot when an array is made of them (`deponij.pipeline.heads.maps`).

    Args:
        reader: of a view with one map an item.
        ids: item ids [n].
        flipped: maps of the mirrored pictures of the same items.

    Attributes:
        shape: (n, d, h, w).

    Raises:
        UsageError: the view has several maps an item.
    """

    def __init__(self, reader: MapReader, ids: NDArray[np.str_], flipped: "StoredMaps | None" = None) -> None:
        self._reader, self._ids, self.flipped = reader, ids, flipped
        self._level = only_one({level.name: level for level in reader.levels}, str(reader.view.path))
        self.shape = (len(ids), self._level.channels, self._level.height, self._level.width)

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, rows: Any) -> "StoredMaps":
        return StoredMaps(self._reader, self._ids[rows], None if self.flipped is None else self.flipped[rows])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        maps = self._reader.read(self._ids.tolist())[self._level.name]
        return maps if dtype is None else maps.astype(dtype)


def only_one(maps: Mapping[str, T], where: str) -> T:
    """Of the maps of an item, or arrays of a kind, the one that there is.

    Raises:
        UsageError: there are several.
    """
    if len(maps) != 1:
        raise UsageError(
            f"{where} has {len(maps)} maps an item ({', '.join(sorted(maps))}), and heads learn from one; extract with "
            "`--kind dense@1`"
        )
    return next(iter(maps.values()))


@dataclass(frozen=True, slots=True)
class Reading:
    """How a head reads views.

    Attributes:
        reads, takes_tokens: as its class says.
        token: of views of tokens, which of them stands for the picture; None for views of vectors.
        depot: where maps lie.
    """

    reads: Literal["vectors", "maps"] = "vectors"
    takes_tokens: bool = False
    token: Token | None = None
    depot: str = "depot"

    def open(self, paths: Sequence[Path]) -> list[View]:
        """The views, dense ones with their depot.

        Raises:
            StoreError: a view cannot be read, or the depot lacks what one names; the message says how it is had.
        """
        views = [View(path) for path in paths]
        for view in views:
            if is_dense(view.kind) and "dense" in self._kinds:
                view.open_depot(self.depot)
        return views

    def require(self, view: View) -> None:
        """Refuse features that the head cannot be given.

        Raises:
            UsageError: naming what it needs.
        """
        if self.reads == "maps" and self.token is not None:
            raise UsageError(f"this head reads all tokens of a map; leave `--token {self.token}` out")
        if view.kind.partition("@")[0] in self._kinds and not (self.token == "class" and is_dense(view.kind)):
            return
        needs = "`dense@1`: maps of patch tokens" if self.reads == "maps" else "`embedding`"
        if self.reads == "vectors" and view.kind.startswith("tokens"):
            needs += ", or say which token stands for a picture (`--token class`, `--token mean`)"
        elif is_dense(view.kind):
            needs += ", or the mean of the maps (`--token mean`)"
        raise UsageError(f"{view.path} holds features of kind {view.kind!r}; this needs {needs}")

    def features(self, views: Sequence[View], ids: NDArray[np.str_]) -> list[Any]:
        """Of each view vectors [n, d]; for heads that read maps one `StoredMaps`.

        Raises:
            UsageError: more views than one and its flips.
            StoreError: rows are damaged or missing.
        """
        if self.reads == "maps":
            return [_maps_of(views, ids)]
        return [self._vectors(view, ids) for view in views]

    def sources(self, sources: Sequence[FeatureSource], views: Sequence[View]) -> tuple[FeatureSource, ...]:
        """The sources of these views, with the token that was taken; stored flips are none."""
        pairs = zip(sources, views, strict=True)
        if self.reads == "maps":
            return tuple(source for source, view in pairs if not view.identity.is_mirrored)
        return tuple(source.model_copy(update={"token": self._taken(view.kind)}) for source, view in pairs)

    def _vectors(self, view: View, ids: NDArray[np.str_]) -> NDArray[np.floating]:
        if not is_dense(view.kind):
            return as_taken(view.read(ids.tolist()), view.kind, self._taken(view.kind))
        maps = StoredMaps(MapReader(view), ids)
        means = scratch(maps.shape[:2], np.float32)
        for start in range(0, len(ids), _ROWS):
            some = slice(start, start + _ROWS)
            means[some] = as_taken(np.asarray(maps[some]), view.kind, "mean")
        return means

    def _taken(self, kind: str) -> Token | None:
        """Which token is taken of a kind."""
        return "mean" if is_dense(kind) else self.token if kind.startswith("tokens") else None

    @property
    def _kinds(self) -> tuple[str, ...]:
        if self.reads == "maps":
            return ("dense",)
        if self.token is not None:
            return ("tokens", "dense")
        return ("embedding", "tokens") if self.takes_tokens else ("embedding",)


def is_dense(kind: str) -> bool:
    """Whether features of this kind are maps, which lie in a depot."""
    return kind.startswith("dense")


def as_taken(values: Array, kind: str, token: Token | None) -> NDArray[np.floating]:
    """Stored features [n, …] of a kind as a head is given them.

    Embeddings and, without a token, tokens lie flat, [n, d] and [n, K 2 t]. A token is that of the last block [n, t]; the
    mean of maps [n, d, h, w] is over their cells, float32; without a token maps stay maps.
    """
    if is_dense(kind):
        return values if token is None else values.mean(axis=(2, 3), dtype=np.float64).astype(np.float32)
    if token is not None:
        return values[:, -1, ("class", "mean").index(token)]
    return values.reshape(len(values), -1)


def _maps_of(views: Sequence[View], ids: NDArray[np.str_]) -> StoredMaps:
    plain = [view for view in views if not view.identity.is_mirrored]
    flips = [view for view in views if view.identity.is_mirrored]
    if len(plain) != 1 or len(flips) > 1:
        raise UsageError(
            f"this head learns from the maps of one view, and its stored flips beside it; got {len(plain)} and {len(flips)}"
        )
    if flips:
        plain[0].identity.mirrored().require_equal(flips[0].identity, str(flips[0].path))
    return StoredMaps(MapReader(plain[0]), ids, *(StoredMaps(MapReader(view), ids) for view in flips))
