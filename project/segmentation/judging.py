"""What a network that segments is worth: every part judged, the record of it, and what it was learned from in words."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydantic import JsonValue

from deponij.pipeline.metrics.segmentation import scores
from deponij.pipeline.metrics.segmentation_result import SegmentationResult
from deponij.project.frame.console import bar
from deponij.project.segmentation.result_files import PictureCounts
from deponij.project.segmentation.sources import SceneSource
from deponij.project.segmentation.task import Counts, answers, counted

if TYPE_CHECKING:
    from torch import nn

PARTS = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class Named:
    """What is judged.

    Attributes:
        method: its name. decoder: kind of the decoder.
        backbone, fingerprint: of the features; no fingerprint where the network sees the pictures itself.
        words: where class vectors come from.
        protocol: in words, what was learned from what, and chosen on what.
        seconds: that learning took.
    """

    method: str
    decoder: str
    backbone: str
    fingerprint: str
    words: str
    protocol: str
    seconds: float
    arguments: Mapping[str, JsonValue]


def judge(model: "nn.Module", source: SceneSource, *, both_ways: bool) -> dict[str, Counts]:
    """Answers to every part that has pictures, counted."""
    ids = {part: source.ids([part]) for part in PARTS if source.scenes.ids(part)}
    found = {}
    with bar("judge", sum(map(len, ids.values())), "pictures") as advance:
        for part, of_part in ids.items():
            read = answers(model, source, of_part, both_ways=both_ways)
            found[part] = counted(read, len(source.scenes.classes), advance)
    return found


def result_of(
    named: Named, model: "nn.Module", source: SceneSource, counts: Mapping[str, Counts]
) -> SegmentationResult:
    """The record of what was counted."""
    names = [one.name for one in source.scenes.classes]
    return SegmentationResult(
        method=named.method,
        decoder=named.decoder,
        backbone=named.backbone,
        fingerprint=named.fingerprint,
        words=named.words,
        classes=tuple(names),
        protocol=named.protocol,
        n_weights=sum(one.numel() for one in model.parameters() if one.requires_grad),
        seconds=round(named.seconds, 1),
        arguments=dict(named.arguments),
        parts={
            part: scores(found.confusions, found.boundaries, names, _groups(source, found.ids))
            for part, found in counts.items()
        },
        notes=tuple(_notes(source)),
    )


def pictures_of(source: SceneSource, counts: Mapping[str, Counts]) -> PictureCounts:
    """The counts of each picture, for comparisons to come."""
    ids = [one for found in counts.values() for one in found.ids]
    return PictureCounts(
        ids=np.array(ids, dtype=np.str_),
        parts=np.array([part for part, found in counts.items() for _ in found.ids], dtype=np.str_),
        groups=_groups(source, ids),
        confusions=np.concatenate([found.confusions for found in counts.values()]),
        boundaries=np.concatenate([found.boundaries for found in counts.values()]),
    )


def _groups(source: SceneSource, ids: list[str]) -> np.ndarray:
    return np.array([source.scenes.group_of(one) for one in ids], dtype=np.str_)


def _notes(source: SceneSource) -> list[str]:
    left_out = source.left_out(PARTS)
    if not left_out:
        return []
    return [f"{len(left_out)} pictures have no features and are left out; the view's failure table says why."]
