"""Pascal VOC data sets, and what labelling tools write in its form, read as annotated photographs.

    Annotations/1.xml    JPEGImages/1.jpg    ImageSets/Main/train.txt, val.txt, test.txt

An XML file may also lie beside its picture. Boxes are corners; the development kit's own count pixels from 1 and
include the last one (M. Everingham, J. Winn, The PASCAL VOC2012 Development Kit, 2012, section 8), so that 1 is taken
from the left and upper side. Where a file of the data set has a 0 there, its tool counts from 0 and nothing is taken.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

from deponij.pipeline.data.adapters.annotated import blank, each_once, files_below, without_lone_part
from deponij.pipeline.data.adapters.coco import Annotation, Category, CocoDataset, Photograph
from deponij.pipeline.data.adapters.instances import InstanceParams, InstanceSource
from deponij.pipeline.data.adapters.registry import register_source
from deponij.pipeline.data.endings import PICTURE_ENDINGS
from deponij.pipeline.data.inside import regular_file
from deponij.pipeline.data.parts import Treatment, given_part, places, refuse_unknown
from deponij.store.errors import DataError

_PICTURES = ("JPEGImages", "images")
_CORNERS = ("xmin", "ymin", "xmax", "ymax")


class VocParams(InstanceParams):
    """Where a Pascal VOC data set lies.

    Attributes:
        folder: holds `Annotations` and `JPEGImages`, or XML files beside their pictures.
    """

    folder: Path


@register_source("voc")
class VocSource(InstanceSource):
    """A Pascal VOC data set, opened."""

    Params = VocParams

    def __init__(self, params: VocParams) -> None:
        """Read every annotation file.

        Raises:
            DataError: there is no such folder, no annotation file in it, or nothing is annotated.
        """
        super().__init__(read_voc(params.folder, params.treat), params.folder, params)


def read_voc(folder: Path, treat: Mapping[str, Treatment]) -> CocoDataset:
    """Photographs by path, boxes in pixels.

    Raises:
        DataError: there is no such folder, or no annotation file in it.
    """
    if not folder.is_dir():
        raise DataError(
            f"Pascal VOC data set {folder} {'is no folder' if folder.exists() else 'does not exist'}"
        )
    root = folder.resolve()
    files = sorted(path for path in files_below(root) if path.suffix.lower() == ".xml")
    if not files:
        raise DataError(
            f"{folder} is no Pascal VOC data set: it holds no .xml file; expected Annotations/NAME.xml"
        )
    parts, above = _parts(root), {path: path.relative_to(root).parts[:-1] for path in files}
    refuse_unknown(treat, above.values())
    place_of = places(set(above.values()), treat)
    kept = [path for path in files if not place_of[above[path]].is_skipped]
    photographs = each_once(
        [_photograph(path, root, parts.get(path.stem) or place_of[above[path]].given) for path in kept],
        "a second annotation file describes the picture {}",
    )
    corners = [
        one.box_xywh_px for photograph in photographs for one in photograph.annotations if one.box_xywh_px
    ]
    first_px = int(bool(corners) and min(min(box[:2]) for box in corners) >= 1)
    photographs = [_with_edges(photograph, first_px) for photograph in photographs]
    names = {one.category.name: one.category for p in photographs for one in p.annotations if one.category}
    photographs = without_lone_part(photographs)
    categories = tuple(names[name] for name in sorted(names))
    return CocoDataset(folder, tuple(photographs), categories, len(files) - len(kept))


def _parts(root: Path) -> dict[str, str]:
    """The part of each name that `ImageSets/Main` lists; lists of single classes have a second column."""
    part_of: dict[str, str] = {}
    for path in sorted(root.glob("**/ImageSets/Main/*.txt")):
        part = given_part(path.stem)
        if part is None:
            continue
        for line in regular_file(path).read_text(encoding="utf-8", errors="replace").splitlines():
            name = line.strip()
            if name and part_of.setdefault(name, part) != part:
                raise DataError(f"{path} lists {name!r}, which is in {part_of[name]!r} too")
    return part_of


def _photograph(path: Path, root: Path, given: str | None) -> Photograph:
    inside = path.relative_to(root)
    bare = Photograph(inside.as_posix(), inside.as_posix(), None, None, given, ())
    try:
        document = _document(path)
    except DataError as error:
        return replace(bare, annotations=(blank(0, str(error)),), problem=str(error))
    picture = _picture(path, root, document.findtext("filename"))
    width, height = (_number(document.findtext(f"size/{name}")) for name in ("width", "height"))
    annotations = tuple(_annotation(k, one) for k, one in enumerate(document.findall("object")))
    if picture is None:
        said = f"{inside.as_posix()} names the picture {document.findtext('filename')!r}, which is not there"
        return replace(bare, annotations=annotations, problem=said)
    # Some tools write a size of 0 x 0 for one that they do not know.
    is_known = width is not None and height is not None and min(width, height) > 0
    size_px = (int(width or 0), int(height or 0)) if is_known else (None, None)
    name = picture.relative_to(root).as_posix()
    return Photograph(name, name, size_px[0], size_px[1], given, annotations)


def _document(path: Path) -> ElementTree.Element:
    try:
        data = regular_file(path).read_bytes()
        if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
            raise DataError(f"{path.name} declares entities, which annotations do not need; refused")
        document = ElementTree.fromstring(data)
    except (OSError, ValueError, ElementTree.ParseError) as error:
        raise DataError(f"{path.name} cannot be read as XML: {error}") from error
    if document.tag != "annotation":
        raise DataError(f"{path.name} is an XML file with <{document.tag}> where Pascal VOC has <annotation>")
    return document


def _picture(path: Path, root: Path, file_name: str | None) -> Path | None:
    """The picture of an annotation file: of the name that it states, else of its own name."""
    stated = PurePosixPath((file_name or "").replace("\\", "/")).name
    inside = path.parent.relative_to(root).parts
    folders = [path.parent]
    for at, name in enumerate(inside):
        if name == "Annotations":
            folders += [root.joinpath(*inside[:at], one, *inside[at + 1 :]) for one in _PICTURES]
    if "Annotations" not in inside:
        folders += [path.parent.parent / one for one in _PICTURES]
    for folder in folders:
        if stated and PurePosixPath(stated).suffix and (folder / stated).is_file():
            return folder / stated
        for ending in sorted(PICTURE_ENDINGS):
            for name in (f"{path.stem}{ending}", f"{path.stem}{ending.upper()}"):
                if (folder / name).is_file():
                    return folder / name
    return None


def _annotation(index: int, entry: ElementTree.Element) -> Annotation:
    name = (entry.findtext("name") or "").strip()
    if not name:
        return blank(index, "the object has no name")
    known = replace(blank(index), category=Category(name, None))
    corners = [_number(entry.findtext(f"bndbox/{corner}")) for corner in _CORNERS]
    if None in corners:
        got = [entry.findtext(f"bndbox/{corner}") for corner in _CORNERS]
        return replace(
            known, problem=f"the object's bndbox is {got}, expected the numbers {', '.join(_CORNERS)}"
        )
    left, top, right, bottom = (float(one or 0) for one in corners)
    return replace(known, box_xywh_px=(left, top, right - left, bottom - top))


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _with_edges(photograph: Photograph, first_px: int) -> Photograph:
    """Corners as edges that count from 0, if the first pixel is called `first_px`; boxes without area told."""
    placed = []
    for one in photograph.annotations:
        if one.box_xywh_px is not None:
            left, top, width, height = one.box_xywh_px
            box = (left - first_px, top - first_px, width + first_px, height + first_px)
            flat = f"the object's box has no area: {box[2]:g} x {box[3]:g} px"
            placed.append(replace(one, box_xywh_px=box, problem=flat if min(box[2:]) <= 0 else one.problem))
        else:
            placed.append(one)
    return replace(photograph, annotations=tuple(placed))
