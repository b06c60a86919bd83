"""Colours by name, so that a picture and its caption agree."""

import numpy as np

from deponij.sample.painter.canvas import Rgb

COLOURS: dict[str, Rgb] = {
    "white": (232, 232, 228),
    "grey": (146, 148, 150),
    "black": (42, 42, 46),
    "red": (200, 38, 40),
    "orange": (226, 118, 34),
    "yellow": (232, 200, 52),
    "green": (48, 140, 66),
    "blue": (42, 84, 178),
    "light blue": (126, 184, 222),
    "brown": (128, 84, 50),
    "pink": (226, 120, 160),
    "purple": (120, 62, 148),
    "silver": (188, 190, 194),
    "beige": (206, 180, 142),
}


def pick(rng: np.random.Generator, names: str) -> tuple[str, Rgb]:
    """One of the comma-separated colour names, and a shade of it."""
    options = names.split(",")
    name = options[int(rng.integers(len(options)))]
    return name, shade(rng, COLOURS[name], 14)


def inks(rng: np.random.Generator, names: str, n: int) -> list[Rgb]:
    """Shades of n of the comma-separated colours."""
    return [pick(rng, names)[1] for _ in range(n)]


def shade(rng: np.random.Generator, colour: Rgb, amount: float) -> Rgb:
    """A colour near the given one, lighter or darker and slightly off in hue."""
    light = rng.normal(0, amount)
    r, g, b = (float(np.clip(c + light + rng.normal(0, amount / 2), 8, 248)) for c in colour)
    return r, g, b


def dim(colour: Rgb, factor: float) -> Rgb:
    """The colour times a factor, within 0 to 255."""
    r, g, b = (min(c * factor, 255.0) for c in colour)
    return r, g, b
