"""Which values of label maps mean which class: tables that are built in, files, and what a profile spells out.

A file has a line a value, with a heading that names its columns (CSV or separated by tabs):

    name                 of the value
    id (Idx)             a number of 8 or 16 bits
    r,g,b  or  colour    `64 128 64` or `#408040`
    class                the class that the value counts to, where several make one; empty: void

Without a heading: lines `R G B NAME`, as CamVid's own label_colors.txt has them. Of what is called void, unlabelled or
ignored nothing is learned. Reading label maps by a table: `label_files`.
"""

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from deponij.pipeline.record_lists import Record
from deponij.pipeline.registry import unknown
from deponij.store.errors import DataError
from deponij.store.label_maps import Colour, SceneClass, check_classes

MAX_ID = 65535
_VOID_NAMES = frozenset(("void", "unlabelled", "unlabeled", "ignore", "ignored", "out of roi"))
_LINE = re.compile(r"(\d{1,3})[\s,;]+(\d{1,3})[\s,;]+(\d{1,3})[\s,;]+(\S.*)")
_ALSO = {"idx": "id", "index": "id", "color": "colour", "red": "r", "green": "g", "blue": "b"}
# Of files whose names are lists of synonyms (ADE20K's), the first.
_SYNONYMS = re.compile(r"\s*[,;]\s*")

Byte = Annotated[int, Field(ge=0, le=255)]
Id = Annotated[int, Field(ge=0, le=MAX_ID)]


class ClassEntry(Record):
    """One class, as a profile spells it out.

    Attributes:
        name: of the class.
        ids: numbers that label maps have for it.
        colours: colours that they have for it.
        colour: to show it in; by default the first of `colours`, else one of its number.
    """

    name: str
    ids: tuple[Id, ...] = ()
    colours: tuple[tuple[Byte, Byte, Byte], ...] = ()
    colour: tuple[Byte, Byte, Byte] | None = None


@dataclass(frozen=True, slots=True)
class ClassTable:
    """What values mean.

    Attributes:
        classes: in the order of their numbers.
        ids: id -> class number; None is void.
        colours: colour -> class number; None is void.
    """

    classes: tuple[SceneClass, ...]
    ids: Mapping[int, int | None]
    colours: Mapping[Colour, int | None]


def colour_of(number: int) -> Colour:
    """A colour for a class by its number: the colour map of the Pascal VOC development kit (2012, `VOClabelcolormap`)."""
    red = green = blue = 0
    for bit in range(8):
        red |= (number >> 3 * bit & 1) << 7 - bit
        green |= (number >> 3 * bit + 1 & 1) << 7 - bit
        blue |= (number >> 3 * bit + 2 & 1) << 7 - bit
    return red, green, blue


def class_table(
    said: str | Path | Sequence[ClassEntry], void_ids: Sequence[int] = (), void_colours: Sequence[Colour] = ()
) -> ClassTable:
    """The table that is meant.

    Args:
        said: a built-in name, a file, or the classes themselves.
        void_ids, void_colours: values of which nothing is learned, besides those that the table itself calls void.

    Raises:
        DataError: no such file, lines that cannot be read, no class or too many, a name or value that occurs twice.
        UsageError: neither a file nor a built-in name.
    """
    if isinstance(said, str | Path):
        entries, nothing = _named(said)
    else:
        entries, nothing = list(said), ClassEntry(name="void")
    classes = tuple(
        SceneClass(one.name, one.colour or (one.colours[0] if one.colours else colour_of(number)))
        for number, one in enumerate(entries)
    )
    check_classes(classes)
    ids: dict[int, int | None] = {}
    colours: dict[Colour, int | None] = {}
    for number, one in enumerate(entries):
        _enter(ids, one.ids, number, classes, "id")
        _enter(colours, one.colours, number, classes, "colour")
    if not ids and not colours:
        # Classes in the order of their numbers, nothing else said.
        ids = {number: number for number in range(len(classes))}
    for value in (*nothing.ids, *void_ids):
        _enter(ids, [value], None, classes, "id")
    for colour in (*nothing.colours, *void_colours):
        _enter(colours, [colour], None, classes, "colour")
    return ClassTable(classes, ids, colours)


