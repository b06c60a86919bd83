"""What the page shows of segmentation: tables, the similarity of class vectors, example pictures. How: its template.

Shape letters: n pictures, C classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deponij.pipeline.metrics.segmentation import Figures, margins
from deponij.pipeline.reports.provenance import Provenance
from deponij.pipeline.reports.segmentation.published import Published
from deponij.pipeline.reports.segmentation.table import SIDE_BY_SIDE, SegmentationTable
from deponij.store.label_maps import Colour

Counts = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Shown:
    """One picture of an example: a heading, and the data URI of a JPEG."""

    heading: str
    uri: str


@dataclass(frozen=True, slots=True)
class Example:
    """One scene: how well the first approach does there, and the pictures side by side.

    Attributes:
        what: `worst`, `median`, `best`, or its rank.
        miou: of this picture alone, by the first approach.
    """

    item_id: str
    what: str
    miou: float
    pictures: Sequence[Shown]


@dataclass(frozen=True, slots=True)
class ClassKey:
    """One class of the legend: its number in the pictures (from 1), and its colour there."""

    number: int
    name: str
    colour: Colour

    @property
    def css(self) -> str:
        """As style sheets have it."""
        return "rgb({} {} {})".format(*self.colour)


@dataclass(frozen=True, slots=True)
class SegmentationFacts:
    """All approaches to the same scenes, the first of them in detail.

    Attributes:
        table: approaches and classes.
        protocols: of each approach, what was learned from what.
        notes: what must be known of the table, and of approaches with their names.
        duel: the first against the second in a sentence; empty for one alone.
        similarity: an SVG; empty where there are no class vectors.
        of_vectors: whose they are.
        keys: the legend.
        examples: from the worst on.
        source: of the figures.
    """

    table: SegmentationTable
    protocols: Sequence[tuple[str, str]]
    notes: Sequence[str]
    duel: str
    similarity: str
    of_vectors: str
    keys: Sequence[ClassKey]
    examples: Sequence[Example]
    source: Provenance

    @property
    def class_heads(self) -> list[str]:
        """Whose classes stand side by side; of one method that occurs twice the whole name."""
        rows = self.table.rows[:SIDE_BY_SIDE]
        methods = [row.method for row in rows]
        return [row.name if methods.count(row.method) > 1 else row.method for row in rows]

    @property
    def published_classes(self) -> list[Published]:
        """What was published with figures of classes."""
        return [one for one in self.table.published if one.iou]

    def share(self, place: int) -> float:
        """A class's share of the pixels that count."""
        classes = self.table.by_class[0]
        return classes[place].n_pixels / sum(one.n_pixels for one in classes)


def chosen_pictures(confusions: Counts, n: int) -> list[tuple[int, str, float]]:
    """Rows of at most n pictures, evenly from the worst to the best by their own mIoU: row, what it is, mIoU.

    Args:
        confusions: [n_pictures, C, C]; a picture's mIoU is over the classes that its truth shows, and one that shows none is
            not chosen.
    """
    own = Figures(confusions.shape[1]).miou(margins(confusions).astype(np.float64))
    known = np.flatnonzero(np.isfinite(own))
    ranked = known[np.argsort(own[known], kind="stable")]
    ranks = sorted(set(np.linspace(0, len(ranked) - 1, min(n, len(ranked))).round().astype(int).tolist()))
    return [(int(ranked[rank]), _named(rank, len(ranked)), float(own[ranked[rank]])) for rank in ranks]


def _named(rank: int, n: int) -> str:
    if rank == 0:
        return "worst"
    if rank == n - 1:
        return "best"
    return "median" if abs(rank - (n - 1) / 2) < 1 else f"{rank + 1}. of {n} from the worst"
