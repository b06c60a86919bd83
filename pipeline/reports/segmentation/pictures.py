"""Label maps over photographs, and where an answer is wrong, as pictures that need no colours to be read.

Regions are outlined and have the number of their class in the legend (from 1), what is wrong is hatched, what is void is
dotted. Photographs may have any size; label maps are laid over them as they are shown.

Shape letters: h rows and w columns of pixels.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from deponij.store.label_maps import VOID, Labels

Pixels = NDArray[np.uint8]  # [h, w, 3]
Mask = NDArray[np.bool_]  # [h, w]
Table = NDArray[np.uint8]  # [256, 3], see `colours.as_array`
_STRENGTH = 0.6
# Of the whole picture; smaller regions have no number.
_LEAST_SHARE = 0.004
_FONT_PX = 12
_SOUGHT_PX = 512
_NUMBERS_A_CLASS = 2
# Mean of red, green and blue; hatching is pale on darker colours.
_DARK = 110
_EDGE, _PAPER, _INK = (24, 24, 24), (255, 255, 255), (0, 0, 0)


def overlay(photograph: Image.Image, labels: Labels, colours: Table) -> Image.Image:
    """Each class in its colour over the photograph, with its number; void is grey and dotted."""
    pixels, shown = np.asarray(photograph.convert("RGB")), _laid_over(labels, photograph)
    grey = _grey(pixels)
    drawn = _mixed(pixels, colours[shown], _STRENGTH)
    void = shown == VOID
    drawn[void] = _mixed(grey, np.full_like(pixels, 128), 0.5)[void]
    drawn[void & _dots(void.shape)] = _PAPER
    drawn[_outlines(shown)] = _EDGE
    return _numbered(Image.fromarray(drawn), shown)


def error_map(photograph: Image.Image, truth: Labels, answer: Labels, colours: Table) -> Image.Image:
    """What is right as a pale photograph; what is wrong in the colour and with the number of what was said, hatched; void
    dotted.
    """
    pixels = np.asarray(photograph.convert("RGB"))
    true, said = (_laid_over(labels, photograph) for labels in (truth, answer))
    drawn = _mixed(_grey(pixels), np.full_like(pixels, 255), 0.6)
    void, wrong = true == VOID, (true != VOID) & (true != said)
    drawn[void] = 150
    drawn[void & _dots(void.shape)] = _PAPER
    drawn[wrong] = colours[said][wrong]
    lines, is_dark = wrong & _hatch(wrong.shape), colours.mean(axis=1)[said] < _DARK
    drawn[lines & is_dark], drawn[lines & ~is_dark] = _PAPER, _EDGE
    errors = np.where(wrong, said, VOID).astype(np.uint8)
    drawn[_outlines(errors)] = _EDGE
    return _numbered(Image.fromarray(drawn), errors)


def _laid_over(labels: Labels, photograph: Image.Image) -> Labels:
    """The label map in the photograph's pixels."""
    resized = Image.fromarray(labels).resize(photograph.size, Image.Resampling.NEAREST)
    return np.asarray(resized)


def _grey(pixels: Pixels) -> Pixels:
    level = pixels.mean(axis=2, keepdims=True).round().astype(np.uint8)
    return np.repeat(level, 3, axis=2)


def _mixed(under: Pixels, over: Pixels, strength: float) -> Pixels:
    mixed: Pixels = ((1 - strength) * under + strength * over).round().astype(np.uint8)
    return mixed


def _dots(shape: tuple[int, ...]) -> Mask:
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    dots: Mask = (rows % 4 == 0) & ((columns + 2 * (rows // 4 % 2)) % 4 == 0)
    return dots


def _hatch(shape: tuple[int, ...]) -> Mask:
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    lines: Mask = (rows + columns) % 6 == 0
    return lines


def _outlines(labels: Labels) -> Mask:
    """Pixels whose lower or right neighbour is of another class."""
    edges = np.zeros(labels.shape, bool)
    edges[:-1] |= labels[:-1] != labels[1:]
    edges[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    return edges


def _numbered(picture: Image.Image, labels: Labels) -> Image.Image:
    """The numbers of the classes, from 1, in the middle of their largest regions."""
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(_FONT_PX)
    # Of large pictures every so many pixels are enough to find a middle, in a hundredth of the time.
    step = -(-max(labels.shape) // _SOUGHT_PX)
    for (x, y), number in _places(labels[::step, ::step], _FONT_PX / 3 / step):
        draw.text(
            (x * step, y * step),
            f"{number + 1}",
            fill=_PAPER,
            font=font,
            anchor="mm",
            stroke_width=2,
            stroke_fill=_INK,
        )
    return picture


def _places(labels: Labels, least_depth: float) -> Iterator[tuple[tuple[int, int], int]]:
    """Where a number fits, (x, y), and the class.

    Args:
        least_depth: of a region in pixels, from its middle to its edge.
    """
    from scipy.ndimage import distance_transform_edt, label

    least = _LEAST_SHARE * labels.size
    for number in np.unique(labels[labels != VOID]).tolist():
        regions, _ = label(labels == number)
        sizes = np.bincount(regions.ravel())
        sizes[0] = 0
        largest = np.argsort(-sizes, kind="stable")[:_NUMBERS_A_CLASS]
        for region in largest[sizes[largest] >= least].tolist():
            # A border around it, so that the middle lies away from the picture's edge as well.
            depth = distance_transform_edt(np.pad(regions == region, 1))[1:-1, 1:-1]
            y, x = np.unravel_index(int(depth.argmax()), depth.shape)
            if depth[y, x] >= least_depth:
                yield (int(x), int(y)), number