def _enter(
    number_of: dict[Any, int | None],
    values: Sequence[Any],
    number: int | None,
    classes: Sequence[SceneClass],
    what: str,
) -> None:
    for value in values:
        if number_of.setdefault(value, number) != number:
            said = [
                ("void" if one is None else repr(classes[one].name)) for one in (number_of[value], number)
            ]
            raise DataError(f"the {what} {value} means both {said[0]} and {said[1]}; a value means one class")


def _named(said: str | Path) -> tuple[list[ClassEntry], ClassEntry]:
    if str(said) in BUILT_IN:
        return BUILT_IN[str(said)]
    if not Path(said).suffix and not Path(said).is_file():
        raise unknown("table of classes", str(said), [*BUILT_IN, "a file such as classes.csv"])
    return _read(Path(said))


def _read(path: Path) -> tuple[list[ClassEntry], ClassEntry]:
    """The classes of a file, and what it calls void."""
    try:
        lines = [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"table of classes {path} cannot be read: {error}") from error
    rows = _coloured(lines, path) if lines and _LINE.fullmatch(lines[0].strip()) else _headed(lines, path)
    entries: dict[str, ClassEntry] = {}
    nothing = ClassEntry(name="void")
    for name, entry in _with_names(rows, path):
        if not name or name.casefold() in _VOID_NAMES:
            nothing = nothing.model_copy(
                update={"ids": nothing.ids + entry.ids, "colours": nothing.colours + entry.colours}
            )
        elif name in entries and entry.name == name and "class" not in rows[0]:
            raise DataError(f"table of classes {path}: {name!r} occurs twice")
        else:
            first = entries.setdefault(
                name, entry.model_copy(update={"name": name, "ids": (), "colours": ()})
            )
            entries[name] = first.model_copy(
                update={"ids": first.ids + entry.ids, "colours": first.colours + entry.colours}
            )
    if not entries:
        raise DataError(f"table of classes {path} names no class; expected lines such as name,r,g,b")
    return list(entries.values()), nothing


def _coloured(lines: Sequence[str], path: Path) -> list[dict[str, str]]:
    rows = []
    for number, line in enumerate(lines, 1):
        match = _LINE.fullmatch(line.strip())
        if match is None:
            raise DataError(f"table of classes {path}, line {number}: got {line!r}, expected 'R G B NAME'")
        rows.append(dict(zip(("r", "g", "b", "name"), match.groups(), strict=True)))
    return rows


def _headed(lines: Sequence[str], path: Path) -> list[dict[str, str]]:
    separator = "\t" if lines and "\t" in lines[0] else ";" if lines and ";" in lines[0] else ","
    fields = [[field.strip() for field in row] for row in csv.reader(lines, delimiter=separator)]
    heading = [_ALSO.get(name.lower(), name.lower()) for name in fields[0]] if fields else []
    if "name" not in heading:
        raise DataError(
            f"table of classes {path} has no column 'name'; expected a heading such as name,id or name,r,g,b, or lines "
            f"'R G B NAME'; got {lines[0] if lines else 'an empty file'!r}"
        )
    for number, row in enumerate(fields[1:], 2):
        if len(row) != len(heading):
            raise DataError(
                f"table of classes {path}, line {number}: {len(row)} fields, the heading has {len(heading)}"
            )
    return [dict(zip(heading, row, strict=True)) for row in fields[1:]]


def _with_names(rows: Sequence[Mapping[str, str]], path: Path) -> list[tuple[str, ClassEntry]]:
    """Of each row the class that it counts to, and the row as an entry."""
    firsts = [_SYNONYMS.split(row["name"])[0] for row in rows]
    is_short = len(set(firsts)) == len(firsts)
    entries = []
    for number, (row, first) in enumerate(zip(rows, firsts, strict=True), 1):
        name = first if is_short else row["name"]
        try:
            colour = _colour(row)
            ids = (int(row["id"]),) if row.get("id") else ()
            entry = ClassEntry(name=name, ids=ids, colours=() if colour is None else (colour,))
        except ValueError as error:
            raise DataError(
                f"table of classes {path}, row {number}: {dict(row)}; ids are numbers of 0 to {MAX_ID}, colours three "
                "numbers of 0 to 255 or #rrggbb"
            ) from error
        entries.append((row.get("class", name), entry))
    return entries


