"""How folders of pictures and label maps are laid out: which file is the label map of which, and of which part.

    segnet       train/ trainannot/ val/ valannot/ test/ testannot/             (SegNet's copy of CamVid; also train_labels/)
    voc          JPEGImages/ SegmentationClass/ ImageSets/Segmentation/train.txt, val.txt
    cityscapes   leftImg8bit/PART/CITY/…_leftImg8bit.png gtFine/PART/CITY/…_gtFine_labelIds.png
    ade20k       images/training/ images/validation/ annotations/training/ annotations/validation/
    folders      images/ labels/ of any names, matched by path and stem

A layout is recognised by what lies there, in this order. Names only: nothing is opened here.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from deponij.pipeline.data.adapters.annotated import files_below
from deponij.pipeline.data.endings import has_picture_ending
from deponij.pipeline.data.inside import regular_file
from deponij.pipeline.data.parts import given_part
from deponij.pipeline.data.scenes.label_files import LABEL_ENDINGS
from deponij.store.errors import DataError

PICTURES = ("images", "image", "imgs", "img", "pictures", "JPEGImages")
LABELS = (
    "labels",
    "label",
    "masks",
    "mask",
    "annotations",
    "annotation",
    "annots",
    "annot",
    "gt",
    "labels_png",
)
# What the folder of a part's label maps is called behind the name of the folder of its pictures.
_BESIDE = ("annot", "_labels", "_masks", "_label", "_mask", "_gt")
# Tables that lie beside the data: of ADE20K, of copies of CamVid with all of its classes.
_TABLES = ("objectInfo150.txt", "class_dict.csv", "label_colors.txt", "classes.csv")
# A CamVid file: its sequence, and the frame's number.
_CAMVID = re.compile(r"(0001TP|0006R0|0016E5|Seq05VD)_f?\d+(_L)?")
_CITYSCAPES = re.compile(r"(.+_\d{6})_\d{6}")
_LISTS = "ImageSets/Segmentation"


@dataclass(frozen=True, slots=True)
class Pair:
    """A picture and its label map, as POSIX paths below the data set's folder; None for what is missing.

    Attributes:
        given: the part of the split that the layout says.
        group: what it belongs together with, where its name tells: a sequence.
        problem: why it is not to be read, or None.
    """

    picture: str | None
    label: str | None
    given: str | None = None
    group: str | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """What lies in a folder.

    Attributes:
        layout: its name.
        pairs: sorted.
        classes: the built-in table or file that goes with it; None where it is anybody's.
        void: ids of which the layout says that they are void.
    """

    layout: str
    pairs: tuple[Pair, ...]
    classes: str | None = None
    void: tuple[int, ...] = ()


def find_pairs(root: Path, layout: str | None, images: str | None, labels: str | None) -> Found:
    """The pictures of a folder with their label maps.

    Args:
        root: the folder, resolved.
        layout: its name; None: whichever is recognised.
        images, labels: of `folders`, the names of the two folders.

    Raises:
        DataError: it has no such layout, or none that is known, or there is no picture or label map.
    """
    if layout is None and (images or labels):
        layout = "folders"
    for name in LAYOUTS if layout is None else (layout,):
        laid_out = _folders(root, images, labels) if name == "folders" else LAYOUTS[name](root)
        if laid_out is not None:
            if not any(pair.label for pair in laid_out.pairs) or not any(
                pair.picture for pair in laid_out.pairs
            ):
                raise DataError(f"{root} is laid out as {name}, but no picture in it has a label map")
            return laid_out
    asked = "a known layout" if layout is None else f"the layout {layout}"
    expected = " or ".join(_EXPECTED[name] for name in (LAYOUTS if layout is None else [layout]))
    raise DataError(f"{root} has not {asked}; expected {expected}; in it lie {_listed(root)}")


def _segnet(root: Path) -> Found | None:
    folders = [path.name for path in sorted(root.iterdir()) if path.is_dir()]
    parts = [(name, name + behind) for name in folders for behind in _BESIDE if name + behind in folders]
    if not parts:
        return None
    pairs = [
        pair
        for name, beside in parts
        for pair in _matched(_pictures(root, name), _label_maps(root, beside), given_part(name))
    ]
    return Found("segnet", _sorted(pairs), _table(root) or _camvid_table(pairs))


def _voc(root: Path) -> Found | None:
    above = next((path for path in _above(root, "SegmentationClass") if (path / "JPEGImages").is_dir()), None)
    if above is None:
        return None
    here = above.relative_to(root).as_posix()
    labels = _named(_label_maps(root, f"{here}/SegmentationClass"), _stem)
    pictures = _named(_pictures(root, f"{here}/JPEGImages"), _stem)
    parts = _listed_parts(above / _LISTS)
    # Most pictures of VOC have no label map and are in no list: they are none of this data set.
    names = sorted({*parts, *labels}) if parts else sorted(labels)
    return Found(
        "voc",
        _sorted(
            Pair(pictures.get(name), labels.get(name), parts.get(name))
            for name in names
            if name in pictures or name in labels
        ),
        "voc",
    )


def _cityscapes(root: Path) -> Found | None:
    if not (root / "leftImg8bit").is_dir():
        return None
    truth = next((name for name in ("gtFine", "gtCoarse") if (root / name).is_dir()), None)
    if truth is None:
        return None
    every = _label_maps(root, truth)
    ending = next(
        (one for one in ("labelIds", "labelTrainIds") if any(path.endswith(f"_{one}.png") for path in every)),
        "",
    )
    labels = _named((path for path in every if path.endswith(f"_{ending}.png")), _frame)
    pictures = _named(_pictures(root, "leftImg8bit"), _frame)
    pairs = [
        Pair(
            pictures.get(name),
            labels.get(name),
            given_part(PurePosixPath(name).parts[0]) if len(PurePosixPath(name).parts) > 1 else None,
            match[1] if (match := _CITYSCAPES.fullmatch(PurePosixPath(name).name)) else None,
        )
        for name in sorted({*pictures, *labels})
    ]
    return Found(
        "cityscapes", _sorted(pairs), "cityscapes-train-ids" if ending == "labelTrainIds" else "cityscapes"
    )


def _ade20k(root: Path) -> Found | None:
    above = next(
        (path for path in _above(root, "annotations") if (path / "images").is_dir() and _is_ade20k(path)),
        None,
    )
    if above is None:
        return None
    here = above.relative_to(root).as_posix()
    pairs = [
        pair
        for name in ("training", "validation")
        for pair in _matched(
            _pictures(root, f"{here}/images/{name}"),
            _label_maps(root, f"{here}/annotations/{name}"),
            given_part(name),
        )
    ]
    return Found("ade20k", _sorted(pairs), _table(above) or _table(root), (0,))


def _is_ade20k(path: Path) -> bool:
    return (path / "annotations" / "training").is_dir() and (path / "images" / "training").is_dir()


def _folders(root: Path, images: str | None = None, labels: str | None = None) -> Found | None:
    picture_folder = images or next((name for name in PICTURES if (root / name).is_dir()), None)
    label_folder = labels or next((name for name in LABELS if (root / name).is_dir()), None)
    if picture_folder is None or label_folder is None:
        return None
    for name in (picture_folder, label_folder):
        if not (root / name).is_dir():
            raise DataError(f"there is no folder {root / name}; in {root} lie {_listed(root)}")
    if picture_folder == label_folder:
        raise DataError(f"pictures and label maps cannot lie in the same folder, {root / label_folder}")
    every = _label_maps(root, label_folder)
    # One folder may lie in the other.
    within = PurePosixPath(label_folder)
    pictures = [path for path in _pictures(root, picture_folder) if within not in PurePosixPath(path).parents]
    if PurePosixPath(label_folder) in PurePosixPath(picture_folder).parents:
        inside = PurePosixPath(picture_folder)
        every = [path for path in every if inside not in PurePosixPath(path).parents]
        pictures = _pictures(root, picture_folder)
    pairs = _matched_below(pictures, picture_folder, every, label_folder)
    return Found("folders", _sorted(pairs), _table(root) or _camvid_table(pairs))


# In the order in which they are tried.
LAYOUTS: Mapping[str, Callable[[Path], Found | None]] = {
    "segnet": _segnet,
    "voc": _voc,
    "cityscapes": _cityscapes,
    "ade20k": _ade20k,
    "folders": _folders,
}
_EXPECTED = {
    "segnet": "train/ and trainannot/",
    "voc": "JPEGImages/ and SegmentationClass/",
    "cityscapes": "leftImg8bit/ and gtFine/",
    "ade20k": "images/training/ and annotations/training/",
    "folders": "images/ and labels/ (name others: `images`, `labels`)",
}


def _pictures(root: Path, folder: str) -> list[str]:
    return [
        path.relative_to(root).as_posix()
        for path in files_below(root / folder)
        if has_picture_ending(path.name)
    ]


def _label_maps(root: Path, folder: str) -> list[str]:
    return [
        path.relative_to(root).as_posix()
        for path in files_below(root / folder)
        if path.suffix.lower() in LABEL_ENDINGS
    ]


def _stem(path: str) -> str:
    return PurePosixPath(path).stem


def _named(paths: Iterable[str], name_of: Callable[[str], str]) -> dict[str, str]:
    """Files by what they are matched by.

    Raises:
        DataError: two of them have the same name, so that it is open which belongs to which.
    """
    path_of: dict[str, str] = {}
    for path in paths:
        first = path_of.setdefault(name_of(path), path)
        if first != path:
            raise DataError(
                f"{first!r} and {path!r} have the same name, so that it is open which of them is meant; move one away"
            )
    return path_of


def _matched(pictures: Iterable[str], labels: Iterable[str], given: str | None) -> list[Pair]:
    """Files of two folders by their stems."""
    of_picture = _named(pictures, _stem)
    of_label = _without_ending(_named(labels, _stem), of_picture)
    return [
        Pair(of_picture.get(stem), of_label.get(stem), given, _sequence(stem))
        for stem in sorted({*of_picture, *of_label})
    ]


def _matched_below(
    pictures: Iterable[str], picture_folder: str, labels: Iterable[str], label_folder: str
) -> list[Pair]:
    """Files of two folders by what stands below these, without the file's ending; folders may be parts of a split."""

    def inner(path: str, folder: str) -> str:
        return PurePosixPath(path).relative_to(folder).with_suffix("").as_posix()

    of_picture = _named(pictures, lambda path: inner(path, picture_folder))
    of_label = _without_ending(_named(labels, lambda path: inner(path, label_folder)), of_picture)
    return [
        Pair(of_picture.get(name), of_label.get(name), _part_of(name), _sequence(PurePosixPath(name).name))
        for name in sorted({*of_picture, *of_label})
    ]


