"""What is reported of one way to segment scenes: the record that its stage writes and pages read.

How the figures are computed: `segmentation`.
"""

from typing import Literal

from deponij.pipeline.metrics.evaluation import shown_part
from deponij.pipeline.metrics.segmentation import SegmentationScores
from deponij.pipeline.record_lists import Record

# How a decoder met its training windows: cut from maps of whole pictures, or encoded as pictures of their own; at a
# window's edge these differ. Of a decoder that learns nothing there are none.
Windows = Literal["cut", "encoded", "none"]


class SegmentationResult(Record):
    """One approach's record: a decoder over one backbone's maps with one kind of class vectors.

    Attributes:
        method, title: the decoder's kind, and its name for people.
        backbone, fingerprint: whose maps; of a network that learned as a whole what it started from.
        words: what class vectors are made of: `names`, `descriptions`, a template, `learned`, or `none`.
        classes, colours: names, and red, green, blue of each, in the order of their numbers.
        protocol: what was learned from what, in a sentence.
        windows: see above.
        learned_from: parts.
        seed: of learning; None where nothing is random.
        n_weights: that were learned.
        seconds: learning took, on the machine that did it; None where nothing was learned.
        parts: scores of each part that was answered.
        class_cosines: of the class vectors [C, C]; None where there are none.
        notes: what a reader must know.
    """

    method: str
    title: str
    backbone: str
    fingerprint: str
    words: str
    classes: tuple[str, ...]
    colours: tuple[tuple[int, int, int], ...]
    protocol: str
    windows: Windows
    learned_from: tuple[str, ...]
    seed: int | None
    n_weights: int
    seconds: float | None
    parts: dict[str, SegmentationScores]
    class_cosines: tuple[tuple[float, ...], ...] | None
    notes: tuple[str, ...]

    @property
    def shown(self) -> str:
        """The part that results are read from."""
        return shown_part(self.parts)

    @property
    def val_miou(self) -> float | None:
        """mIoU on validation, by which approaches are chosen; None without, or where it was learned from."""
        is_there = "val" in self.parts and "val" not in self.learned_from
        return self.parts["val"].miou if is_there else None
