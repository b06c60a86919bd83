"""Colours of classes in pictures: those of the data set, but for classes that could not be told apart by them.

Pictures show numbers and outlines besides, so that nothing depends on colour alone.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from deponij.pipeline.reports.palette import palette_colours
from deponij.store.label_maps import VOID_COLOUR, Colour

# Below, two colours laid over a photograph are one to the eye.
_APART = 40.0
_DARKER = 0.6


def class_colours(colours: Sequence[Colour]) -> list[Colour]:
    """A colour for each class, its own unless that is nearly void's or an earlier class's.

    Others come from the palette of the report and the server: the one farthest from all that are taken. Past its 16 colours
    these come again darker, and then more than once.
    """
    palette = palette_colours()
    spare = [*palette, *(_darker(one) for one in palette)]
    taken: list[Colour] = [VOID_COLOUR]
    for own in colours:
        if min(_distance(own, one) for one in taken) >= _APART:
            taken.append(own)
            continue
        others = [*taken, *colours]
        taken.append(max(spare, key=lambda one: min(_distance(one, other) for other in others)))
    return taken[1:]


def as_array(colours: Sequence[Colour]) -> NDArray[np.uint8]:
    """[256, 3], by the numbers in a label map; void's where there is no class."""
    table = np.tile(np.array(VOID_COLOUR, np.uint8), (256, 1))
    table[: len(colours)] = np.array(colours, np.uint8)
    return table


def _darker(colour: Colour) -> Colour:
    red, green, blue = (round(_DARKER * one) for one in colour)
    return red, green, blue


def _distance(one: Colour, other: Colour) -> float:
    """About as far apart as they look (T. Riemersma, Colour metric, 2008: red and blue weigh by how red both are)."""
    mean_red = (one[0] + other[0]) / 2
    red, green, blue = ((a - b) ** 2 for a, b in zip(one, other, strict=True))
    return float(((2 + mean_red / 256) * red + 4 * green + (2 + (255 - mean_red) / 256) * blue) ** 0.5)