def _colour(row: Mapping[str, str]) -> Colour | None:
    texts = [row.get(channel, "") for channel in "rgb"]
    if not any(texts) and (said := row.get("colour", "")):
        if re.fullmatch("#[0-9a-fA-F]{6}", said):
            texts = [str(int(said[at : at + 2], 16)) for at in (1, 3, 5)]
        else:
            texts = re.split(r"[\s,]+", said.strip("()[] "))
    if not any(texts):
        return None
    red, green, blue = (int(text) for text in texts)
    return red, green, blue


def _entries(*rows: tuple[str, Colour, int]) -> list[ClassEntry]:
    return [ClassEntry(name=name, ids=(number,), colours=(colour,)) for name, colour, number in rows]


# SegNet's eleven classes of CamVid with the colours of its tutorial (V. Badrinarayanan, A. Kendall, R. Cipolla, 2017).
_CAMVID = _entries(
    ("Sky", (128, 128, 128), 0),
    ("Building", (128, 0, 0), 1),
    ("Pole", (192, 192, 128), 2),
    ("Road", (128, 64, 128), 3),
    ("Pavement", (60, 40, 222), 4),
    ("Tree", (128, 128, 0), 5),
    ("SignSymbol", (192, 128, 128), 6),
    ("Fence", (64, 64, 128), 7),
    ("Car", (64, 0, 128), 8),
    ("Pedestrian", (64, 64, 0), 9),
    ("Bicyclist", (0, 128, 192), 10),
)
# Pascal VOC 2012: ids are indices of its palette; 255 surrounds objects.
_VOC_NAMES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train"),
    "tvmonitor",
)
# Cityscapes' ids and the nineteen that are evaluated (M. Cordts et al., CVPR 2016; labels.py of cityscapesScripts).
_CITYSCAPES = _entries(
    ("road", (128, 64, 128), 7),
    ("sidewalk", (244, 35, 232), 8),
    ("building", (70, 70, 70), 11),
    ("wall", (102, 102, 156), 12),
    ("fence", (190, 153, 153), 13),
    ("pole", (153, 153, 153), 17),
    ("traffic light", (250, 170, 30), 19),
    ("traffic sign", (220, 220, 0), 20),
    ("vegetation", (107, 142, 35), 21),
    ("terrain", (152, 251, 152), 22),
    ("sky", (70, 130, 180), 23),
    ("person", (220, 20, 60), 24),
    ("rider", (255, 0, 0), 25),
    ("car", (0, 0, 142), 26),
    ("truck", (0, 0, 70), 27),
    ("bus", (0, 60, 100), 28),
    ("train", (0, 80, 100), 31),
    ("motorcycle", (0, 0, 230), 32),
    ("bicycle", (119, 11, 32), 33),
)
_CITYSCAPES_VOID = (*range(7), 9, 10, 14, 15, 16, 18, 29, 30, 255)
BUILT_IN: dict[str, tuple[list[ClassEntry], ClassEntry]] = {
    "camvid": (_CAMVID, ClassEntry(name="void", ids=(11,), colours=((0, 0, 0),))),
    "voc": (
        _entries(*((name, colour_of(number), number) for number, name in enumerate(_VOC_NAMES))),
        ClassEntry(name="void", ids=(255,), colours=((224, 224, 192),)),
    ),
    "cityscapes": (_CITYSCAPES, ClassEntry(name="void", ids=_CITYSCAPES_VOID)),
    "cityscapes-train-ids": (
        [one.model_copy(update={"ids": (number,)}) for number, one in enumerate(_CITYSCAPES)],
        ClassEntry(name="void", ids=(255,)),
    ),
}
