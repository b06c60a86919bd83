"""Two results folders of segmentation, picture by picture: is one better than the other by more than chance?

What `deponij compare` calls for such folders; this is no stage. Classifiers: `deponij.project.learning.compare`.
"""

from pathlib import Path

import numpy as np

from deponij.pipeline.metrics.clustered import Unit
from deponij.pipeline.metrics.intervals import Interval
from deponij.pipeline.metrics.segmentation import FigureDifference, paired
from deponij.pipeline.metrics.segmentation_result import SegmentationResult
from deponij.pipeline.record_lists import Record
from deponij.pipeline.reports.wording import p_value
from deponij.project.learning.compare import LEVEL
from deponij.project.segmentation.result_files import SEGMENTATION_NAME, PictureCounts, read_counts
from deponij.store.errors import DataError, UsageError


class SegmentationContestant(Record):
    """One of the two: whose maps, how they are decoded, and what it is worth."""

    folder: str
    method: str
    backbone: str
    words: str
    fingerprint: str
    miou: float
    miou_interval: Interval | None
    accuracy: float


class ClassGain(Record):
    """IoU of one class by both, and A's minus B's with its 95 %."""

    name: str
    iou_a: float
    iou_b: float
    difference: float
    interval: Interval | None


class SegmentationComparison(Record):
    """All of it.

    Attributes:
        part, n_pictures: what both answered.
        n_groups, unit: of the pictures that are not independent, and what these are.
        miou, accuracy: A minus B, over the whole set.
        classes: those that occur, A's largest gains first.
        is_more_than_chance: whether p of mIoU is below 0.05.
        verdict: the same in a sentence.
        notes: what a reader must know.
    """

    part: str
    n_pictures: int
    n_groups: int
    unit: Unit
    a: SegmentationContestant
    b: SegmentationContestant
    miou: FigureDifference
    accuracy: FigureDifference
    classes: tuple[ClassGain, ...]
    is_more_than_chance: bool
    verdict: str
    notes: tuple[str, ...]


def are_segmentations(a: Path | None, b: Path | None) -> bool:
    """Whether both are results folders of segmentation.

    Raises:
        UsageError: one is, and the other is something else.
    """
    known = [folder is not None and (folder / SEGMENTATION_NAME).is_file() for folder in (a, b)]
    if any(known) and not all(known):
        one, other = (a, b) if known[0] else (b, a)
        raise UsageError(
            f"{one} holds a segmentation"
            + (f" and {other} does not" if other is not None else "")
            + "; name two folders of segmentations of the same scenes"
        )
    return all(known)


def compare_segmentations(a: Path, b: Path, part: str = "test") -> SegmentationComparison:
    """Compare two approaches on the same pictures.

    Raises:
        DataError: they are of other classes or pictures; the message names what differs.
        UsageError: one has no pictures of this part.
        StoreError: a folder holds no results, or damaged ones.
    """
    (result_a, counts_a), (result_b, counts_b) = read_counts(a), read_counts(b)
    if result_a.classes != result_b.classes:
        raise DataError(
            f"{a} and {b} cannot be compared: their classes are {', '.join(result_a.classes)} and "
            f"{', '.join(result_b.classes)}; choose segmentations of the same scenes"
        )
    for folder, result in ((a, result_a), (b, result_b)):
        if part not in result.parts:
            raise UsageError(
                f"{folder} has no pictures of the part {part!r}; it has: {', '.join(result.parts)}"
            )
    one, other = _aligned(a, counts_a.of(part), b, counts_b.of(part))
    differences = paired(one.confusions, other.confusions, one.groups)
    classes = [
        ClassGain(name=result_a.classes[each.place], **each.model_dump(exclude={"place"}))
        for each in differences.classes
    ]
    return SegmentationComparison(
        part=part,
        n_pictures=differences.n_pictures,
        n_groups=differences.n_groups,
        unit=result_b.parts[part].unit,
        a=_contestant(a, result_a, part),
        b=_contestant(b, result_b, part),
        miou=differences.miou,
        accuracy=differences.accuracy,
        classes=tuple(sorted(classes, key=lambda gain: (-gain.difference, gain.name))),
        is_more_than_chance=differences.miou.p < LEVEL,
        verdict=_verdict(differences.miou),
        notes=tuple(_notes(part, (result_a, result_b))),
    )


def _aligned(
    a: Path, one: PictureCounts, b: Path, other: PictureCounts
) -> tuple[PictureCounts, PictureCounts]:
    """Both in A's order."""
    places = {item: row for row, item in enumerate(other.ids.tolist())}
    only_a = [item for item in one.ids.tolist() if item not in places]
    only_b = sorted(set(places) - set(one.ids.tolist()))
    if only_a or only_b:
        raise DataError(
            f"{a} and {b} cannot be compared: {len(only_a)} pictures are only in the first and {len(only_b)} only in the "
            f"second, such as {(only_a or only_b)[0]!r}; extract what failed, or split both alike"
        )
    ordered = other.rows(np.array([places[item] for item in one.ids.tolist()], np.intp))
    differs = (one.confusions.sum(axis=2) != ordered.confusions.sum(axis=2)).any(axis=1)
    if differs.any():
        raise DataError(
            f"{a} and {b} cannot be compared: the truth of {int(differs.sum())} pictures differs, the first: "
            f"{str(one.ids[differs][0])!r}; run the older one again"
        )
    return one, ordered


def _contestant(folder: Path, result: SegmentationResult, part: str) -> SegmentationContestant:
    scores = result.parts[part]
    return SegmentationContestant(
        folder=str(folder),
        method=result.method,
        backbone=result.backbone,
        words=result.words,
        fingerprint=result.fingerprint,
        miou=scores.miou,
        miou_interval=scores.miou_interval,
        accuracy=scores.accuracy,
    )


def _verdict(miou: FigureDifference) -> str:
    if miou.difference == 0:
        return "A and B have the same mIoU."
    points = f"{100 * abs(miou.difference):.1f} points of mIoU"
    leader, other = ("A", "B") if miou.difference > 0 else ("B", "A")
    if miou.p < LEVEL:
        return f"{leader} beats {other} by {points}, which is more than chance explains ({p_value(miou.p)})."
    return f"{leader} is ahead by {points}, which may be chance ({p_value(miou.p)})."


def _notes(part: str, results: tuple[SegmentationResult, SegmentationResult]) -> list[str]:
    notes = ["p is of this one comparison; of twenty comparisons of equals one falls below 0.05 by chance."]
    for name, result in zip("AB", results, strict=True):
        if part in result.learned_from:
            notes.append(
                f"{name} learned from the part {part!r}; its figures there say little about new pictures."
            )
    if part == "val":
        notes.append(
            "By validation pictures approaches and epochs are chosen; they say less than test pictures."
        )
    return notes
