"""Reading annotation files in COCO format: typed, checked, grouped by photograph.

What is wrong with the file as a whole (no `images`, two images of one id, ...) is an error. What is
wrong with one annotation is its `problem`, which ends in the failure table; no annotation is dropped.
Pictures are not opened here; cutting crops lives in `crops` and `instances`.

Format: https://cocodataset.org/#format-data
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, TypeGuard

import numpy as np

from deponij.pipeline.data.adapters.doubtful_boxes import refuse_doubtful
from deponij.pipeline.data.boxes import Box, Boxes, to_xywh_px
from deponij.pipeline.data.parts import Folders, Treatments, places, refuse_unknown
from deponij.store.errors import DataError

# Problems of one file that a message names; the rest are counted.
MAX_NAMED = 5
_KINDS = {dict: "object", list: "list", str: "text", bool: "truth value", type(None): "null"}


@dataclass(frozen=True, slots=True)
class Category:
    """One entry of `categories`."""

    name: str
    supercategory: str | None


@dataclass(frozen=True, slots=True)
class Annotation:
    """One instance on a photograph.

    Attributes:
        index: position among its photograph's annotations in file order. With the file name it is the
            instance's identity, because annotation ids occur twice in published files.
        annotation_id: the file's own id, if it is a whole number.
        category: None when the file names an unknown one.
        box_xywh_px: left, top, width, height in the upright photograph; None when there are not four finite
            numbers.
        area_px: area of the outline as the file states it.
        segmentation: polygons or run lengths, unchecked; None when there are none.
        is_crowd: marks a region with many instances, not one.
        caption: a sentence about the instance, where the file has one.
        problem: why no crop can be cut, or None.
    """

    index: int
    annotation_id: int | None
    category: Category | None
    box_xywh_px: tuple[float, float, float, float] | None
    area_px: float | None
    segmentation: object
    is_crowd: bool
    caption: str | None
    problem: str | None


@dataclass(frozen=True, slots=True)
class Photograph:
    """One entry of `images` with its annotations.

    Attributes:
        file_name: as the file has it.
        image_id: the same as a normalised POSIX path.
        width_px, height_px: the annotated size; None where the file states none.
        given: the part of the split that the file brings.
        annotations: in file order.
        problem: why none of its annotations can be cut, or None.
        is_in_shares: boxes and outlines are shares of the upright sides and no pixels yet; see `in_pixels`.
    """

    file_name: str
    image_id: str
    width_px: int | None
    height_px: int | None
    given: str | None
    annotations: tuple[Annotation, ...]
    problem: str | None = None
    is_in_shares: bool = False

    def item_id(self, annotation: Annotation) -> str:
        """The id of one of its annotations as an item."""
        return f"{self.file_name}#{annotation.index}"

    def in_pixels(self, size_px: tuple[int, int]) -> "Photograph":
        """The same with boxes and outlines in pixels of a picture of (width, height)."""
        if not self.is_in_shares:
            return self
        sides = np.array(size_px)
        scaled = []
        for one in self.annotations:
            box, outline = one.box_xywh_px, one.segmentation
            if box is not None:
                left, top, width, height = (np.reshape(box, (2, 2)) * sides).ravel().tolist()
                box = (left, top, width, height)
            if isinstance(outline, list):
                outline = [(np.reshape(ring, (-1, 2)) * sides).ravel().tolist() for ring in outline]
            scaled.append(replace(one, box_xywh_px=box, segmentation=outline))
        return replace(self, annotations=tuple(scaled), is_in_shares=False)


@dataclass(frozen=True)
class CocoDataset:
    """A checked annotation file.

    Attributes:
        path: the file.
        photographs: in file order, those without annotations included; at the end one without a
            picture for each unknown image that annotations name.
        categories: in file order.
        n_skipped: photographs that the user leaves out.
    """

    path: Path
    photographs: tuple[Photograph, ...]
    categories: tuple[Category, ...]
    n_skipped: int = 0

    @cached_property
    def n_annotations(self) -> int:
        """Number of annotations, those with problems included."""
        return sum(len(photograph.annotations) for photograph in self.photographs)

    @cached_property
    def category_counts(self) -> dict[str, int]:
        """Number of instances per category name, 0 for empty categories; crowds and bad boxes count too."""
        counts = {category.name: 0 for category in self.categories}
        for photograph in self.photographs:
            for annotation in photograph.annotations:
                if annotation.category is not None:
                    counts[annotation.category.name] += 1
        return counts


def read_coco(path: Path, *, boxes: Boxes | None = None, treat: Treatments | None = None) -> CocoDataset:
    """Read and check one annotation file.

    Args:
        boxes: the form that its boxes are written in; None: COCO's own, unless the file as a whole speaks against it.
        treat: what photographs' folders and values of their field `split` are whose names leave it open; see
            `deponij.pipeline.data.parts`.

    Raises:
        DataError: no such file, no JSON, or not COCO's format; the message lists what is wrong. Or its boxes are
            likely to have another form, or it is open which part of a split photographs are of.
    """
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise DataError(f"annotation file {path} does not exist") from error
    except OSError as error:
        raise DataError(f"annotation file {path} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:  # JSONDecodeError and UnicodeDecodeError are ValueErrors
        raise DataError(f"annotation file {path} is not valid JSON: {error}") from error
    images, annotations, categories = _lists(path, document)
    problems: list[str] = []
    categories_by_id = _categories(categories, problems)
    images_by_id = _images(images, problems)
    if problems:
        more = f" (and {len(problems) - MAX_NAMED} more)" if len(problems) > MAX_NAMED else ""
        raise DataError(f"annotation file {path}: {'; '.join(problems[:MAX_NAMED])}{more}")
    sizes_px = {image_id: _size_px(photograph) for image_id, photograph in images_by_id.items()}
    if boxes is None:
        refuse_doubtful(path, annotations, sizes_px)
    known, unknown = _grouped(images_by_id, annotations, categories_by_id, boxes or Boxes.XYWH)
    kept = _with_parts(known, treat or {})
    return CocoDataset(path, (*kept, *unknown), tuple(categories_by_id.values()), len(known) - len(kept))


def _lists(path: Path, document: Any) -> tuple[list[Any], list[Any], list[Any]]:
    if not isinstance(document, dict):
        raise DataError(
            f"annotation file {path} holds a JSON {_kind(document)}; COCO's format is an object with the "
            "lists 'images', 'annotations' and 'categories'"
        )
    names = ("images", "annotations", "categories")
    # What lists pictures alone (COCO's own `image_info_test2017.json`, say) annotates nothing.
    lacking: dict[str, Any] = {"annotations": [], "categories": []} if "annotations" not in document else {}
    document = {**lacking, **document} if document.get("images") else document
    missing = [name for name in names if name not in document]
    if missing:
        raise DataError(
            f"annotation file {path} has no {' and no '.join(map(repr, missing))}; COCO's format needs "
            "the lists 'images', 'annotations' and 'categories'"
        )
    wrong = [f"{name!r} is a {_kind(document[name])}" for name in names if type(document[name]) is not list]
    if wrong:
        raise DataError(f"annotation file {path}: {', '.join(wrong)}, expected lists")
    return document["images"], document["annotations"], document["categories"]


def _categories(entries: Iterable[Any], problems: list[str]) -> dict[Any, Category]:
    categories: dict[Any, Category] = {}
    for position, entry in enumerate(entries):
        problem = _entry_problem(entry, "name", categories)
        if problem is not None:
            problems.append(f"categories[{position}] {problem}")
            continue
        above = entry.get("supercategory")
        categories[entry["id"]] = Category(entry["name"], above if _is_text(above) and above else None)
    return categories


def _images(entries: Iterable[Any], problems: list[str]) -> dict[Any, Photograph]:
    photographs: dict[Any, Photograph] = {}
    seen: dict[str, int] = {}
    for position, entry in enumerate(entries):
        problem = _entry_problem(entry, "file_name", photographs) or _size_problem(entry)
        image_id = "" if problem else str(PurePosixPath(entry["file_name"]))
        if image_id in seen:
            problem = f"names {image_id!r}, as images[{seen[image_id]}] does"
        if problem is not None:
            problems.append(f"images[{position}] {problem}")
            continue
        seen[image_id] = position
        width_px, height_px = (None if entry.get(n) is None else int(entry[n]) for n in ("width", "height"))
        split = entry.get("split")
        named = split if isinstance(split, str) and split.strip() else None
        photographs[entry["id"]] = Photograph(entry["file_name"], image_id, width_px, height_px, named, ())
    return photographs


def _size_px(photograph: Photograph) -> tuple[int, int] | None:
    if photograph.width_px is None or photograph.height_px is None:
        return None
    return photograph.width_px, photograph.height_px


def _with_parts(photographs: Sequence[Photograph], treat: Treatments) -> list[Photograph]:
    """With the parts that the field `split` names, or where no photograph has one, its folders."""
    if any(photograph.given for photograph in photographs):
        names: list[Folders] = [(one.given,) if one.given else () for one in photographs]
        place_of = places(names, treat, "values of `split`")
    else:
        names = [PurePosixPath(photograph.image_id).parts[:-1] for photograph in photographs]
        place_of = places(names, treat)
    refuse_unknown(treat, names)
    return [
        replace(photograph, given=place_of[name].given)
        for photograph, name in zip(photographs, names, strict=True)
        if not place_of[name].is_skipped
    ]


def _entry_problem(entry: Any, text: str, earlier: Mapping[Any, object]) -> str | None:
    """Why this is no object with a new id and that text, or None."""
    if not isinstance(entry, dict):
        return f"is a {_kind(entry)}, expected an object"
    if not _is_text(entry.get(text)) or not entry[text]:
        return f"has {text} {entry.get(text)!r}, expected a text"
    if not _is_id(entry.get("id")):
        return f"has id {entry.get('id')!r}, expected a number or text"
    return f"has id {entry['id']!r}, which an earlier entry has" if entry["id"] in earlier else None


def _size_problem(entry: Any) -> str | None:
    size = [entry.get("width"), entry.get("height")]
    if size == [None, None] or all(map(_is_size, size)):
        return None
    return f"has width and height {' and '.join(map(_shown, size))}, expected whole numbers above 0"


def _grouped(
    images: Mapping[Any, Photograph],
    annotations: Iterable[Any],
    categories: Mapping[Any, Category],
    boxes: Boxes,
) -> tuple[list[Photograph], list[Photograph]]:
    """Photographs with their annotations, and those that annotations name and the file lacks."""
    groups: dict[Any, list[Annotation]] = {image_id: [] for image_id in images}
    unknown: dict[str, list[Annotation]] = {}
    for entry in annotations:
        fields = entry if isinstance(entry, dict) else {}
        image_id = fields.get("image_id")
        size_px = None
        if _is_id(image_id) and image_id in groups:
            group, size_px = groups[image_id], _size_px(images[image_id])
        else:
            group = unknown.setdefault(_shown(image_id), [])
        group.append(_annotation(len(group), entry, fields, categories, boxes, size_px))
    known = [replace(one, annotations=tuple(groups[image_id])) for image_id, one in images.items()]
    return known, list(_unknown_photographs(unknown, {photograph.file_name for photograph in known}))


def _unknown_photographs(unknown: Mapping[str, list[Annotation]], taken: set[str]) -> Iterable[Photograph]:
    for shown, group in unknown.items():
        name = f"unknown-image-{shown}"
        while name in taken:
            name += "-"
        problem = f"the annotation's image_id {shown} is not among the file's images"
        yield Photograph(name, name, None, None, None, tuple(group), problem)


def _annotation(
    index: int,
    entry: object,
    fields: Mapping[str, Any],
    categories: Mapping[Any, Category],
    boxes: Boxes,
    size_px: tuple[int, int] | None,
) -> Annotation:
    category_id = fields.get("category_id")
    category = categories.get(category_id) if _is_id(category_id) else None
    box, box_problem = _box(fields.get("bbox"), boxes, size_px)
    is_crowd = fields.get("iscrowd") in (1, True)
    if not isinstance(entry, dict):
        problem: str | None = f"the annotation is a JSON {_kind(entry)}, expected an object"
    elif category is None and (categories or category_id is not None):
        # Where a file has no categories, its boxes have none.
        problem = f"the annotation's category_id {_shown(category_id)} is not among the file's categories"
    else:
        problem = box_problem
    number, area, caption = (fields.get(name) for name in ("id", "area", "caption"))
    return Annotation(
        index=index,
        annotation_id=int(number)
        if _is_number(number) and abs(number) < 2**63 and number == int(number)
        else None,
        category=category,
        box_xywh_px=box,
        area_px=float(area) if _is_number(area) and math.isfinite(area) else None,
        segmentation=fields.get("segmentation"),
        is_crowd=is_crowd,
        caption=caption if _is_text(caption) else None,
        problem=problem,
    )


def _box(box: Any, form: Boxes, size_px: tuple[int, int] | None) -> tuple[Box | None, str | None]:
    """Left, top, width, height in pixels (None where there are not four finite numbers), and why they are no box."""
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
        return None, f"the annotation's bbox is {_shown(box)}, expected four numbers {form.told}"
    if not all(map(math.isfinite, box)):
        return None, f"the annotation's bbox {box} holds a number that is not finite"
    left, top, width, height = map(float, box)
    try:
        left, top, width, height = to_xywh_px((left, top, width, height), form, size_px)
    except ValueError as error:
        return None, str(error)
    flat = f"the annotation's box has no area: {width:g} x {height:g} px"
    return (left, top, width, height), flat if width <= 0 or height <= 0 else None


def _is_number(value: object) -> TypeGuard[int | float]:
    """Whether it is a number that a float can hold, NaN and infinity included."""
    if isinstance(value, bool):
        return False
    return isinstance(value, float) or (isinstance(value, int) and abs(value) < 2**63)


def _is_id(value: object) -> bool:
    return isinstance(value, int | float | str) and not isinstance(value, bool)


def _is_size(value: object) -> bool:
    return _is_number(value) and 0 < value < 2**31 and value == int(value)


def _is_text(value: object) -> bool:
    """Whether it is a text that UTF-8 can hold; JSON's escapes can spell half a surrogate pair."""
    return isinstance(value, str) and not any("\ud800" <= character <= "\udfff" for character in value)


def _shown(value: object) -> str:
    text = repr(value)
    text = text if len(text) <= 60 else f"{text[:57]}..."
    return text.encode("utf-8", "backslashreplace").decode()


def _kind(value: object) -> str:
    return _KINDS.get(type(value), "number")
