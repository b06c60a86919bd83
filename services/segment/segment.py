"""`deponij segment`: label maps or heat maps of new pictures. This is no stage; it runs backbones.

Pictures are read and answered one by one, so that memory holds one at a time.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deponij.pipeline.pictures import decode, upright_size_px
from deponij.pipeline.reports.segmentation.colours import as_array
from deponij.pipeline.reports.segmentation.pictures import overlay
from deponij.pipeline.segmenting.pictures import HEAT_COLOURS, Entry, heat, with_legend
from deponij.pipeline.segmenting.segmenter import VOID, Scores, label_map, score_map
from deponij.pipeline.segmenting.windows import Size
from deponij.project.frame.console import Advance, bar, note
from deponij.project.frame.settings import Section
from deponij.project.new_pictures import NewPicture, NewPictures
from deponij.services.segment import files
from deponij.services.segment.chosen import Chosen, SegmentModel
from deponij.services.segment.coco import CocoFile
from deponij.services.segment.files import Outputs
from deponij.store.errors import DataError

# CLIP's, by which logits were divided.
_TEMPERATURE = 0.01
NONE = "none of these"
# As overlays show it.
_NONE_COLOUR = (150, 150, 150)


class SegmentClass(Section):
    """A class of label maps, by its number."""

    id: int
    name: str
    colour: tuple[int, int, int]


class Segmented(Section):
    """One picture.

    Attributes:
        shares: of its pixels, by class; those that are nowhere are left out.
        none: of pixels that are none of them.
        overlay, labels: files.
    """

    path: str
    width_px: int
    height_px: int
    n_windows: int
    shares: dict[str, float]
    none: float
    overlay: str
    labels: str


class Heated(Section):
    """One picture's heat map.

    Attributes:
        low, high: least and highest score in the picture: cosines, or probabilities beside a background.
        highest_at: (x, y) in px.
        heat: file.
    """

    path: str
    width_px: int
    height_px: int
    n_windows: int
    low: float
    high: float
    highest_at: tuple[int, int]
    heat: str


class Failed(Section):
    """A picture that could not be segmented, and why."""

    path: str
    reason: str


class SegmentResult(Section):
    """All answers, in the order in which the pictures were named.

    Attributes:
        query: words of heat maps; null of label maps.
        says_always: every pixel has a class, whatever it shows: there was neither a background nor a threshold.
    """

    model: SegmentModel
    classes: tuple[SegmentClass, ...]
    query: str | None
    says_always: bool
    out: str
    pictures: tuple[Segmented | Heated, ...]
    failures: tuple[Failed, ...]


def run(
    chosen: Chosen,
    pictures: NewPictures,
    out: Outputs,
    *,
    is_query: bool = False,
    threshold: float = 0.0,
    coco: CocoFile | None = None,
) -> SegmentResult:
    """Segment pictures.

    Args:
        is_query: heat maps of the one class instead of label maps.

    Raises:
        StoreError: something cannot be written.
    """
    answers: list[Segmented | Heated] = []
    failures: list[Failed] = []
    maps: dict[str, str] = {}
    if not is_query:
        out.write(files.CLASSES_NAME, files.classes_json(chosen.classes, {}))
    with bar("segment", pictures.n, "pictures") as advance:
        for one in _own_left_aside(pictures.read(1), advance):
            try:
                answered = (
                    _heated(chosen, one, out) if is_query else _segmented(chosen, one, out, threshold, coco)
                )
                answers.append(answered)
                if isinstance(answered, Segmented):
                    maps[Path(answered.labels).name] = one.path
            except DataError as error:
                failures.append(Failed(path=one.path, reason=str(error)))
            advance(1, note=Path(one.path).name)
    if not is_query:
        out.write(files.CLASSES_NAME, files.classes_json(chosen.classes, maps))
    if coco is not None:
        coco.write()
    return SegmentResult(
        model=chosen.facts,
        classes=tuple(
            SegmentClass(id=number, name=one.name, colour=one.colour)
            for number, one in enumerate(chosen.classes)
        ),
        query=chosen.classes[0].name if is_query else None,
        says_always=chosen.says_always,
        out=str(out.folder),
        pictures=tuple(answers),
        failures=tuple(failures),
    )


def _own_left_aside(pictures: Iterable[NewPicture], advance: Advance) -> Iterator[NewPicture]:
    """Without what this command made: its folder may lie among the pictures."""
    n_aside = 0
    for one in pictures:
        if one.content is None or not files.is_marked(one.content):
            yield one
            continue
        n_aside += 1
        advance(1)
    if n_aside:
        note(f"{n_aside} pictures that `{files.MADE_BY}` made itself are left aside")


@dataclass(frozen=True, slots=True)
class _Answered:
    """A picture and its scores.

    Attributes:
        size_px: (height, width) of the file's picture, upright.
        shown: the picture as people see it, [h, w, 3].
        grid: see `Segmenter.grid`.
    """

    size_px: Size
    shown: NDArray[np.uint8]
    grid: Scores
    n_windows: int


def _answered(chosen: Chosen, one: NewPicture) -> _Answered:
    """Scores of one picture.

    Raises:
        DataError: it cannot be read.
    """
    if one.content is None:
        raise DataError(one.failure or "it cannot be read")
    segmenter = chosen.segmenter
    transform = segmenter.transform
    image = decode(
        one.content, route=chosen.route, input_px=transform.input_px, keep_alpha=transform.keeps_alpha
    )
    width, height = upright_size_px(one.content)
    shown = np.asarray(image.convert("RGB").resize(files.shown_px(width, height), Image.Resampling.BILINEAR))
    return _Answered(
        (height, width), shown, segmenter.grid(image), segmenter.n_windows((image.height, image.width))
    )


def _segmented(
    chosen: Chosen, one: NewPicture, out: Outputs, threshold: float, coco: CocoFile | None
) -> Segmented:
    answered = _answered(chosen, one)
    height, width = answered.size_px
    labels = label_map(answered.grid, answered.size_px, n_named=len(chosen.classes), threshold=threshold)
    counts = np.bincount(labels.ravel(), minlength=VOID + 1) / labels.size
    entries = [
        Entry(chosen.classes[number].name, chosen.classes[number].colour, float(counts[number]), number + 1)
        for number in np.argsort(-counts[: len(chosen.classes)], kind="stable").tolist()
        if counts[number]
    ]
    none = float(counts[VOID])
    legend = [*entries, Entry(NONE, _NONE_COLOUR, none)] if none else entries
    colours = as_array([known.colour for known in chosen.classes])
    drawn = np.asarray(overlay(Image.fromarray(answered.shown), labels, colours))
    title = f"{len(entries)} of {len(chosen.classes)} classes, by {chosen.facts.told}"
    name = out.name_for(one.path)
    written = out.write(f"{name}{files.LABELS}", files.labels_png(labels, chosen.classes))
    shown = out.write(f"{name}{files.OVERLAY}", files.picture_jpg(with_legend(drawn, legend, title)))
    if coco is not None:
        coco.add(one.path, labels)
    return Segmented(
        path=one.path,
        width_px=width,
        height_px=height,
        n_windows=answered.n_windows,
        shares={entry.name: entry.share or 0.0 for entry in entries},
        none=none,
        overlay=str(shown),
        labels=str(written),
    )


def _heated(chosen: Chosen, one: NewPicture, out: Outputs) -> Heated:
    answered = _answered(chosen, one)
    height, width = answered.size_px
    is_cosine = chosen.segmenter.scores == "logits"
    scores = score_map(answered.grid, answered.size_px) * (_TEMPERATURE if is_cosine else 1.0)
    low, high = float(scores.min()), float(scores.max())
    y, x = np.unravel_index(int(scores.argmax()), scores.shape)
    small = np.asarray(Image.fromarray(scores).resize(answered.shown.shape[1::-1], Image.Resampling.BILINEAR))
    ends = (low, high) if is_cosine else (0.0, 1.0)
    drawn = heat(answered.shown, small, *ends)
    what = "cosine" if is_cosine else "probability"
    legend = [
        Entry(f"{what} {ends[0]:.3f}", HEAT_COLOURS[0]),
        Entry(f"{what} {ends[1]:.3f}", HEAT_COLOURS[1]),
    ]
    title = f"{chosen.classes[0].name!r}, by {chosen.facts.told}"
    written = out.write(
        f"{out.name_for(one.path)}{files.HEAT}", files.picture_jpg(with_legend(drawn, legend, title))
    )
    return Heated(
        path=one.path,
        width_px=width,
        height_px=height,
        n_windows=answered.n_windows,
        low=low,
        high=high,
        highest_at=(int(x), int(y)),
        heat=str(written),
    )
