"""Colours for any number of classes, a legend below a picture, heat of one word.

How label maps are laid over pictures: `deponij.pipeline.reports.segmentation.pictures`.

Shape letters: h and w sides in px.
"""

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from deponij.store.texts import in_percent, one_line

Colour = tuple[int, int, int]
Pixels = NDArray[np.uint8]
_INK, _FAINT, _PAPER = (30, 32, 36), (120, 122, 126), (250, 250, 248)
_LEAST_PX = 360
_MARGIN, _LINE, _SWATCH, _FONT = 12, 24, 16, 14
_GOLDEN = 0.61803398875
# Of heat: nothing, and the highest.
HEAT_COLOURS: tuple[Colour, Colour] = ((70, 70, 70), (255, 255, 0))


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of a legend.

    Attributes:
        share: of the picture's pixels; None where it says nothing.
        number: that stands in the picture; None where none does.
    """

    name: str
    colour: Colour
    share: float | None = None
    number: int | None = None


def colours_of_words(n: int) -> list[Colour]:
    """Colours that tell classes apart: hues a golden angle from each other, in three degrees of lightness."""
    colours = []
    for i in range(n):
        saturation, value = ((0.85, 0.95), (0.6, 0.75), (0.95, 0.6))[i % 3]
        red, green, blue = colorsys.hsv_to_rgb((0.02 + i * _GOLDEN) % 1, saturation, value)
        colours.append((round(255 * red), round(255 * green), round(255 * blue)))
    return colours


def heat(
    picture: Pixels, scores: NDArray[np.float32], low: float, high: float, alpha: float = 0.65
) -> Pixels:
    """Scores [h, w] as heat over a grey picture, from `low` (nothing) to `high` (yellow), uint8 [h, w, 3]."""
    level = np.clip((scores - low) / max(high - low, 1e-12), 0, 1)[..., None].astype(np.float32)
    grey = (picture @ np.array([0.299, 0.587, 0.114], np.float32))[..., None]
    hot = np.concatenate(
        [255 * np.minimum(1, 2 * level), 255 * np.maximum(0, 2 * level - 1), 40 * (1 - level)], 2
    )
    pixels: Pixels = np.rint(grey * (1 - alpha * level) + hot * alpha * level).astype(np.uint8)
    return pixels


def with_legend(picture: Pixels, entries: Sequence[Entry], title: str = "") -> Pixels:
    """A picture with a legend below it: a swatch, the name and its share a line, in as many columns as fit.

    Pictures that are too narrow for words stand in the middle of a wider page.
    """
    height, width = picture.shape[:2]
    page_px = max(_LEAST_PX, width)
    font = ImageFont.load_default(_FONT)
    texts = [_told(one) for one in entries]
    widest = max((font.getlength(text) for text in texts), default=0.0)
    room = min(page_px - 2 * _MARGIN, int(widest) + _SWATCH + 2 * _MARGIN)
    n_columns = max(1, (page_px - _MARGIN) // (room + _MARGIN))
    n_rows = -(-len(entries) // n_columns)
    head = _LINE if title else 0
    page = Image.new("RGB", (page_px, height + 2 * _MARGIN + head + n_rows * _LINE), _PAPER)
    page.paste(Image.fromarray(picture), ((page_px - width) // 2, 0))
    draw = ImageDraw.Draw(page)
    if title:
        draw.text(
            (_MARGIN, height + _MARGIN), _cut(title, font, page_px - 2 * _MARGIN), fill=_FAINT, font=font
        )
    for number, (entry, text) in enumerate(zip(entries, texts, strict=True)):
        x = _MARGIN + number // n_rows * (room + _MARGIN)
        y = height + _MARGIN + head + number % n_rows * _LINE
        draw.rectangle((x, y, x + _SWATCH, y + _SWATCH), fill=entry.colour, outline=_FAINT)
        draw.text((x + _SWATCH + 8, y), _cut(text, font, room - _SWATCH - 8), fill=_INK, font=font)
    pixels: Pixels = np.asarray(page)
    return pixels


def _told(entry: Entry) -> str:
    number = "" if entry.number is None else f"{entry.number}  "
    return f"{number}{one_line(entry.name)}" + ("" if entry.share is None else f"  {in_percent(entry.share)}")


def _cut(text: str, font: "ImageFont.FreeTypeFont | ImageFont.ImageFont", room: float) -> str:
    shown = text
    while text and font.getlength(shown) > room:
        text = text[:-1]
        shown = f"{text}…"
    return shown
