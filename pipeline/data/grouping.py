"""Groups to parts: which photographs go where, so that sizes and classes come out even.

Arrays in, arrays out. What a group or a class is called is known to `pipeline.data.splits`.
"""

import numpy as np
from numpy.typing import NDArray

# Passes over all groups; each ends when nothing better is found, which takes 3 to 6 on TACO.
MAX_PASSES = 20


def assign_groups(
    group_of: NDArray[np.intp], class_of: NDArray[np.intp], fractions: NDArray[np.float64], ranks: NDArray[np.intp]
) -> NDArray[np.intp]:
    """Give each group a part: greedily, largest first, then by moves and swaps while they help.

    The loss is chi-squared-like: the sum over parts and classes of (count - target)^2 / max(target, 1),
    plus the same for whole sizes with the weight of all classes together. It is the greedy of scikit-learn's
    `StratifiedGroupKFold`, with parts of unequal size and a search behind it.

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
    return _Balance(table, fractions).solve(ranks)
