"""What a network that segments is worth: every part judged, and the record of it."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from deponij.pipeline.metrics.clustered import FEWEST, Unit
from deponij.pipeline.metrics.segmentation import scores
from deponij.pipeline.metrics.segmentation_result import SegmentationResult, Windows
from deponij.project.frame.console import bar
from deponij.project.segmentation.params import PARTS
from deponij.project.segmentation.result_files import PictureCounter, PictureCounts
from deponij.project.segmentation.sources import SceneSource
from deponij.project.segmentation.task import LabelMap
from deponij.store.errors import DataError
from deponij.store.scenes import Scenes

if TYPE_CHECKING:
    from torch import Tensor, nn

Answering = Callable[[Sequence[str]], Iterator[tuple[str, LabelMap, LabelMap]]]
# Of each part, where its groups are too few for intervals. Shorter ones are too much alike (`docs/numbers.md`).
_STRETCHES = 12


@dataclass(frozen=True, slots=True)
class Named:
    """What is judged, as `SegmentationResult` has it.

    Attributes:
        vectors: float32 [C, d] of words; None where class vectors are learned.
        seconds: that learning took; None where nothing was learned.
    """

    method: str
    title: str
    backbone: str
    fingerprint: str
    words: str
    protocol: str
    windows: Windows
    learned_from: tuple[str, ...]
    seed: int | None
    seconds: float | None
    vectors: "Tensor | None" = None


def resampled(ids: Sequence[str], scenes: Scenes) -> tuple[dict[str, str], Unit]:
    """What each picture of a part is drawn together with when intervals are made, and what that is called.

    The scenes' groups, where there are enough of them for intervals. Else, as with the frames of two films, each group is
    cut into stretches of consecutive pictures, so that there are about `_STRETCHES` of all: neighbours in a film are alike,
    and pictures that are drawn one by one would promise too much.
    """
    groups = [scenes.group_of(one) for one in ids]
    if len(set(groups)) >= FEWEST:
        return dict(zip(ids, groups, strict=True)), "groups"
    length = max(1, len(ids) // _STRETCHES)
    seen: Counter[str] = Counter()
    stretch_of = {}
    for one, group in zip(ids, groups, strict=True):
        stretch_of[one] = f"{group}/{seen[group] // length}"
        seen[group] += 1
    return stretch_of, "stretches"


def judge(answering: Answering, source: SceneSource, *, parts: Sequence[str] = PARTS) -> PictureCounter:
    """Answers to each of these parts that has pictures, counted; those to `test` are kept.

    Args:
        answering: gives of pictures' ids each with its label map and the answer, as `answers`.

    Raises:
        DataError: none has.
    """
    ids = {part: source.ids([part]) for part in parts if source.scenes.ids(part)}
    if not ids:
        raise DataError(f"no picture is in the part {' or '.join(parts)}, so that nothing can be judged")
    counter = PictureCounter(source.scenes.classes)
    with bar("judge", sum(map(len, ids.values())), "pictures") as advance:
        for part, of_part in ids.items():
            groups, _ = resampled(of_part, source.scenes)
            for item_id, truth, answer in answering(of_part):
                counter.add(item_id, part, groups[item_id], truth, answer)
                advance(1)
    return counter


def result_of(
    named: Named, model: "nn.Module", source: SceneSource, counter: PictureCounter
) -> SegmentationResult:
    """The record of what was counted."""
    counts = counter.counts()
    classes = [one.name for one in source.scenes.classes]
    parts = {part: counts.of(part) for part in PARTS if (counts.parts == part).any()}
    return SegmentationResult(
        method=named.method,
        title=named.title,
        backbone=named.backbone,
        fingerprint=named.fingerprint,
        words=named.words,
        classes=tuple(classes),
        colours=tuple(one.colour for one in source.scenes.classes),
        protocol=named.protocol,
        windows=named.windows,
        learned_from=named.learned_from,
        seed=named.seed,
        n_weights=sum(one.numel() for one in model.parameters() if one.requires_grad),
        seconds=None if named.seconds is None else round(named.seconds, 1),
        parts={
            part: scores(one.confusions, one.boundaries, classes, one.groups, _unit(one, source))
            for part, one in parts.items()
        },
        class_cosines=None if named.vectors is None else _cosines(named.vectors),
        notes=tuple(_notes(source)),
    )


def _unit(counts: PictureCounts, source: SceneSource) -> Unit:
    return resampled(counts.ids.tolist(), source.scenes)[1]


def _cosines(vectors: "Tensor") -> tuple[tuple[float, ...], ...]:
    unit = vectors.numpy().astype(np.float64)
    return tuple(tuple(round(one, 4) for one in row) for row in (unit @ unit.T).tolist())


def _notes(source: SceneSource) -> list[str]:
    left_out = source.left_out(PARTS)
    if not left_out:
        return []
    return [f"{len(left_out)} pictures have no features and are left out; the view's failure table says why."]
