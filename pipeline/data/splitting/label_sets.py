"""Parts for items with several labels each, so that every class has its share in every part.

Who calls it: `partition`, for columns that hold lists. The greedy assignment itself: `grouping`.

Letters: n items, C classes, G groups.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from deponij.pipeline.data.splitting.grouping import assign_label_sets
from deponij.pipeline.data.splitting.strata import seeded_order
from deponij.pipeline.metrics.evaluation import PARTS
from deponij.store.errors import DataError
from deponij.store.texts import in_percent

LabelSets = Sequence[Sequence[str] | None]


def are_sets(labels: Sequence[object] | NDArray[np.generic]) -> bool:
    """Whether a column holds lists of labels."""
    return any(isinstance(one, (list, tuple, set, frozenset)) for one in labels)


def sets_split(
    members: Sequence[str], labels: LabelSets, fractions: Sequence[float], seed: int
) -> tuple[NDArray[np.object_], tuple[str, ...]]:
    """Parts [n] of `train`, `val`, `test` or None (no labels), and how well they are balanced, in words.

    Args:
        members: [n] name of the group that each item stays together with.
        labels: [n] its classes; an empty list is a labelled item, None is none.
        fractions: of train, val and test.

    Raises:
        DataError: no item has labels, or there are fewer groups than parts.
    """
    pool = np.asarray([row for row, one in enumerate(labels) if one is not None], dtype=np.intp)
    if not len(pool):
        raise DataError(f"none of the {len(labels):,} items has labels; name another column of labels")
    truth, classes = indicator([labels[row] or () for row in pool.tolist()])
    names, group_of = np.unique(np.asarray([members[row] for row in pool], np.str_), return_inverse=True)
    n_parts = sum(fraction > 0 for fraction in fractions)
    if len(names) < n_parts:
        raise DataError(
            f"{len(names)} group(s) cannot fill {n_parts} parts; group by another column, use the strategy `random`, or "
            "set the fractions of unwanted parts to 0"
        )
    ranks = np.argsort(seeded_order(names.tolist(), seed, "group"))
    part_of = assign_label_sets(group_of, truth, np.asarray(fractions), ranks)[group_of]
    parts = np.full(len(labels), None, dtype=object)
    parts[pool] = [PARTS[part] for part in part_of]
    return parts, _notes(part_of, truth, classes, fractions)


def indicator(labels: Sequence[Sequence[str]]) -> tuple[NDArray[np.bool_], tuple[str, ...]]:
    """Whether each item has each class [n, C], and the classes, sorted."""
    classes = tuple(sorted({name for one in labels for name in one}))
    place = {name: column for column, name in enumerate(classes)}
    truth = np.zeros((len(labels), len(classes)), dtype=bool)
    for row, one in enumerate(labels):
        truth[row, [place[name] for name in one]] = True
    return truth, classes


def _notes(
    part_of: NDArray[np.intp], truth: NDArray[np.bool_], classes: Sequence[str], fractions: Sequence[float]
) -> tuple[str, ...]:
    """How far each part's share of each class is from what was asked for, at most and on average; absent classes."""
    counts = np.maximum(truth.sum(axis=0), 1)
    notes, said = [], []
    for number, fraction in enumerate(fractions):
        inside = truth[part_of == number]
        if fraction > 0 and len(classes):
            away = np.abs(inside.sum(axis=0) / counts - fraction)
            said.append(
                f"{PARTS[number]} {in_percent(len(inside) / len(truth))} of the items (a "
                f"class's share is {in_percent(away.mean())} off "
                f"on average, {in_percent(away.max())} at most, {classes[int(away.argmax())]})"
            )
            if absent := [name for name, there in zip(classes, inside.any(axis=0), strict=True) if not there]:
                notes.append(f"{len(absent)} of {len(classes)} classes have no {PARTS[number]} item.")
    return (f"Several labels an item, balanced over parts: {'; '.join(said)}.", *notes)
