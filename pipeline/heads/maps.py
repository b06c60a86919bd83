"""Maps as features: what a head that reads them is given, and how it goes through them in bounded memory.

Maps may be more than memory holds, so that they are anything that has a `shape`, gives fewer rows by `[rows]`, and
becomes an array by `numpy.asarray`: an array itself, or rows that lie on a disk until then. Which these are is the
business of whoever has them.

Shape letters: n examples, d channels, h and w sides of the grid.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deponij.pipeline.heads.head import Floats, Names
from deponij.store.errors import DataError

Rows = NDArray[np.int64]
# Of float16 maps that are read at once; their float32 and what is computed of it is a few times as much.
READ_BYTES = 32 << 20


class Maps(Protocol):
    """Maps [n, d, h, w] of n examples, here or somewhere else."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, d, h, w)."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any, /) -> "Maps": ...

    def __array__(self) -> NDArray[Any]: ...


def check_maps(X: ArrayLike, what: str) -> Maps:
    """Maps [n, d, h, w], not read yet; `what` names them in messages.

    Raises:
        DataError: other than four dimensions, or a grid without cells or channels.
    """
    maps = cast(Maps, X if hasattr(X, "shape") and hasattr(X, "__getitem__") else np.asarray(X))
    if len(maps.shape) != 4 or 0 in maps.shape[1:]:
        raise DataError(f"{what} must be an array [n, d, h, w], got shape {tuple(maps.shape)}")
    return maps


def check_map_examples(X: ArrayLike, y: ArrayLike, what: str) -> tuple[Maps, Names]:
    """Maps with a class name each.

    Raises:
        DataError: as `check_maps`, or no examples, or the lengths differ.
    """
    names = np.asarray(y).astype(np.str_)
    maps = check_maps(X, what)
    if len(maps) == 0:
        raise DataError(f"{what}: there are no examples; check the split and the label column")
    if names.shape != (len(maps),):
        raise DataError(f"{what}: {len(maps)} rows of features for labels of shape {names.shape}")
    return maps, names


def nearby(maps: Maps, most_bytes: int) -> Maps:
    """The same maps, read once for all where they are no more than so many bytes of float16."""
    if isinstance(maps, np.ndarray) or 2 * int(np.prod(maps.shape)) > most_bytes:
        return maps
    return np.asarray(maps)


def in_order(maps: Maps, what: str) -> Iterator[tuple[Rows, Floats]]:
    """All rows, a bounded number at a time: row numbers [m] and maps [m, d, h, w].

    Raises:
        DataError: values that are NaN or infinite; all of them are counted first.
    """
    bad: list[int] = []
    step = rows_at_once(maps)
    for start in range(0, len(maps), step):
        rows = np.arange(start, min(start + step, len(maps)))
        values = np.asarray(maps[rows])
        bad += rows[~np.isfinite(values).all(axis=(1, 2, 3))].tolist()
        if not bad:
            yield rows, values
    if bad:
        raise DataError(
            f"{what}: {len(bad)} of {len(maps)} rows hold NaN or infinite values (first rows: {bad[:5]}); "
            "extract them again, in fp32 if they overflowed"
        )


def in_batches(maps: Maps, batches: Iterable[Rows]) -> Iterator[tuple[Rows, Floats]]:
    """Rows [b] of each batch with their maps [b, d, h, w]; some batches are read at once, in the order of the rows."""
    step, waiting, n_waiting = rows_at_once(maps), [], 0
    for batch in batches:
        waiting.append(batch)
        n_waiting += len(batch)
        if n_waiting >= step:
            yield from _read(maps, waiting)
            waiting, n_waiting = [], 0
    yield from _read(maps, waiting)


def _read(maps: Maps, batches: list[Rows]) -> Iterator[tuple[Rows, Floats]]:
    if not batches:
        return
    rows = np.unique(np.concatenate(batches))
    values = np.asarray(maps[rows])
    for batch in batches:
        yield batch, values[np.searchsorted(rows, batch)]


def rows_at_once(maps: Maps) -> int:
    """How many rows are read at once."""
    return max(1, READ_BYTES // (2 * int(np.prod(maps.shape[1:]))))
