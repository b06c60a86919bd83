"""Groups of near-duplicates, each around one item, and how much of what is alike lies where.

Why not connected components: a chain of small steps joins things that have nothing in common. Here every member is
alike with the group's *first* item itself, as in sphere exclusion (Butina, J. Chem. Inf. Comput. Sci. 39, 1999): items
are gone through in an order; who has no home yet opens a group and takes in all that are alike with it and homeless.
So two members of a group are at most two steps apart, and no two firsts are alike: keeping the firsts alone leaves
nothing twice. What is alike across groups, at their rims, is not lost: `count_alike` counts pairs, not groups.

Tiles of a fixed size are compared and forgotten; no list of pairs is ever made, so that ten thousand equal pictures
cost no more than any others. Shape letters: n items, m of them in order, c columns that are counted.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deponij.pipeline.likeness.pairs import HOWS, Alike, Likeness, Rows, spans

Counts = NDArray[np.float32]
Advance = Callable[[int], None]
ANY, OTHER_PHOTO = "any", "other_photo"


@dataclass(frozen=True, slots=True)
class Group:
    """Items that show the same thing.

    Attributes:
        first: the row that all are alike with.
        rows: all of them, the first one first.
    """

    first: int
    rows: tuple[int, ...]


def count_alike(
    likeness: Likeness,
    columns: NDArray[np.float32],
    photos: NDArray[np.int32],
    advance: Advance = lambda _: None,
) -> dict[str, Counts]:
    """For each item the sum of `columns` over the others that are alike with it.

    Args:
        likeness: of a set with itself.
        columns: [n, c]; ones count the others, ones for the items of a part count those of that part.
        photos: [n], number of the photograph.
        advance: is told of items that were compared with all.

    Returns:
        By kind of evidence (`picture`, `phash`, `embedding`), `any` of them, and any but of one's own photograph
        (`other_photo`): float32 [n, c], exact up to 16 million.
    """
    n = len(likeness.a)
    counts = {name: np.zeros(columns.shape, np.float32) for name in (*HOWS, ANY, OTHER_PHOTO)}
    for number, rows in enumerate(spans(n)):
        # The other half of the square is the same.
        for others in spans(n)[number:]:
            _count_tile(likeness.tile(rows, others), rows, others, columns, photos, counts)
        advance(rows.stop - rows.start)
    return counts


def _count_tile(
    tile: Alike,
    rows: slice,
    others: slice,
    columns: NDArray[np.float32],
    photos: NDArray[np.int32],
    counts: dict[str, Counts],
) -> None:
    alike = tile.any
    is_diagonal = rows == others
    if is_diagonal:
        np.fill_diagonal(alike, False)
    # Of most tiles little is left.
    a, b = np.flatnonzero(alike.any(axis=1)), np.flatnonzero(alike.any(axis=0))
    if not len(a):
        return
    some = np.ix_(a, b)
    alike = alike[some]
    of_other = photos[rows][a][:, None] != photos[others][b]
    masks = {ANY: alike, OTHER_PHOTO: alike & of_other}
    masks |= {how: mask[some] & alike for how in HOWS if (mask := getattr(tile, how)) is not None}
    for name, mask in masks.items():
        weights = mask.astype(np.float32)
        counts[name][rows][a] += weights @ columns[others][b]
        if not is_diagonal:
            counts[name][others][b] += weights.T @ columns[rows][a]


def group_alike(likeness: Likeness, order: Rows, advance: Advance = lambda _: None) -> list[Group]:
    """Groups of at least two, in the order of their firsts.

    Args:
        likeness: of a set with itself.
        order: [m], rows in the order in which they may become firsts; rows that are not in it have no group.
        advance: is told of rows that have found their place.
    """
    home = np.full(len(order), -1, np.int64)
    for rows in spans(len(order)):
        firsts = _firsts(likeness, order, home, rows)
        for others in spans(len(order)):
            if others.start >= rows.stop and len(firsts):
                _take_in(likeness, order, home, firsts, others)
        advance(rows.stop - rows.start)
    return _collected(order, home)


def _firsts(likeness: Likeness, order: Rows, home: Rows, rows: slice) -> Rows:
    """Settle one step of the order among itself; gives the places of its firsts."""
    free: Rows = rows.start + np.flatnonzero(home[rows] < 0)
    if not len(free):
        return free
    alike = likeness.tile(order[free], order[free]).any
    for number, place in enumerate(free):
        if home[place] < 0:
            homeless = home[free] < 0
            home[free[alike[number] & homeless]] = place
            home[place] = place
    firsts: Rows = free[home[free] == free]
    return firsts


def _take_in(likeness: Likeness, order: Rows, home: Rows, firsts: Rows, others: slice) -> None:
    """Give homes with these firsts to the homeless of a later step."""
    free = others.start + np.flatnonzero(home[others] < 0)
    if not len(free):
        return
    alike = likeness.tile(order[firsts], order[free]).any
    taken = alike.any(axis=0)
    home[free[taken]] = firsts[alike[:, taken].argmax(axis=0)]


def _collected(order: Rows, home: Rows) -> list[Group]:
    members: dict[int, list[int]] = {}
    for place, first in enumerate(home.tolist()):
        # A first comes before all that it takes in.
        members.setdefault(int(order[first]), []).append(int(order[place]))
    return [Group(first, tuple(rows)) for first, rows in members.items() if len(rows) > 1]


def lowest_cosine(likeness: Likeness, group: Group) -> float | None:
    """Of the two members that are least alike; None without features."""
    rows = np.array(group.rows, np.int64)
    lowest = 1.0
    for number, some in enumerate(spans(len(rows))):
        for others in spans(len(rows))[number:]:
            cosines = likeness.cosines(rows[some], rows[others])
            if cosines is None:
                return None
            lowest = min(lowest, float(cosines.min()))
    return lowest
