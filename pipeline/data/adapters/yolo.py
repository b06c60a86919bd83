"""YOLO data sets for detection and segmentation, read as annotated photographs.

    data.yaml             names: [cat, dog]; train: images/train; val: images/val
    images/train/1.jpg    labels/train/1.txt, one line an instance

A line is `CLASS CX CY W H`, with a sixth number for a confidence, or `CLASS X1 Y1 X2 Y2 X3 Y3 ...` for an
outline; all but the class are shares of the upright picture's sides. Without a data.yaml the names stand in
`classes.txt` or `obj.names`, one a line. Where no folder `images` stands in a picture's path, its labels lie
beside it.

Format: https://docs.ultralytics.com/datasets/detect/ and https://docs.ultralytics.com/datasets/segment/
"""

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from deponij.pipeline.data.adapters.annotated import blank, files_below
from deponij.pipeline.data.adapters.coco import Annotation, Category, CocoDataset, Photograph
from deponij.pipeline.data.adapters.instances import InstanceParams, InstanceSource
from deponij.pipeline.data.adapters.registry import register_source
from deponij.pipeline.data.endings import PICTURE_ENDINGS
from deponij.pipeline.data.inside import regular_file
from deponij.pipeline.data.parts import Treatment, given_part, places, refuse_unknown
from deponij.store.errors import DataError, UsageError

_DESCRIPTIONS = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
_NAME_LISTS = ("classes.txt", "obj.names", "classes.names", "data/obj.names")
_PART_KEYS = ("train", "val", "valid", "test")
# Boxes are often written a rounding error past the frame; further out they are no shares of it.
_SLACK = 0.01


class YoloParams(InstanceParams):
    """Where a YOLO data set lies. `treat` is not for one with a data.yaml, which itself names the parts.

    Attributes:
        data: its data.yaml, or the folder that holds it.
    """

    data: Path


@register_source("yolo")
class YoloSource(InstanceSource):
    """A YOLO data set, opened."""

    Params = YoloParams

    def __init__(self, params: YoloParams) -> None:
        """Read the names, the lists and every label file.

        Raises:
            DataError: there is no such data set, it has no names, or nothing is annotated.
            UsageError: `treat` beside a data.yaml, or of folders that are not there.
        """
        dataset = read_yolo(params.data, params.treat)
        folder = params.data if params.data.is_dir() else params.data.parent
        super().__init__(dataset, folder, params)


def read_yolo(data: Path, treat: Mapping[str, Treatment]) -> CocoDataset:
    """Photographs by path, boxes in shares of their sides.

    Raises:
        DataError: there is no such data set, its description is damaged or has no names, or it names folders
            that are not there.
        UsageError: `treat` beside a description, or of folders that are not there.
    """
    folder = data if data.is_dir() else data.parent
    if not data.exists():
        raise DataError(f"YOLO data set {data} does not exist")
    root = folder.resolve()
    path = data if data.is_file() else next((f for n in _DESCRIPTIONS if (f := data / n).is_file()), None)
    described: Mapping[str, Any] = {}
    if path is None:
        names = _listed_names(folder)
        pictures, n_skipped = _found_pictures(root, treat)
    elif treat:
        raise UsageError(
            f"{path} itself says which pictures are train, val and test (treat); change it there"
        )
    else:
        described = _described(path)
        names, pictures, n_skipped = _names(described, path), _pictures(described, path, root), 0
    if not pictures:
        raise DataError(f"YOLO data set {data}: no pictures in the folders that it names")
    has_keypoints = "kpt_shape" in described
    taken: set[Path] = set()
    photographs = []
    for name, part in pictures.items():
        labels = _labels_of(root, name)
        taken.add(labels)
        lines = _lines(labels, root, names, has_keypoints=has_keypoints) if labels.is_file() else ()
        photographs.append(Photograph(name, name, None, None, part, tuple(lines), is_in_shares=True))
    photographs += _without_pictures(root, taken, names)
    categories = tuple(Category(name, None) for name in names.values())
    return CocoDataset(path or folder, tuple(photographs), categories, n_skipped)


