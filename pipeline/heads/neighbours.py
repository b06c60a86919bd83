"""The exact nearest neighbours of unit vectors by cosine, without ever holding all pairs at once.

Shape letters: n queries, m stored rows, d feature width, k neighbours. What neighbours vote for lives in `knn`.
"""

import numpy as np
from numpy.typing import NDArray

# Cosines of one block of queries take at most this much memory.
_BLOCK_BYTES = 64 * 2**20
# Products of equal rows differ in their last bits with the place in the block; equal pictures must tie.
_DECIMALS = 13


def nearest(
    queries: NDArray[np.float64], stored: NDArray[np.float64], k: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Cosines [n, k] and rows [n, k] of the nearest stored vectors, nearest first.

    Equal cosines are ranked by row, lower first, so that the answer does not depend on the machine.

    Args:
        queries: [n, d], of unit length; stored: [m, d], m >= k, of unit length.

    Raises:
        ValueError: k is not in 1..m.
    """
    if not 1 <= k <= len(stored):
        raise ValueError(f"k must lie in 1..{len(stored)}, got {k}")
    cosines = np.empty((len(queries), k))
    rows = np.empty((len(queries), k), dtype=np.int64)
    step = max(1, _BLOCK_BYTES // (8 * len(stored)))
    for begin in range(0, len(queries), step):
        block = np.round(queries[begin : begin + step] @ stored.T, _DECIMALS)
        chosen = _largest(block, k)
        rows[begin : begin + step] = chosen
        cosines[begin : begin + step] = np.take_along_axis(block, chosen, axis=1)
    return cosines, rows


def _largest(block: NDArray[np.float64], k: int) -> NDArray[np.int64]:
    """Columns of each row's k largest values, largest first, equal ones by column."""
    chosen = np.sort(np.argpartition(-block, k - 1, axis=1)[:, :k], axis=1)
    values = np.take_along_axis(block, chosen, axis=1)
    # Where more columns than k reach the k-th value, argpartition takes any of them.
    tied = np.flatnonzero((block >= values.min(axis=1, keepdims=True)).sum(axis=1) > k)
    if len(tied):
        chosen[tied] = np.sort(np.argsort(-block[tied], axis=1, kind="stable")[:, :k], axis=1)
        values[tied] = np.take_along_axis(block[tied], chosen[tied], axis=1)
    order = np.argsort(-values, axis=1, kind="stable")
    found: NDArray[np.int64] = np.take_along_axis(chosen, order, axis=1)
    return found
