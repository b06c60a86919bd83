"""Groups to parts: which photographs go where, so that sizes and classes come out even.

Arrays in, arrays out. What a group or a class is called is known to `deponij.pipeline.data.splitting.strategies`.
"""

import numpy as np
from numpy.typing import NDArray


def assign_groups(
    group_of: NDArray[np.intp],
    class_of: NDArray[np.intp],
    fractions: NDArray[np.float64],
    ranks: NDArray[np.intp],
) -> NDArray[np.intp]:
    """Give each group, the largest first, the part where it lowers a loss most.

    The loss is like chi-squared: the sum over parts and classes of (count - target)^2 / max(target, 1), plus
    the same for whole sizes with the weight of all classes together. It is the way of
    scikit-learn's `StratifiedGroupKFold`, for parts of unequal size. (Moving groups afterwards while that
    helps changes next to nothing on TACO, where sizes come out exact.)

    Args:
        group_of: [n] group of each item, 0..G-1.
        class_of: [n] class of each item, 0..C-1.
        fractions: [P] shares of the parts; a part of share 0 stays empty.
        ranks: [G] order among groups of equal size (a permutation).

    Returns:
        [G] part of each group. Every part with a share has at least one group (G >= P is assumed).
    """
    n_groups = int(group_of.max()) + 1
    n_classes = int(class_of.max()) + 1
    # The last column counts items, so that sizes are one more class.
    table = np.zeros((n_groups, n_classes + 1))  # [G, C + 1]
    np.add.at(table, (group_of, class_of), 1)
    table[:, -1] = table.sum(axis=1)
    largest_first = np.lexsort((ranks, -table[:, -1]))
    return _Balance(table, fractions).solve(largest_first)


def assign_label_sets(
    group_of: NDArray[np.intp],
    truth: NDArray[np.bool_],
    fractions: NDArray[np.float64],
    ranks: NDArray[np.intp],
) -> NDArray[np.intp]:
    """The same for items with several classes each: groups with the rarest class first, each by the same loss.

    Rarest first is the order of iterative stratification (K. Sechidis, G. Tsoumakas, I. Vlahavas, ECML PKDD 2011,
    LNAI 6913, 145-158), which hands out the examples of the class that has fewest left; here the order is fixed, and
    the loss weighs all classes of a group and its size at once. Groups without any class come last and even out sizes.

    Args:
        group_of: [n] group of each item, 0..G-1.
        truth: [n, C] whether each item has each class.
        fractions: [P] shares of the parts; a part of share 0 stays empty.
        ranks: [G] order among groups whose rarest class is the same (a permutation).

    Returns:
        [G] part of each group. Every part with a share has at least one group (G >= P is assumed).
    """
    table = np.zeros((int(group_of.max()) + 1, truth.shape[1] + 1))  # [G, C + 1]
    np.add.at(table, group_of, np.column_stack([truth, np.ones(len(truth))]))
    counts = table[:, :-1].sum(axis=0)
    rarest = np.where(table[:, :-1] > 0, counts, np.inf).min(axis=1, initial=np.inf)
    return _Balance(table, fractions).solve(np.lexsort((ranks, rarest)))


class _Balance:
    """Counts by part while groups are handed out."""

    def __init__(self, table: NDArray[np.float64], fractions: NDArray[np.float64]) -> None:
        total = table.sum(axis=0)  # [C + 1]
        self.table = table
        self.open = np.flatnonzero(fractions > 0)  # [O] parts that may have groups
        self.target = np.outer(fractions[self.open], total)  # [O, C + 1]
        self.weight = 1 / np.maximum(self.target, 1)
        self.weight[:, -1] *= table.shape[1] - 1
        self.excess = -self.target.copy()  # [O, C + 1], count - target
        self.part = np.full(len(table), -1, dtype=np.intp)  # [G], index into open

    def solve(self, order: NDArray[np.intp]) -> NDArray[np.intp]:
        for group in order:
            part = int(np.argmin(self._cost_of_adding(group)))
            self.part[group] = part
            self.excess[part] += self.table[group]
        self._fill_empty(order[::-1])
        return self.open[self.part]

    def _cost_of_adding(self, group: int) -> NDArray[np.float64]:
        """[O]: growth of the loss when a group joins each part."""
        columns = np.flatnonzero(self.table[group])
        counts = self.table[group, columns]
        growth = (2 * self.excess[:, columns] + counts) * counts * self.weight[:, columns]
        cost: NDArray[np.float64] = growth.sum(axis=1)
        return cost

    def _fill_empty(self, smallest_first: NDArray[np.intp]) -> None:
        """A part that stayed empty, as with very few groups, gets the smallest group to be spared."""
        for part in range(len(self.open)):
            held = np.bincount(self.part, minlength=len(self.open))
            if held[part] == 0:
                self.part[next(group for group in smallest_first if held[self.part[group]] > 1)] = part
