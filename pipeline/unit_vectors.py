"""Vectors of length one, so that an inner product is a cosine: making them, blending them, finding the nearest.

Exact and block by block: all pairs are never held at once. Approximate search is FAISS's, in `retrieval`.

Shape letters: n vectors or queries, m stored ones, d width, k neighbours, b rows of a block.
"""

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from deponij.store.errors import DataError, UsageError
from deponij.store.scratch import scratch

Vectors = NDArray[np.float32]
F = TypeVar("F", np.float32, np.float64)
# Cosines, or values, of one block; choosing among them takes three times as much memory again.
BLOCK_CELLS = 8_000_000
# Stored vectors that are held as float64 at once, in blocks.
_PIECE_BLOCKS = 4
# Of a length, when each value is rounded to float32.
_ROUNDING = 2e-7
# Products of equal rows differ in their last bits with the place in the block; equal pictures must tie.
_DECIMALS = 13


def unit(vectors: NDArray[np.floating], what: str = "vectors") -> Vectors:
    """Each row divided by its length, float32 [n, d], C-contiguous. Rows of zeros stay zero.

    Raises:
        DataError: not two-dimensional, or a value is NaN or infinite.
    """
    given = np.asarray(vectors)
    if given.ndim != 2 or given.shape[1] == 0:
        raise DataError(f"{what} must have the shape [n, d], got {list(given.shape)}")
    units = scratch(given.shape, np.float32)
    for some in blocks(len(given), 2 * given.shape[1]):
        # In float64, so that neither tiny nor huge values leave the range when they are squared.
        exact = given[some].astype(np.float64)
        bad = np.flatnonzero(~np.isfinite(exact).all(axis=1))
        if len(bad):
            raise DataError(f"{what}: NaN or infinite values, first in row {some.start + bad[0]}")
        lengths = np.linalg.norm(exact, axis=1, keepdims=True)
        # What has length one but for rounding stays as it is: normalising twice changes nothing.
        is_kept = (lengths == 0) | (np.abs(lengths - 1) < _ROUNDING)
        units[some] = exact / np.where(is_kept, 1.0, lengths)
    return units


def directions(vectors: NDArray[np.floating], what: str, dtype: DTypeLike = np.float64) -> NDArray[Any]:
    """Rows of [n, d] divided by their lengths, rounded to `dtype`; `what` names them in messages.

    Raises:
        DataError: a row of length 0 has no direction.
    """
    units = scratch(vectors.shape, dtype)
    _refuse_pointless(_divided(vectors, units), vectors, what)
    return units


def directions_in_blocks(
    vectors: NDArray[np.floating], what: str
) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """As `directions`, some rows at a time: which they are, and float64 [b, d].

    Raises:
        DataError: rows of length 0; all of them are counted first.
    """
    bad: list[int] = []
    for some in blocks(*vectors.shape):
        units = np.empty((some.stop - some.start, vectors.shape[1]))
        bad += [some.start + row for row in _divided(vectors[some], units)]
        if not bad:
            yield some, units
    _refuse_pointless(bad, vectors, what)


def _divided(vectors: NDArray[np.floating], units: NDArray[Any]) -> list[int]:
    """Fill in `units` [n, d], some rows of the processor's cache at a time; rows of length 0, which are left out."""
    bad: list[int] = []
    for some in blocks(len(vectors), 64 * vectors.shape[1]):
        wide = vectors[some].astype(np.float64)
        lengths = np.linalg.norm(wide, axis=1, keepdims=True)
        if (lengths > 0).all():
            units[some] = np.divide(wide, lengths, out=wide)
        else:
            bad += (some.start + np.flatnonzero(lengths[:, 0] == 0)).tolist()
    return bad


def _refuse_pointless(bad: Sequence[int], vectors: NDArray[np.floating], what: str) -> None:
    if bad:
        raise DataError(f"{what}: {len(bad)} of {len(vectors)} rows have length 0 (first rows: {[*bad[:5]]})")


def cosines(vectors: NDArray[np.floating], units: NDArray[np.floating], what: str) -> NDArray[np.float64]:
    """Of vectors [n, d] to unit vectors [C, d], float64 [n, C]; `what` names the former in messages.

    Raises:
        DataError: a row of length 0 has no direction.
    """
    turned = units.astype(np.float64).T
    found = np.empty((len(vectors), len(units)))
    for some, block in directions_in_blocks(vectors, what):
        found[some] = block @ turned
    return found


