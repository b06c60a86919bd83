"""Which items a fold must not part: those of one photograph, equal pictures, and what looks nearly the same.

Before features exist only content and perceptual hashes are known, and a hash proposes more than is so. To keep two
pictures together that need not be costs nothing but evenness; a chain of such likenesses that ties half of the set
together costs the folds. So the closest are joined first, and what only a hash proposes may not make a group larger
than a limit. Groups for a person to look at: `groups`. Shape letter: n items.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from deponij.pipeline.likeness.pairs import codes_of
from deponij.pipeline.likeness.phash import Hashes, near_pairs
from deponij.store.errors import UsageError

# Bits of 64 up to which a hash alone keeps two pictures together. More than `pairs.MAX_BITS_ALONE`: at 6 bits one in six
# pairs of CIFAR-10 is none, and a pair that is torn apart costs more than two that are kept together for nothing.
TOGETHER_BITS = 6
# Of all items, that likenesses by hash may tie into one group: half of one fold of five, which a burst of frames may need.
LARGEST_SHARE = 0.1


def near_groups(
    phashes: Sequence[str | None],
    *,
    keys: Sequence[str | None] | None = None,
    groups: Sequence[str | None] | None = None,
    max_bits: int = TOGETHER_BITS,
    largest_share: float = LARGEST_SHARE,
) -> NDArray[np.int32]:
    """A number for each item, int32 [n]; items with the same number belong into one fold.

    Equal keys and equal groups are joined whatever comes of it. Then pairs of hashes, the fewest bits first, as long as
    the joined group stays within the limit (two at least): Kruskal's way, so that where a chain must be cut, it is cut
    at a loose link. Numbers are 0, 1, … in the order in which their first items come.

    Args:
        phashes: [n], 16 hexadecimal characters, or None, which is near nothing.
        keys: [n], of the pictures' content.
        groups: [n], photographs or any other column. None is shared with nobody.
        max_bits: of 64 in which hashes may differ.
        largest_share: of n, that hashes may tie into one group.

    Raises:
        UsageError: the lengths differ.
        DataError: a hash is something else.
    """
    n = len(phashes)
    columns = [list(one) for one in (keys, groups) if one is not None]
    if any(len(one) != n for one in columns):
        raise UsageError(
            f"hashes, keys and groups must be of one length, got {n} and {[len(c) for c in columns]}"
        )
    trees = _Trees(n)
    for column in columns:
        codes = codes_of(column)
        _, firsts = np.unique(codes, return_index=True)
        for row, code in enumerate(codes.tolist()):
            # Codes are 0, 1, … in the order of their first rows, so that `firsts` is indexed by them.
            trees.join(int(firsts[code]), row, n)
    limit = max(2, int(largest_share * n))
    for a, b in _links(phashes, max_bits):
        trees.join(a, b, limit)
    return codes_of([str(trees.root(row)) for row in range(n)])


def _links(phashes: Sequence[str | None], max_bits: int) -> list[tuple[int, int]]:
    """Pairs of rows by rising distance. Equal hashes are a chain, not all pairs: ten thousand of them are no trouble."""
    words, is_known = Hashes.of(phashes)
    rows = np.flatnonzero(is_known)
    order = rows[np.argsort(words[rows], kind="stable")]
    is_equal = words[order[1:]] == words[order[:-1]]
    links = list(zip(order[:-1][is_equal].tolist(), order[1:][is_equal].tolist(), strict=True))
    _, firsts = np.unique(words[rows], return_index=True)
    one_each = np.sort(rows[firsts])
    hashes = [phashes[row] for row in one_each.tolist()]
    near = near_pairs(hashes, hashes, max_bits)
    is_half = near.row_a < near.row_b
    by_distance = np.argsort(near.distance[is_half], kind="stable")
    a, b = (one_each[side[is_half][by_distance]].tolist() for side in (near.row_a, near.row_b))
    return links + list(zip(a, b, strict=True))


class _Trees:
    """Disjoint sets of rows with their sizes (Galler and Fischer, 1964)."""

    def __init__(self, n: int) -> None:
        self._parent = list(range(n))
        self._size = [1] * n

    def root(self, row: int) -> int:
        while self._parent[row] != row:
            self._parent[row] = row = self._parent[self._parent[row]]
        return row

    def join(self, a: int, b: int, limit: int) -> None:
        """Make one of two sets, unless it would be larger than the limit."""
        a, b = sorted((self.root(a), self.root(b)))
        if a != b and self._size[a] + self._size[b] <= limit:
            self._parent[b] = a
            self._size[a] += self._size[b]
