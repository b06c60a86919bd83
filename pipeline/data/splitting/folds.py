"""Folds for cross-validation: every item is tested once, by a classifier that has seen nothing like it.

What a split of folds means (which fold tests, validates and teaches when): `deponij.pipeline.heads.examples`. What must
stay together: `deponij.pipeline.likeness.near_groups`. Which group goes where: `grouping`.

Letters: n items, K folds, G groups.
"""

import numpy as np
from numpy.typing import NDArray

from deponij.pipeline.data.splitting.grouping import assign_groups
from deponij.pipeline.data.splitting.partition import Column, Split, listed, pool_of, strings
from deponij.pipeline.data.splitting.strata import seeded_order
from deponij.pipeline.likeness.near_groups import near_groups
from deponij.pipeline.metrics.evaluation import FEWEST_FOLDS
from deponij.store.errors import DataError

N_FOLDS = 10


def fold_split(
    groups: Column,
    labels: Column,
    phashes: Column,
    keys: Column | None = None,
    n_folds: int = N_FOLDS,
    seed: int = 0,
    *,
    ids: Column | None = None,
) -> Split:
    """Folds of equal size and classes that keep groups and near-duplicates whole.

    Each is as near as can be to 1 / K of the items and of every class. Equal pictures, and such whose perceptual hashes
    are close, go into one fold with the whole of their groups, and count as one group wherever intervals are made.

    Args:
        groups: [n] name of the group (the photograph); None makes the item a group of its own.
        labels: [n] class of each item; None puts the item outside the pool.
        phashes: [n] perceptual hashes, or None.
        keys: [n] of the pictures' content, or None.
        n_folds: at most; fewer where there are fewer groups, but at least 3.
        seed: any whole number.
        ids: [n] unique names of the items; row numbers when absent.

    Raises:
        DataError: no labelled item, or fewer than three groups.
    """
    names = strings(labels)
    called = strings(range(len(names)) if ids is None else ids)
    # In the order of their names, so that row order decides nothing.
    pool = np.asarray(sorted(pool_of(names).tolist(), key=lambda row: str(called[row])), dtype=np.intp)

    def of_pool(column: Column | None) -> list[str | None]:
        values = [None] * len(names) if column is None else strings(column)
        return [values[row] for row in pool]

    given = of_pool(groups)
    own = [str(called[row]) if group is None else group for row, group in zip(pool, given, strict=True)]
    knots = near_groups(of_pool(phashes), keys=of_pool(keys), groups=given).astype(np.intp)  # [pool]
    n_knots = int(knots.max()) + 1
    n_folds = min(n_folds, n_knots)
    if n_folds < FEWEST_FOLDS:
        raise DataError(
            f"{n_knots} group(s) of pictures that belong together cannot be put into {FEWEST_FOLDS} folds: one to test, "
            "one to choose on, one to learn from; group by another column or add pictures"
        )
    # A group is called after its first item's: of near-duplicates one name stands for all.
    firsts = [own[int(np.argmax(knots == knot))] for knot in range(n_knots)]
    classes, class_of = np.unique([str(names[row]) for row in pool], return_inverse=True)
    order = seeded_order([f"{knot}:{name}" for knot, name in enumerate(firsts)], seed, "group")
    fold_of = assign_groups(knots, class_of, np.full(n_folds, 1 / n_folds), np.argsort(order))[
        knots
    ]  # [pool]
    parts = np.full(len(names), None, dtype=object)
    folds = np.full(len(names), -1, dtype=np.int64)
    whole = np.full(len(names), None, dtype=object)
    parts[pool], folds[pool], whole[pool] = "test", fold_of, [firsts[knot] for knot in knots]
    n_joined = sum(firsts[knot] != name for knot, name in zip(knots, own, strict=True))
    return Split(parts, tuple(_notes(fold_of, knots, class_of, classes, n_joined)), folds, whole)


def _notes(
    fold_of: NDArray[np.intp],
    knot_of: NDArray[np.intp],
    class_of: NDArray[np.intp],
    classes: NDArray[np.str_],
    n_joined: int,
) -> list[str]:
    sizes = np.bincount(fold_of)
    least, most = sizes.min(), sizes.max()
    notes = [
        f"{len(sizes)} folds of {most:,} items."
        if least == most
        else f"{len(sizes)} folds of {least:,} to {most:,} items."
    ]
    if n_joined:
        notes.append(f"{n_joined:,} items look much like one of another group and stay in its fold.")
    alone = [
        str(name) for code, name in enumerate(classes) if len(set(knot_of[class_of == code].tolist())) == 1
    ]
    if alone:
        notes.append(
            f"Of these classes all items belong together, so that none is known when it is tested: {listed(alone)}."
        )
    return notes
