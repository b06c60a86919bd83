"""Files of label maps to class numbers, by a table of classes (`class_tables`).

A file holds ids (grey of 8 or 16 bits, a palette's indices) or colours (RGB, or a palette's where the table knows colours
only). Nothing is guessed: a value that the table does not name is an error that says which and how often.
"""

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from deponij.pipeline.data.scenes.class_tables import MAX_ID, ClassTable
from deponij.pipeline.pictures import MAX_PIXELS
from deponij.store.errors import DataError, blame_nothing
from deponij.store.label_maps import VOID, Colour, Labels

# Lossless, all of them: JPEG would change ids and colours.
LABEL_ENDINGS = (".png", ".bmp", ".tif", ".tiff", ".gif")
_FORMATS = ("PNG", "BMP", "TIFF", "GIF")
_GREY = ("1", "L", "P", "I;16", "I;16B", "I;16L", "I;16N", "I")
_COLOURED = ("RGB", "RGBA", "P", "L")
_DAMAGED = (OSError, ValueError, SyntaxError, EOFError, IndexError, KeyError, TypeError, MemoryError)
_SHOWN = 6
_NOT_NAMED = MAX_ID + 1
Packed = npt.NDArray[np.uint32]


def read_labels(data: bytes, table: ClassTable, where: str) -> Labels:
    """Class numbers [h, w] of a file; `VOID` where nothing is said.

    Args:
        data: encoded bytes.
        where: the file, for messages.

    Raises:
        DataError: damaged, of another kind, or with ids or colours that the table does not name.
    """
    with _opened(data, where) as image:
        if not table.ids and table.colours and image.mode in _COLOURED:
            return _by_colours(_packed(image.convert("RGB")), table.colours, where)
        if image.mode in _GREY:
            return _by_ids(np.asarray(image), table.ids, where)
        if image.mode in _COLOURED and table.colours:
            return _by_colours(_packed(image.convert("RGB")), table.colours, where)
        raise DataError(_without_palette(image, where))


def check_kind(data: bytes, table: ClassTable, where: str) -> None:
    """Refuse a data set by one of its label maps, before all are read: colours where the table has none.

    Raises:
        DataError: as said; the message names the colours. What is damaged is let through.
    """
    try:
        with _opened(data, where) as image:
            if image.mode not in _GREY and not table.colours:
                said = _without_palette(image, where)
            else:
                return
    except DataError:
        return
    raise DataError(said)


@contextmanager
def _opened(data: bytes, where: str) -> Iterator[Image.Image]:
    """A file's pixels, loaded."""
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise DataError(
                    f"label map {where} has {image.width} x {image.height} px, more than are read"
                )
            image.load()
            yield image
    except UnidentifiedImageError as error:
        lossy = data[:2] == b"\xff\xd8"
        what = "a JPEG picture, whose values are no longer those that were drawn" if lossy else "no picture"
        raise DataError(f"label map {where} is {what}; label maps are PNG, BMP, TIFF or GIF files") from error
    except Image.DecompressionBombError as error:
        raise DataError(f"label map {where} is too large: {error}") from error
    except _DAMAGED as error:
        blame_nothing(error, f"label map {where} cannot be read")
        raise DataError(f"label map {where} cannot be read: {error}") from error


def _by_ids(values: npt.NDArray[Any], ids: Mapping[int, int | None], where: str) -> Labels:
    numbers = np.full(_NOT_NAMED + 1, -1, np.int16)
    for value, number in ids.items():
        numbers[value] = VOID if number is None else number
    if values.dtype == bool:
        values = values.astype(np.uint8)
    elif values.dtype.itemsize > 2:
        values = np.where((values < 0) | (values > MAX_ID), _NOT_NAMED, values)
    codes = numbers[values]
    if (codes < 0).any():
        unnamed, counts = np.unique(values[codes < 0], return_counts=True)
        raise DataError(
            f"label map {where} holds ids that the table of classes does not name: "
            f"{_counted(dict(zip(unnamed.tolist(), counts.tolist(), strict=True)))}; it names {_ranges(list(ids))}. Name "
            "them, or say that they are void (`void: [ID]`, --void ID)"
        )
    labels: Labels = codes.astype(np.uint8)
    return labels


def _by_colours(packed: Packed, colours: Mapping[Colour, int | None], where: str) -> Labels:
    known = np.array([_pack(colour) for colour in colours], np.uint32)
    numbers = np.array([VOID if number is None else number for number in colours.values()], np.uint8)
    order = np.argsort(known)
    at = np.clip(np.searchsorted(known[order], packed), 0, len(known) - 1)
    is_known = known[order][at] == packed
    if not is_known.all():
        unnamed, counts = np.unique(packed[~is_known], return_counts=True)
        shown = {
            _unpacked(value): count for value, count in zip(unnamed.tolist(), counts.tolist(), strict=True)
        }
        raise DataError(
            f"label map {where} holds colours that the table of classes does not name: {_counted(shown)}. Name them, or say "
            "that they are void (`void_colours: [[R, G, B]]`)"
        )
    return numbers[order][at]


def _without_palette(image: Image.Image, where: str) -> str:
    if image.mode not in _COLOURED:
        return f"label map {where} is a picture of mode {image.mode}; label maps hold ids (grey, palette) or RGB colours"
    values, counts = np.unique(_packed(image.convert("RGB")), return_counts=True)
    shown = {_unpacked(value): count for value, count in zip(values.tolist(), counts.tolist(), strict=True)}
    return (
        f"label map {where} holds RGB colours, and the table of classes names none: {_counted(shown)}. Give a table with "
        "colours: `classes: FILE` (--classes FILE) with lines name,r,g,b"
    )


def _packed(image: Image.Image) -> Packed:
    """[h, w] red * 65536 + green * 256 + blue."""
    pixels = np.asarray(image)
    packed = np.zeros(pixels.shape[:2], np.uint32)
    for channel in range(3):
        packed <<= 8
        packed |= pixels[..., channel]
    return packed


def _pack(colour: Colour) -> int:
    return colour[0] << 16 | colour[1] << 8 | colour[2]


def _unpacked(value: int) -> Colour:
    return value >> 16, value >> 8 & 255, value & 255


def _counted(counts: Mapping[Any, int]) -> str:
    most = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    more = f" and {len(most) - _SHOWN} more" if len(most) > _SHOWN else ""
    return ", ".join(f"{value} ({count:,} px)" for value, count in most[:_SHOWN]) + more


def _ranges(ids: list[int]) -> str:
    """`0 to 11, 255`."""
    ordered, said = sorted(ids), []
    while ordered:
        end = next((k for k in range(1, len(ordered)) if ordered[k] != ordered[0] + k), len(ordered))
        said.append(f"{ordered[0]} to {ordered[end - 1]}" if end > 1 else str(ordered[0]))
        ordered = ordered[end:]
    return ", ".join(said) or "no ids"
