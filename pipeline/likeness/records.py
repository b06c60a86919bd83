"""What is alike in a set of pictures and what stands apart, as frozen records and JSON. Finding it: `groups`, `outliers`."""

from deponij.pipeline.likeness.pairs import How
from deponij.pipeline.record_lists import Measured, RecordList


class AlikeGroup(Measured):
    """Items that show nearly the same, each alike with the first one.

    Attributes:
        item_ids: the first ones of them.
        n: all.
        how: every kind of evidence that speaks for one of them at least.
        lowest: cosine of the two that are least alike.
        is_exact: all are the same picture.
    """

    item_ids: tuple[str, ...]
    n: int
    how: tuple[How, ...]
    lowest: float
    is_exact: bool


class Apart(Measured):
    """An item that is far from all others.

    Attributes:
        distance: cosine distance to the k-th nearest other.
        nearest, nearest_distance: the item nearest to it.
    """

    item_id: str
    distance: float
    nearest: str
    nearest_distance: float


class LikenessReport(Measured):
    """All items of one backbone's view, labelled or not.

    Attributes:
        n: items looked at.
        min_cosine, max_bits: from when two are near-duplicates; None: as `Thresholds` has it.
        n_groups, n_surplus: groups of near-duplicates; items that a list with one of each leaves out.
        groups: the largest likeness first; the first of them.
        k: whose distance counts; 0 where there are too few items for any.
        fence, n_beyond: upper quartile + 1.5 interquartile ranges of these distances, and the items beyond it.
        apart: the farthest first; the first of them.
        notes: what a reader must know.
    """

    backbone: str
    fingerprint: str
    n: int
    min_cosine: float
    max_bits: int | None
    n_groups: int
    n_surplus: int
    groups: tuple[AlikeGroup, ...]
    k: int
    fence: float
    n_beyond: int
    apart: tuple[Apart, ...]
    notes: tuple[str, ...]


LIKENESS = RecordList(LikenessReport)
