"""The nearest others of each vector: exactly, block by block, without those that say nothing about it.

An item's copies and the crops of its own photograph are near for a trivial reason. What is left out is told by tags: two
items with the same tag are not neighbours. Shape letters: n queries, m archived vectors, d width, k neighbours.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deponij.pipeline.unit_vectors import Vectors, blocks, largest
from deponij.store.errors import UsageError

Tags = NDArray[np.int32]
Advance = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Others:
    """The k nearest others.

    Attributes:
        distances: 1 - cosine, in [0, 2], float32 [n, k], rising along k.
        rows: of the archive, int64 [n, k].
    """

    distances: NDArray[np.float32]
    rows: NDArray[np.int64]

    @property
    def kth(self) -> NDArray[np.float32]:
        """Distance to the k-th, [n]."""
        return self.distances[:, -1]


def cosine_blocks(
    queries: Vectors, archive: Vectors, tags: Sequence[tuple[Tags, Tags]] = ()
) -> Iterator[tuple[slice, Vectors]]:
    """Rows of queries with their cosines [b, m]; minus infinity where any tag is shared.

    Args:
        queries, archive: [n, d] and [m, d], of unit length.
        tags: pairs of [n] and [m].
    """
    sharing = [_Sharing(*pair) for pair in tags]
    for rows in blocks(len(queries), len(archive), least=32):
        cosines = queries[rows] @ archive.T
        for one in sharing:
            cosines[one.pairs(rows)] = -np.inf
        yield rows, cosines


class _Sharing:
    """Which archived vectors share a tag with a query, without comparing all with all."""

    def __init__(self, of_queries: Tags, of_archive: Tags) -> None:
        self._order = np.argsort(of_archive, kind="stable")
        ranked = of_archive[self._order]
        self._begins = np.searchsorted(ranked, of_queries, "left")
        self._counts = np.searchsorted(ranked, of_queries, "right") - self._begins

    def pairs(self, rows: slice) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Places in the block and columns that share a tag."""
        counts = self._counts[rows]
        ends = np.cumsum(counts)
        # Of each run of equal tags, its places one after the other.
        within = np.arange(counts.sum()) - np.repeat(ends - counts, counts)
        columns = self._order[np.repeat(self._begins[rows], counts) + within]
        return np.repeat(np.arange(len(counts)), counts), columns


def nearest_in(cosines: Vectors, k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Distances and columns [b, k] of each row's k highest cosines, nearest first, equal ones by column.

    Raises:
        UsageError: a row has fewer than k columns that count.
    """
    values, columns = largest(cosines, min(k, cosines.shape[1]))
    n_there = int(np.isfinite(values).sum(axis=1).min(initial=k))
    if n_there < k:
        raise UsageError(
            f"{k} neighbours were asked for, but an item has only {n_there} others, not counting its copies and crops of "
            "its own photograph; ask for fewer (--k), or count its own photograph too (--own-photo)"
        )
    return np.clip(1 - values, 0, 2), columns