def _described(path: Path) -> Mapping[str, Any]:
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise DataError(f"{path} cannot be read as YAML: {error}") from error
    if not isinstance(document, dict) or "names" not in document:
        raise DataError(f"{path} is no description of a YOLO data set: it has no `names`")
    return document


def _names(described: Mapping[str, Any], path: Path) -> dict[int, str]:
    names = described["names"]
    pairs = names.items() if isinstance(names, dict) else enumerate(names) if isinstance(names, list) else ()
    try:
        name_of = {int(number): str(name) for number, name in pairs}
    except (TypeError, ValueError) as error:
        raise DataError(f"{path}: `names` has a key that is no number: {error}") from error
    if not name_of or len(set(name_of.values())) < len(name_of):
        raise DataError(f"{path}: `names` is {names!r}; expected one name for each class, none twice")
    return dict(sorted(name_of.items()))


def _listed_names(folder: Path) -> dict[int, str]:
    path = next((f for name in _NAME_LISTS if (f := folder / name).is_file()), None)
    if path is None:
        raise DataError(
            f"{folder} is no YOLO data set: there is neither {_DESCRIPTIONS[0]} nor {' nor '.join(_NAME_LISTS[:2])}"
        )
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    names = dict(enumerate(line for line in lines if line))
    if not names or len(set(names.values())) < len(names):
        raise DataError(f"{path} has no names, or one twice; expected one a line")
    return names


def _pictures(described: Mapping[str, Any], path: Path, root: Path) -> dict[str, str | None]:
    """Every picture's path below the root with its part, as the description's lists say."""
    base = root / str(described.get("path") or "")
    if not base.is_dir():
        # Exports keep the path of the machine that they were made on.
        base = root
    part_of: dict[str, str | None] = {}
    for key in _PART_KEYS:
        listed = described.get(key)
        for entry in listed if isinstance(listed, list) else [listed] if listed else []:
            for picture in _entry(str(entry), base, root, path, key):
                name = _below(picture, root, path)
                if part_of.setdefault(name, given_part(key)) != given_part(key):
                    raise DataError(
                        f"{path}: picture {name!r} is in {part_of[name]!r} and in {key!r}; a picture that is learned from "
                        "tests nothing"
                    )
    # One part alone is no split.
    return part_of if len(set(part_of.values())) > 1 else dict.fromkeys(part_of)


def _entry(entry: str, base: Path, root: Path, path: Path, key: str) -> Iterator[Path]:
    """The pictures of one folder or list of a description."""
    # Some exports write `../train/images` for a folder beside their description.
    tried = [base / entry, root / entry, root / entry.removeprefix("../")]
    place = next((one for one in tried if one.exists()), None)
    if place is None:
        if key == "test":
            # Descriptions name a test part that is published without its pictures.
            return
        raise DataError(f"{path}: {key} names {entry!r}, which is not there (looked at {tried[0]})")
    if place.is_dir():
        yield from _walked(place)
        return
    for line in regular_file(place).read_text(encoding="utf-8-sig", errors="surrogateescape").splitlines():
        if line.strip():
            yield (place.parent if line.startswith("./") else base) / line.strip()


def _found_pictures(root: Path, treat: Mapping[str, Treatment]) -> tuple[dict[str, str | None], int]:
    """Every picture below the root, its part after a folder of its path; and how many more are left out."""
    folder_of = {(path := one.relative_to(root)).as_posix(): path.parts[:-1] for one in _walked(root)}
    refuse_unknown(treat, folder_of.values())
    place_of = places(set(folder_of.values()), treat)
    kept = {
        name: place_of[above].given for name, above in folder_of.items() if not place_of[above].is_skipped
    }
    return kept, len(folder_of) - len(kept)


