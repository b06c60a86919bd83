"""Vectors of length one, so that an inner product is a cosine; and their weighted sums.

Shape letters: n vectors, d width.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from deponij.store.errors import DataError, UsageError

Vectors = NDArray[np.float32]
# Memory of one step.
_BLOCK_CELLS = 4_000_000
# Of a length, when each value is rounded to float32.
_ROUNDING = 2e-7


def unit(vectors: NDArray[np.floating], what: str = "vectors") -> Vectors:
    """Each row divided by its length, float32 [n, d], C-contiguous. Rows of zeros stay zero.

    Raises:
        DataError: not two-dimensional, or a value is NaN or infinite.
    """
    given = np.asarray(vectors)
    if given.ndim != 2 or given.shape[1] == 0:
        raise DataError(f"{what} must have the shape [n, d], got {list(given.shape)}")
    found = np.empty(given.shape, np.float32)
    step = max(1, _BLOCK_CELLS // given.shape[1])
    for start in range(0, len(given), step):
        # In float64, so that neither tiny nor huge values leave the range when they are squared.
        exact = given[start : start + step].astype(np.float64)
        bad = np.flatnonzero(~np.isfinite(exact).all(axis=1))
        if len(bad):
            raise DataError(f"{what}: NaN or infinite values, first in row {start + bad[0]}")
        lengths = np.linalg.norm(exact, axis=1, keepdims=True)
        # What has length one but for rounding stays as it is: normalising twice changes nothing.
        is_kept = (lengths == 0) | (np.abs(lengths - 1) < _ROUNDING)
        found[start : start + step] = exact / np.where(is_kept, 1.0, lengths)
    return found


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
    found: Vectors = unit(total[None])[0]
    return found
