"""Where windows lie on a picture, and at which size it is seen. Geometry alone.

Shape letters: h and w sides of a window in px.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, gcd

import numpy as np
from numpy.typing import NDArray

from deponij.store.errors import UsageError

Size = tuple[int, int]
MAX_SCALE = 8.0
MAX_OVERLAP = 0.9
# A side that a window lacks up to this share is squashed into it rather than seen through a second one.
_SQUASHED = 0.25
# A picture is enlarged to fill a window with its short side, its long one up to so many windows: a line of pixels is
# else enlarged to gigabytes.
_MOST_ENLARGED = 8


def check_overlap(overlap: float) -> None:
    """Refuse what is no share of a window's side.

    Raises:
        UsageError: it is none.
    """
    if not 0 <= overlap <= MAX_OVERLAP:
        raise UsageError(f"the overlap of windows is a share from 0 to {MAX_OVERLAP}, got {overlap:g}")


@dataclass(frozen=True, slots=True)
class Frame:
    """How a network sees pictures.

    Attributes:
        window_px: (height, width) of its input.
        stride_px: of its coarsest map.
        overlap: share of a window's side that the next one sees again, at least.

    Raises:
        UsageError: an overlap that is none, or a window without pixels.
    """

    window_px: Size
    stride_px: int
    overlap: float = 0.5

    def __post_init__(self) -> None:
        check_overlap(self.overlap)
        if min(self.window_px) < 1:
            raise UsageError(f"a window of {self.window_px[0]}x{self.window_px[1]} px has nothing in it")

    @property
    def unit_px(self) -> int:
        """Windows begin at multiples of it, and it tiles them: the coarsest stride, or a part of it where that does not.

        Nets may have learned at sides that no stride tiles (360 px by 32): their last cells are then partly empty.
        """
        return gcd(self.stride_px, *self.window_px)

    def seen_px(self, picture_px: Size, scale: float = 1.0, *, enlarge: bool = True) -> Size:
        """(height, width) to which a picture is resized before windows are cut from it; multiples of the unit.

        At scale 1 it just covers a window, larger ones are multiples of that; no side is smaller than a window's.

        Args:
            enlarge: whether scales beyond 1 go past the picture's own size.

        Raises:
            UsageError: a scale that is out of range.
        """
        if not 1 <= scale <= MAX_SCALE:
            raise UsageError(f"a scale is a number from 1 to {MAX_SCALE:g}, got {scale:g}")
        pairs = list(zip(picture_px, self.window_px, strict=True))
        cover = max(window / side for side, window in pairs)
        factor = scale * cover if enlarge else max(cover, min(scale * cover, 1.0))
        height, width = (self._side(side, window, factor) for side, window in pairs)
        return height, width

    def _side(self, side: int, window: int, factor: float) -> int:
        seen = min(side * factor, max(side, _MOST_ENLARGED * window))
        if seen <= (1 + _SQUASHED) * window and factor * side < (1 + _SQUASHED) * window:
            return window
        return max(window, round(seen / self.unit_px) * self.unit_px)

    def windows(self, seen_px: Size) -> list[Size]:
        """(top, left) of windows that cover a picture of such sides, row by row."""
        tops, lefts = (
            self._starts(side, window) for side, window in zip(seen_px, self.window_px, strict=True)
        )
        return [(top, left) for top in tops for left in lefts]

    def _starts(self, side: int, window: int) -> list[int]:
        """Evenly spread, the first at the begin and the last at the end."""
        free = (side - window) // self.unit_px
        step = max(1, int(window * (1 - self.overlap) / self.unit_px))
        n_steps = ceil(free / step)
        return [round(free * i / n_steps) * self.unit_px for i in range(n_steps + 1)] if n_steps else [0]


def weight_of(size: Size) -> NDArray[np.float32]:
    """How much each cell of a window's answer counts where windows overlap: most in the middle, float32 [h, w].

    Hann's window, sin², above a floor, so that the picture's rim, which one window alone sees, counts too.
    """
    sides = [np.sin(np.pi * (np.arange(side) + 0.5) / side) ** 2 + 1e-3 for side in size]
    weight: NDArray[np.float32] = np.outer(*sides).astype(np.float32)
    return weight


def batches(windows: list[Size], n: int) -> Iterator[list[Size]]:
    """At most n windows at a time."""
    for start in range(0, len(windows), n):
        yield windows[start : start + n]