def _walked(folder: Path) -> Iterator[Path]:
    return (path for path in files_below(folder) if path.suffix.lower() in PICTURE_ENDINGS)


def _below(picture: Path, root: Path, path: Path) -> str:
    whole = Path(os.path.abspath(picture))  # noqa: PTH100 - links stay as they are named
    if not whole.is_relative_to(root):
        raise DataError(f"{path} names {str(picture)!r}, outside the data set's folder {root}")
    return whole.relative_to(root).as_posix()


def _labels_of(root: Path, name: str) -> Path:
    """The label file of a picture: under `labels` where the picture lies under `images`, else beside it."""
    parts = list(PurePosixPath(name).with_suffix(".txt").parts)
    for place in range(len(parts) - 2, -1, -1):
        if parts[place] == "images":
            parts[place] = "labels"
            break
    return root.joinpath(*parts)


def _lines(
    labels: Path, root: Path, names: Mapping[int, str], *, has_keypoints: bool = False
) -> Iterator[Annotation]:
    shown = labels.relative_to(root).as_posix()
    try:
        text = regular_file(labels).read_text(encoding="utf-8-sig")
    except (OSError, ValueError, DataError) as error:
        yield blank(0, f"labels {shown} cannot be read: {error}")
        return
    lines = [(number, line.split()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    for index, (number, words) in enumerate(lines):
        annotation = _annotation(index, words[:5] if has_keypoints else words, names)
        yield replace(
            annotation, problem=annotation.problem and f"{shown}, line {number}: {annotation.problem}"
        )


def _annotation(index: int, words: Sequence[str], names: Mapping[int, str]) -> Annotation:
    known = blank(index)
    try:
        number, *shares = map(float, words)
    except ValueError:
        return replace(known, problem=f"got {' '.join(words)[:60]!r}, expected numbers")
    name = names.get(int(number)) if math.isfinite(number) and number == int(number) else None
    is_outline = len(shares) >= 6 and len(shares) % 2 == 0
    if name is None:
        return replace(known, problem=f"class {words[0]} is not among the {len(names)} names")
    known = replace(known, category=Category(name, None))
    if len(shares) not in (4, 5) and not is_outline:
        return replace(
            known,
            problem=f"got {len(words)} numbers, expected CLASS CX CY W H, or CLASS and three or more points X Y",
        )
    shares = shares if is_outline else shares[:4]
    if not all(math.isfinite(share) and -_SLACK <= share <= 1 + _SLACK for share in shares):
        said = f"got {' '.join(words)[:60]!r}; coordinates are shares of the picture's sides, from 0 to 1"
        return replace(known, problem=said)
    if is_outline:
        xs, ys = shares[::2], shares[1::2]
        box = (min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys))
    else:
        x, y, w, h = shares
        box = (x - w / 2, y - h / 2, w, h)
    flat = f"the box has no area: {box[2]:g} x {box[3]:g} of the picture's sides"
    return replace(
        known,
        box_xywh_px=box,
        segmentation=[shares] if is_outline else None,
        problem=flat if box[2] <= 0 or box[3] <= 0 else None,
    )


def _without_pictures(root: Path, taken: set[Path], names: Mapping[int, str]) -> list[Photograph]:
    """Label files whose pictures are not there, in the folders where the others lie."""
    photographs = []
    # Those of pictures that are there and that no list names are no part of the data set.
    known = taken | {_labels_of(root, path.relative_to(root).as_posix()) for path in _walked(root)}
    for folder in sorted({path.parent for path in taken}):
        for path in sorted(folder.glob("*.txt")) if folder.is_dir() else ():
            if path in known or path.name in _NAME_LISTS or given_part(path.stem) is not None:
                continue
            name = path.relative_to(root).as_posix()
            lines = tuple(_lines(path, root, names))
            photographs.append(
                Photograph(name, name, None, None, None, lines, f"there is no picture for the labels {name}")
            )
    return photographs
