"""Scenes from COCO files: outlines (polygons, run lengths) drawn into one label map a photograph.

Where instances overlap, the smaller one lies on top by default: what is drawn over something else is mostly smaller than
that. `on_top: later` takes the file's order instead, for files that list what lies on top last, as the drawn sample's.
Reading the files: `deponij.pipeline.data.adapters.coco`. Outlines to pixels: `deponij.pipeline.data.crops`.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from deponij.pipeline.data.adapters.annotated import with_found_names
from deponij.pipeline.data.adapters.coco import Annotation, CocoDataset, Photograph
from deponij.pipeline.data.adapters.instances import annotated_size
from deponij.pipeline.data.adapters.label_maps import label_maps
from deponij.pipeline.data.adapters.registry import Progress
from deponij.pipeline.data.adapters.several_files import read_several
from deponij.pipeline.data.adapters.whole import whole_picture
from deponij.pipeline.data.boxes import Boxes
from deponij.pipeline.data.crops import Window, outline_mask
from deponij.pipeline.data.inside import Links, existing_folder, read_inside
from deponij.pipeline.data.item import MetadataValue, ToAct
from deponij.pipeline.data.parallel import Workers, ordered_map
from deponij.pipeline.data.parts import Treatment
from deponij.pipeline.data.scenes.class_tables import colour_of
from deponij.pipeline.data.scenes.descriptions import described, described_sets
from deponij.pipeline.data.scenes.registry import (
    GroupPattern,
    Scene,
    group_by,
    left_out,
    register_scenes,
    scene_of,
)
from deponij.pipeline.data.try_out import first_in_turn, told_part
from deponij.pipeline.record_lists import Record
from deponij.store.errors import DataError, UsageError
from deponij.store.label_maps import VOID, Labels, SceneClass, check_classes

BACKGROUND = "background"
_WHOLE = ("category", "supercategory")

Name = Annotated[str, Field(min_length=1)]


class CocoMaskParams(Record):
    """Where a COCO data set lies, and what its outlines are drawn as.

    Attributes:
        annotations: the annotation file, or several, as of the adapter `coco`.
        images: the folder that `file_name` is relative to.
        classes: `category`; `supercategory` (a category without one stands for itself); a table of labels, `taco10` or a
            CSV file of rows `category,label`; or the table itself, {category: label}. `{"*": litter}` is one class of all.
        background: the class of what no outline covers; null: it is void.
        unmapped: what is done with instances of categories that a table leaves out: they become void, or background.
        on_top: of two instances on one pixel the `smaller` or the `later` one in the file.
        descriptions: a name or file (`deponij.pipeline.data.scenes.descriptions`).
        group: a regular expression for what in a photograph's path names its group.
        boxes, treat, links_into: as of the adapter `coco`.
        limit: only so many photographs, for a try-out: the first ones, of each given part in turn.
    """

    annotations: Path | tuple[Path, ...]
    images: Path
    classes: str | dict[Name, Name] = "category"
    background: Name | None = BACKGROUND
    unmapped: Literal["void", "background"] = "void"
    on_top: Literal["smaller", "later"] = "smaller"
    descriptions: str | Path | None = None
    group: GroupPattern | None = None
    boxes: Boxes | None = None
    treat: dict[str, Treatment] = Field(default_factory=dict)
    links_into: tuple[Path, ...] = ()
    limit: int | None = Field(default=None, ge=1)


@dataclass(frozen=True, slots=True)
class _Drawing:
    """How annotations become class numbers.

    Attributes:
        number_of: category name -> class number; one that is not in it becomes `unmapped`.
        ground: number of pixels that no outline covers.
    """

    number_of: Mapping[str, int]
    unmapped: int
    ground: int
    smaller_on_top: bool


@register_scenes("coco-masks")
class CocoMaskSource:
    """COCO annotation files and their pictures, opened."""

    Params = CocoMaskParams

    def __init__(self, params: CocoMaskParams) -> None:
        """Read the annotation files.

        Raises:
            DataError: they or the folder are missing or damaged, or nothing in them has an outline.
            UsageError: an unknown table of labels or descriptions.
        """
        named = params.annotations
        paths = named if isinstance(named, tuple) else (named,)
        dataset = read_several(paths, boxes=params.boxes, treat=params.treat)
        if not any(one.segmentation for photograph in dataset.photographs for one in photograph.annotations):
            raise DataError(f"{dataset.path} has no outline (`segmentation`), so no label map can be drawn")
        self.root = existing_folder(params.images, "folder of the photographs")
        folders = tuple(dict.fromkeys(path.resolve().parent for path in paths))
        self.dataset, self._name_notes = with_found_names(dataset, self.root, folders)
        self.links = Links.of(params.images, params.links_into)
        labels = _labels(self.dataset, params.classes)
        photographs = self.dataset.photographs
        taken = first_in_turn([(one.given, None) for one in photographs], params.limit)
        self._part = told_part(len(taken), len(photographs), "the first ones, of each given part in turn")
        self.dataset = replace(self.dataset, photographs=tuple(photographs[place] for place in taken))
        names = list(dict.fromkeys(labels.values()))
        if params.background is not None:
            names = [params.background, *(name for name in names if name != params.background)]
        bare = tuple(SceneClass(name, colour_of(number)) for number, name in enumerate(names))
        check_classes(bare)
        texts = params.descriptions
        if texts is None and isinstance(params.classes, str) and params.classes in described_sets():
            texts = params.classes
        self._described = described(bare, texts)
        self.classes = self._described.classes
        ground = VOID if params.background is None else 0
        self._group = params.group
        self._drawing = _Drawing(
            {category: names.index(label) for category, label in labels.items()},
            ground if params.unmapped == BACKGROUND else VOID,
            ground,
            params.on_top == "smaller",
        )

    @property
    def n_scenes(self) -> int:
        """One for each photograph."""
        return len(self.dataset.photographs)

    @property
    def notes(self) -> tuple[str, ...]:
        """Photographs without annotations or left out; categories that are in no class; classes without a description."""
        photographs = self.dataset.photographs
        bare = sum(not one.annotations for one in photographs)
        ground = "void" if self._drawing.ground == VOID else self.classes[0].name
        counts = {
            f"photographs without an annotation, all {ground}": bare,
            "photographs that are left out as asked": self.dataset.n_skipped,
        }
        notes: list[str] = [
            *self._part,
            *self._name_notes,
            *(f"{told}: {n:,}" for told, n in counts.items() if n),
        ]
        outside = [
            name
            for name, n in self.dataset.category_counts.items()
            if n and name not in self._drawing.number_of
        ]
        if outside:
            what = "void" if self._drawing.unmapped == VOID else "background"
            notes.append(ToAct(f"categories that are in no class, {what} here: {', '.join(outside)}"))
        if self._described.without:
            notes.append(f"classes without a description: {', '.join(self._described.without)}")
        return tuple(notes)

    def scenes(self, *, workers: Workers = 1, progress: Progress | None = None) -> Iterator[Scene]:
        """In file order; photographs that cannot be read or drawn carry their failure."""
        one = partial(
            _scene,
            root=self.root,
            links=self.links,
            drawing=self._drawing,
            classes=self.classes,
            group=self._group,
        )
        for scene in ordered_map(one, self.dataset.photographs, workers):
            if progress is not None:
                progress(1)
            yield scene


def _labels(dataset: CocoDataset, said: str | Mapping[str, str]) -> dict[str, str]:
    """Category -> class name, in the order of the classes."""
    categories = {one.name: one for one in dataset.categories}
    if isinstance(said, Mapping):
        every = said.get("*")
        found = {name: label for name in categories if (label := said.get(name, every)) is not None}
        if unknown := sorted(set(said) - {"*"} - set(categories)):
            raise UsageError(
                f"no category is named {', '.join(map(repr, unknown))} (classes); they are {', '.join(categories)}"
            )
        return found
    if said == "category":
        return {name: name for name in categories}
    if said == "supercategory":
        return {name: one.supercategory or name for name, one in categories.items()}
    try:
        (table,) = label_maps((said,), dataset.category_counts)
    except UsageError as error:
        raise UsageError(
            f"classes: {error}; or {', '.join(_WHOLE)}, or a table {{category: label}}"
        ) from error
    return {name: label for name in categories if (label := table.label_of(name)) is not None}


def _scene(
    photograph: Photograph,
    *,
    root: Path,
    links: Links,
    drawing: _Drawing,
    classes: tuple[SceneClass, ...],
    group: str | None,
) -> Scene:
    named = group_by(group, photograph.image_id)
    metadata: dict[str, MetadataValue] = {"group": named, "label_file": None, "label": None}
    content, failure = None, photograph.problem
    if failure is None:
        try:
            content = read_inside(root, photograph.file_name, links)
        except DataError as error:
            failure = str(error)
    item = whole_picture(photograph.image_id, content, failure, photograph.given, metadata)
    if item.width_px is None or item.height_px is None:
        return Scene(item, None)
    try:
        size_px = (item.width_px, item.height_px)
        annotated_size(photograph, size_px)
        labels = _drawn(photograph.in_pixels(size_px), size_px, drawing)
    except DataError as error:
        return left_out(item, str(error))
    return scene_of(item, labels, classes)


def _drawn(photograph: Photograph, size_px: tuple[int, int], drawing: _Drawing) -> Labels:
    """[h, w] class numbers of an upright photograph of (width, height).

    Raises:
        DataError: an annotation has no outline, or its category is unknown: what its pixels show is not known.
    """
    labels = np.full(size_px[::-1], drawing.ground, np.uint8)
    drawn = [(*_mask(one, size_px), _number(one, drawing)) for one in photograph.annotations]
    if drawing.smaller_on_top:
        # Sorting is stable: of equal ones the later lies on top.
        drawn.sort(key=lambda found: -int(found[1].sum()))
    for (left, top, right, bottom), mask, number in drawn:
        labels[top:bottom, left:right][mask] = number
    return labels


def _number(annotation: Annotation, drawing: _Drawing) -> int:
    if annotation.category is None:
        raise DataError(annotation.problem or f"annotation {annotation.index} has no category")
    return drawing.number_of.get(annotation.category.name, drawing.unmapped)


def _mask(annotation: Annotation, size_px: tuple[int, int]) -> tuple[Window, NDArray[np.bool_]]:
    """The window that an outline reaches over, and its pixels there; empty where it lies outside the photograph."""
    outline = annotation.segmentation
    try:
        if not outline:
            raise DataError("it has no outline (`segmentation`), so nobody knows which pixels show it")
        window = _extent(outline, size_px)
        if window[0] >= window[2] or window[1] >= window[3]:
            return (0, 0, 0, 0), np.zeros((0, 0), bool)
        return window, outline_mask(outline, window, size_px)
    except DataError as error:
        name = "" if annotation.category is None else f" ({annotation.category.name})"
        raise DataError(f"annotation {annotation.index}{name}: {error}") from error


def _extent(segmentation: Any, size_px: tuple[int, int]) -> Window:
    """The part of the frame that polygons reach over; all of it where there are none, or they are malformed."""
    width, height = size_px
    if not isinstance(segmentation, list) or not segmentation:
        return 0, 0, width, height
    try:
        points = np.concatenate([np.asarray(ring, np.float64).reshape(-1, 2) for ring in segmentation])
        low, high = points.min(axis=0), points.max(axis=0)
        return (
            min(max(math.floor(low[0]) - 1, 0), width),
            min(max(math.floor(low[1]) - 1, 0), height),
            min(max(math.ceil(high[0]) + 1, 0), width),
            min(max(math.ceil(high[1]) + 1, 0), height),
        )
    except (TypeError, ValueError, OverflowError):
        return 0, 0, width, height
