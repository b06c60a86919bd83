"""Folds for cross-validation: every item is tested once, by a classifier that has seen nothing like it.

What a split of folds means (which fold tests, validates and teaches when): `deponij.pipeline.heads.examples`. Which group
goes where: `grouping`.

Letters: n items, K folds, G groups.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from deponij.pipeline.data.splitting.grouping import assign_groups
from deponij.pipeline.data.splitting.leakage import MAX_DISTANCE_BITS
from deponij.pipeline.data.splitting.partition import Column, Split, listed, pool_of, strings
from deponij.pipeline.data.splitting.strata import seeded_order
from deponij.pipeline.likeness.phash import near_pairs
from deponij.pipeline.metrics.evaluation import FEWEST_FOLDS
from deponij.store.errors import DataError

N_FOLDS = 10
# A larger share of the items than this in one knot of near-duplicates would leave nothing to balance.
_MOST_IN_KNOT = 0.05


def fold_split(
    groups: Column,
    labels: Column,
    phashes: Sequence[str | None],
    n_folds: int = N_FOLDS,
    seed: int = 0,
    *,
    ids: Column | None = None,
) -> Split:
    """Folds of equal size and classes that keep groups and near-duplicates whole.

    Each is as near as can be to 1 / K of the items and of every class. Pictures whose perceptual hashes
    are close go into one fold with the whole of their groups, and count as one group wherever intervals
    are made. Of pictures that differ such a hash is sometimes close as well: that costs balance, never truth.

    Args:
        groups: [n] name of the group (the photograph); None makes the item a group of its own.
        labels: [n] class of each item; None puts the item outside the pool.
        phashes: [n] perceptual hashes, or None.
        n_folds: at most; fewer where there are fewer groups, but at least 3.
        seed: any whole number. ids: [n] unique names of the items; row numbers when absent.

    Raises:
        DataError: no labelled item, or fewer than three groups.
    """
    names, given = strings(labels), strings(groups)
    pool = pool_of(names)
    ids = strings(range(len(names)) if ids is None else ids)
    members = [f"id:{ids[row]}" if given[row] is None else f"group:{given[row]}" for row in pool]
    knots, n_joined, bits = _knots(members, [phashes[row] for row in pool])
    # A knot is called after the first of its names, so that row order decides nothing.
    called = {
        knot: min(members[place] for place in np.flatnonzero(knots == knot)) for knot in set(knots.tolist())
    }
    names_of = np.asarray([called[knot] for knot in knots.tolist()], dtype=np.str_)
    knot_names, knot_of = np.unique(names_of, return_inverse=True)  # [G], [pool]
    n_folds = min(n_folds, len(knot_names))
    if n_folds < FEWEST_FOLDS:
        raise DataError(
            f"{len(knot_names)} group(s) of pictures that belong together cannot be put into {FEWEST_FOLDS} folds: one "
            "to test, one to choose on, one to learn from; group by another column or add pictures"
        )
    classes, class_of = np.unique(
        np.asarray([names[row] for row in pool], dtype=np.str_), return_inverse=True
    )
    ranks = np.argsort(seeded_order(knot_names.tolist(), seed, "group"))  # [G]
    fold_of = assign_groups(knot_of, class_of, np.full(n_folds, 1 / n_folds), ranks)[knot_of]
    parts = np.full(len(names), None, dtype=object)
    parts[pool] = "test"
    folds = np.full(len(names), -1, dtype=np.int64)
    folds[pool] = fold_of
    kept_whole = np.full(len(names), None, dtype=object)
    kept_whole[pool] = _group_names(names_of, members, [given[row] or ids[row] for row in pool])
    return Split(parts, tuple(_notes(fold_of, knot_of, class_of, classes, n_joined, bits)), folds, kept_whole)


def _knots(members: Sequence[str], phashes: Sequence[str | None]) -> tuple[NDArray[np.int64], int, int]:
    """What must stay together, as a number [n]; how many pictures have their like in another group; the bits of it.

    Chains of likeness are followed, for what is alike across folds would be learned and tested. Where they tie too
    much together, as many plain pictures do, only what is closer counts.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    group_names, group_of = np.unique(np.asarray(members, dtype=np.str_), return_inverse=True)
    near = near_pairs(phashes, phashes, MAX_DISTANCE_BITS)
    across = group_of[near.row_a] != group_of[near.row_b]
    row_a, row_b, distance = near.row_a[across], near.row_b[across], near.distance[across]
    largest = np.bincount(group_of).max()
    for bits in range(MAX_DISTANCE_BITS, -1, -1):
        close = distance <= bits
        links = coo_array(
            (np.ones(int(close.sum()), dtype=np.int8), (group_of[row_a[close]], group_of[row_b[close]])),
            shape=(len(group_names), len(group_names)),
        )
        knots = connected_components(links, directed=False)[1][group_of]
        if bits == 0 or np.bincount(knots).max() <= max(largest, 2, _MOST_IN_KNOT * len(members)):
            break
    return knots, len(set(row_a[close].tolist())), bits


def _group_names(names_of: NDArray[np.str_], members: Sequence[str], plain: Sequence[str]) -> list[str]:
    """The group that each item counts with in intervals: its own, but of near-duplicates the knot's first."""
    own = dict(zip(members, plain, strict=True))
    return [own[str(name)] for name in names_of]


def _notes(
    fold_of: NDArray[np.intp],
    knot_of: NDArray[np.intp],
    class_of: NDArray[np.intp],
    classes: NDArray[np.str_],
    n_joined: int,
    bits: int,
) -> list[str]:
    sizes = np.bincount(fold_of)
    notes = [f"{len(sizes)} folds of {sizes.min():,} to {sizes.max():,} items."]
    if n_joined:
        notes.append(
            f"{n_joined:,} pictures look much like one of another group (hashes at most {bits} bits apart) and stay in "
            "its fold."
        )
    alone = [
        str(name) for code, name in enumerate(classes) if len(set(knot_of[class_of == code].tolist())) == 1
    ]
    if alone:
        notes.append(
            f"Of these classes all items belong together, so that none is known when it is tested: {listed(alone)}."
        )
    return notes