def class_means(rows: NDArray[np.float64], codes: NDArray[np.integer]) -> NDArray[np.float64]:
    """Mean of the rows [n, d] of each code [n], [C, d]; every code up to the largest occurs."""
    sums = np.zeros((int(codes.max()) + 1, rows.shape[1]))
    np.add.at(sums, codes, rows)
    means: NDArray[np.float64] = sums / np.bincount(codes)[:, None]
    return means


def blend(vectors: NDArray[np.floating], weights: Sequence[float]) -> Vectors:
    """The direction of a weighted sum of unit vectors, [d]; negative weights point away.

    Args:
        vectors: [n, d], of any length but zero.
        weights: n, not all zero.

    Raises:
        UsageError: nothing is left of the sum, all weights are zero, or a vector is: no direction to search in.
    """
    units = unit(vectors, "query vectors")
    empty = np.flatnonzero(~units.any(axis=1))
    if len(empty):
        raise UsageError(f"query vector {empty[0]} is all zeros, which points nowhere")
    if not np.any(weights):
        raise UsageError("the parts of the query have the weight 0, which leaves nothing to search for")
    total = np.asarray(weights, np.float64) @ units.astype(np.float64)
    if not np.isfinite(total).all() or np.linalg.norm(total) < 1e-6 * np.abs(weights).sum():
        raise UsageError("the parts of the query cancel each other out; change their weights")
    blended: Vectors = unit(total[None])[0]
    return blended


def blocks(n_rows: int, n_columns: int, least: int = 1) -> Iterator[slice]:
    """Rows of a matrix, so many at a time that a block of it fits into memory; at least so many."""
    step = max(least, BLOCK_CELLS // max(1, n_columns))
    for start in range(0, n_rows, step):
        yield slice(start, min(start + step, n_rows))


def nearest(
    queries: NDArray[np.float64], stored: NDArray[np.floating], k: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Cosines [n, k] and rows [n, k] of the nearest stored vectors, nearest first.

    Equal cosines are ranked by row, lower first, so that the answer does not depend on the machine.

    Args:
        queries: [n, d], of unit length.
        stored: [m, d], m >= k, of unit length.

    Raises:
        ValueError: k is not in 1..m.
    """
    if not 1 <= k <= len(stored):
        raise ValueError(f"k must lie in 1..{len(stored)}, got {k}")
    cosines = np.empty((len(queries), k))
    rows = np.empty((len(queries), k), dtype=np.int64)
    for piece in blocks(len(stored), stored.shape[1] // _PIECE_BLOCKS, least=k):
        turned = stored[piece].astype(np.float64, copy=False).T
        for some in blocks(len(queries), turned.shape[1]):
            block = np.round(queries[some] @ turned, _DECIMALS)
            values, columns = largest(block, min(k, block.shape[1]))
            if piece.start:
                # Those of earlier pieces come first, as equal ones of lower rows do.
                values = np.concatenate([cosines[some], values], axis=1)
                columns = np.concatenate([rows[some], columns + piece.start], axis=1)
                order = np.argsort(-values, axis=1, kind="stable")[:, :k]
                values = np.take_along_axis(values, order, axis=1)
                columns = np.take_along_axis(columns, order, axis=1)
            cosines[some], rows[some] = values, columns
    return cosines, rows


def largest(block: NDArray[F], k: int) -> tuple[NDArray[F], NDArray[np.int64]]:
    """Each row's k largest values and their columns [b, k], largest first, equal ones by column."""
    chosen = np.sort(np.argpartition(-block, k - 1, axis=1)[:, :k], axis=1)
    values = np.take_along_axis(block, chosen, axis=1)
    # Where more columns than k reach the k-th value, argpartition takes any of them.
    tied = np.flatnonzero((block >= values.min(axis=1, keepdims=True)).sum(axis=1) > k)
    if len(tied):
        chosen[tied] = np.sort(np.argsort(-block[tied], axis=1, kind="stable")[:, :k], axis=1)
        values[tied] = np.take_along_axis(block[tied], chosen[tied], axis=1)
    order = np.argsort(-values, axis=1, kind="stable")
    return np.take_along_axis(values, order, axis=1), np.take_along_axis(chosen, order, axis=1)
