"""One picture to class scores and a label map: windows at several scales and both ways, blended; bounded memory.

Shape letters: C classes, h and w sides of the picture in px, h' and w' of the grid on which scores are kept.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deponij.pipeline.backbones.transform import Transform
from deponij.pipeline.segmenting.windows import Frame, Size, batches, weight_of

if TYPE_CHECKING:
    from torch import Tensor

Scores = NDArray[np.float32]
VOID = 255
# Scores of a picture on their grid, and of a band of it at its own size.
_GRID_BYTES = 256 << 20
_BAND_BYTES = 64 << 20


class Segments(Protocol):
    """What a network must do."""

    def logits(self, pixels: NDArray[np.uint8], size: Size) -> "Tensor":
        """Windows uint8 [n, h, w, 3] to logits float32 [n, C, *size] on the CPU."""


@dataclass(frozen=True, slots=True)
class Ways:
    """How often a picture is looked at; scores are means of all.

    Attributes:
        scales: see `Frame.seen_px`.
        flip: mirrored, too.
        enlarge: whether scales go past the picture's own size.
    """

    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    enlarge: bool = True


@dataclass(frozen=True, slots=True)
class Segmenter:
    """A network that segments pictures of any size.

    Attributes:
        transform: of the backbone.
        n_classes: of the network's logits.
        scores: `softmax` over classes, or logits as they are.
        batch_size: windows a step.
        finest_px: pixels of the seen picture a cell of the grid, at least.
    """

    network: Segments
    transform: Transform
    frame: Frame
    n_classes: int
    ways: Ways = Ways()
    scores: Literal["softmax", "logits"] = "softmax"
    batch_size: int = 4
    finest_px: int = 1

    def n_windows(self, picture_px: Size) -> int:
        """How many windows a picture of such sides takes, all scales together."""
        return sum(len(self.frame.windows(seen)) for seen in self._seen(picture_px))

    def grid(self, image: Image.Image) -> Scores:
        """Scores of a decoded picture, float32 [C, h', w'].

        The grid lies over the whole picture; `label_map` and `score_map` bring it to the picture's size.
        """
        import torch
        from torch.nn.functional import interpolate

        sizes = self._seen((image.height, image.width))
        cell_px = self._cell_px(max(sizes, key=lambda one: one[0] * one[1]))
        total: Tensor | None = None
        for size in sorted(sizes, key=lambda one: -one[0] * one[1]):
            scores = torch.from_numpy(self._blended(image, size, cell_px))
            if total is None:
                total = scores
            else:
                total += interpolate(
                    scores[None], size=total.shape[1:], mode="bilinear", align_corners=False
                )[0]
        assert total is not None
        mean: Scores = (total / len(sizes)).numpy()
        return mean

    def _seen(self, picture_px: Size) -> list[Size]:
        return [
            self.frame.seen_px(picture_px, scale, enlarge=self.ways.enlarge) for scale in self.ways.scales
        ]

    def _cell_px(self, seen: Size) -> int:
        """Side of a cell: the finest that tiles windows and fits into memory."""
        unit = self.frame.unit_px
        sides = [side for side in range(1, unit + 1) if unit % side == 0 and side >= self.finest_px]
        for side in sides:
            if 4 * self.n_classes * (seen[0] // side) * (seen[1] // side) <= _GRID_BYTES:
                return side
        return unit

    def _blended(self, image: Image.Image, seen: Size, cell_px: int) -> Scores:
        """Scores of all windows at one size."""
        pixels = self.transform.for_input(*seen).pixels(image)  # [H, W, 3]
        height, width = (side // cell_px for side in self.frame.window_px)
        weight = weight_of((height, width))
        total = np.zeros((self.n_classes, seen[0] // cell_px, seen[1] // cell_px), np.float32)
        weights = np.zeros(total.shape[1:], np.float32)
        for corners in batches(self.frame.windows(seen), self.batch_size):
            answers = self._answers(pixels, corners, (height, width))
            for (top, left), answer in zip(corners, answers, strict=True):
                rows = slice(top // cell_px, top // cell_px + height)
                columns = slice(left // cell_px, left // cell_px + width)
                total[:, rows, columns] += weight * answer
                weights[rows, columns] += weight
        total /= weights
        return total

    def _answers(self, pixels: NDArray[np.uint8], corners: Sequence[Size], size: Size) -> Scores:
        """Scores of windows, float32 [n, C, *size]."""
        height, width = self.frame.window_px
        cut = np.stack([pixels[top : top + height, left : left + width] for top, left in corners])
        scores = self._activated(self.network.logits(cut, size))
        if self.ways.flip:
            mirrored = self.network.logits(np.ascontiguousarray(cut[:, :, ::-1]), size)
            scores = (scores + self._activated(mirrored).flip(-1)) / 2
        values: Scores = scores.numpy()
        return values

    def _activated(self, logits: "Tensor") -> "Tensor":
        return logits.softmax(1) if self.scores == "softmax" else logits


def bands(grid: Scores, size_px: Size) -> Iterator[tuple[int, Scores]]:
    """A grid [C, h', w'] brought to a picture's size, bilinear, a band of rows at a time: first row, [C, rows, w]."""
    height, width = size_px
    n_rows = max(1, _BAND_BYTES // (4 * len(grid) * width))
    rows, columns = _between(grid.shape[1], height), _between(grid.shape[2], width)
    for start in range(0, height, n_rows):
        before, after, share = (one[start : start + n_rows] for one in rows)
        part = grid[:, before] * (1 - share)[:, None] + grid[:, after] * share[:, None]
        before, after, share = columns
        band: Scores = (part[:, :, before] * (1 - share) + part[:, :, after] * share).astype(np.float32)
        yield start, band


def _between(n_cells: int, n_pixels: int) -> tuple[NDArray[np.intp], NDArray[np.intp], Scores]:
    """Of each pixel the cells before and after it and the share of the latter; corners not aligned, as torch has it."""
    place = np.clip((np.arange(n_pixels) + 0.5) * (n_cells / n_pixels) - 0.5, 0, n_cells - 1)
    before = np.floor(place).astype(np.intp)
    return before, np.minimum(before + 1, n_cells - 1), (place - before).astype(np.float32)


def label_map(
    grid: Scores, size_px: Size, *, n_named: int | None = None, threshold: float = 0.0
) -> NDArray[np.uint8]:
    """The highest class of each pixel, uint8 [h, w]; `VOID` where that is none of the first `n_named`, or too low.

    Args:
        grid: scores [C, h', w'].
        n_named: classes that count as such; those behind stand for everything else.
        threshold: least score.
    """
    n_named = len(grid) if n_named is None else n_named
    labels = np.empty(size_px, np.uint8)
    for start, part in bands(grid, size_px):
        best = part.argmax(axis=0)
        is_none = best >= n_named
        if threshold > 0:
            is_none |= part.max(axis=0) < threshold
        labels[start : start + part.shape[1]] = np.where(is_none, VOID, best)
    return labels


def score_map(grid: Scores, size_px: Size, row: int = 0) -> Scores:
    """Scores of one class at a picture's size, float32 [h, w]."""
    scores = np.empty(size_px, np.float32)
    for start, part in bands(grid[row : row + 1], size_px):
        scores[start : start + part.shape[1]] = part[0]
    return scores
