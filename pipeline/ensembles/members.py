"""Members of an ensemble brought to the same items and classes, by their ids and names, never by position.

Shape letters: m members, n items, C classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deponij.pipeline.metrics.classification import widened
from deponij.store.errors import DataError

Names = NDArray[np.str_]


@dataclass(frozen=True, slots=True)
class Member:
    """One classifier's answers.

    Attributes:
        name: for people.
        ids: of the items, [n].
        classes: of the columns.
        logits: [n, C].
    """

    name: str
    ids: Names
    classes: tuple[str, ...]
    logits: NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Aligned:
    """Answers of all members to the same items.

    Attributes:
        ids: of the items, [n], in the first member's order.
        classes: all that any member has, sorted.
        logits: [m, n, C].
    """

    ids: Names
    classes: tuple[str, ...]
    logits: NDArray[np.float64]


def align(members: Sequence[Member]) -> Aligned:
    """Bring members to the first one's items and to the union of all classes.

    A class that a member does not have gets that member's lowest logit of the item: it never is its
    answer, and does not veto the others'.

    Raises:
        DataError: no members, or their items are not the same.
    """
    if not members:
        raise DataError("an ensemble needs at least one member")
    first = members[0]
    classes = tuple(sorted({name for member in members for name in member.classes}))
    logits = np.stack(
        [widened(member.logits[_rows(member, first)], member.classes, classes) for member in members]
    )
    return Aligned(first.ids, classes, logits)


def _rows(member: Member, first: Member) -> list[int]:
    """The member's rows in the order of the first one's items."""
    row = {item_id: place for place, item_id in enumerate(member.ids.tolist())}
    ids = first.ids.tolist()
    missing = [item_id for item_id in ids if item_id not in row]
    strangers = sorted(set(row) - set(ids))
    if missing or strangers:
        which = missing[0] if missing else strangers[0]
        raise DataError(
            f"{first.name} and {member.name} answer different items: {len(missing)} are only in the first, "
            f"{len(strangers)} only in the second, such as {which!r}. Members must be made from the same "
            "items, label column and split"
        )
    return [row[item_id] for item_id in ids]
