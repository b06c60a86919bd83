"""What is reported of one way to segment scenes: the record that its stage writes and pages read.

How the figures are computed: `segmentation`.
"""

from pydantic import JsonValue

from deponij.pipeline.metrics.evaluation import shown_part
from deponij.pipeline.metrics.segmentation import SegmentationScores
from deponij.pipeline.record_lists import Record


class SegmentationResult(Record):
    """One approach's record: a decoder over one backbone's maps with one kind of class vectors.

    Attributes:
        method: its name. decoder: kind of the decoder; arguments: of its constructor, as given.
        backbone, fingerprint: whose maps; no fingerprint where a network sees the pictures itself.
        words: what class vectors are made of: `names`, `descriptions`, a set of templates, or `learned`.
        classes: names, in the order of their numbers.
        protocol: in words, what was learned from what, and chosen on what; also whether windows were cut from maps of
            whole pictures or encoded by themselves, which differ at their edges.
        learned_from: parts.
        n_weights: that were learned. seconds: that it took.
        parts: scores of each part that was answered.
        class_cosines: of the class vectors [C, C]; None where there are none.
        notes: what a reader must know.
    """

    method: str
    decoder: str
    backbone: str
    fingerprint: str
    words: str
    classes: tuple[str, ...]
    protocol: str
    n_weights: int
    seconds: float
    arguments: dict[str, JsonValue]
    parts: dict[str, SegmentationScores]
    notes: tuple[str, ...]
    learned_from: tuple[str, ...] = ("train",)
    class_cosines: tuple[tuple[float, ...], ...] | None = None

    @property
    def shown(self) -> str:
        """The part that results are read from."""
        return shown_part(self.parts)

    @property
    def val_miou(self) -> float | None:
        """mIoU on validation, by which approaches are chosen; None without, or where it was learned from."""
        is_there = "val" in self.parts and "val" not in self.learned_from
        return self.parts["val"].miou if is_there else None