def _without_ending(labels: Mapping[str, str], pictures: Mapping[str, str]) -> dict[str, str]:
    """Label maps by their pictures' names, where all are called like them with the same words behind (`_L`, `_mask`)."""
    if not labels or any(name in pictures for name in labels):
        return dict(labels)
    first = min(labels)
    behind = next((first[len(name) :] for name in pictures if first.startswith(name)), "")
    if not behind or not all(name.endswith(behind) for name in labels):
        return dict(labels)
    return {name.removesuffix(behind): path for name, path in labels.items()}


def _part_of(name: str) -> str | None:
    return next((part for folder in PurePosixPath(name).parts[:-1] if (part := given_part(folder))), None)


def _sequence(stem: str) -> str | None:
    """Of CamVid's frames the sequence: neighbours in a film are near-duplicates."""
    match = _CAMVID.fullmatch(stem)
    return match[1] if match else None


def _camvid_table(pairs: Iterable[Pair]) -> str | None:
    """The table of CamVid, where files are called like its frames."""
    return "camvid" if all(pair.group for pair in pairs) else None


def _table(root: Path) -> str | None:
    """A table of classes that lies in the data set's folder."""
    return next((str(root / name) for name in _TABLES if (root / name).is_file()), None)


def _frame(path: str) -> str:
    """PART/CITY/CITY_SEQUENCE_FRAME of a file of Cityscapes."""
    inner = PurePosixPath(*PurePosixPath(path).parts[1:])
    name = re.sub(r"_(leftImg8bit|gtFine_\w+|gtCoarse_\w+)$", "", inner.stem)
    return inner.with_name(name).as_posix()


def _above(root: Path, name: str) -> list[Path]:
    """Where a folder of that name lies: here, or one or two folders further down, as archives have it."""
    return [
        path.parent
        for depth in ("", "*/", "*/*/")
        for path in sorted(root.glob(f"{depth}{name}"))
        if path.is_dir()
    ]


def _listed_parts(folder: Path) -> dict[str, str]:
    """The part of each name that a list holds; `trainval` says nothing that the others do not."""
    part_of: dict[str, str] = {}
    for path in sorted(folder.glob("*.txt")):
        part = given_part(path.stem)
        if part is None or path.stem == "trainval":
            continue
        for line in regular_file(path).read_text(encoding="utf-8", errors="replace").split():
            if part_of.setdefault(line, part) != part:
                raise DataError(f"{path} lists {line!r}, which is in {part_of[line]!r} too")
    return part_of


def _sorted(pairs: Iterable[Pair]) -> tuple[Pair, ...]:
    return tuple(sorted(pairs, key=lambda pair: pair.picture or pair.label or ""))


def _listed(root: Path) -> str:
    names = sorted(path.name for path in root.iterdir() if not path.name.startswith("."))
    return (", ".join(map(repr, names[:6])) + (", …" if len(names) > 6 else "")) or "no files"
