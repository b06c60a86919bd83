"""What is drawn of scenes in each epoch: order, windows, mirroring; and the label maps that go with it.

Shape letters: m pictures, h and w sides in pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deponij.store.errors import UsageError
from deponij.store.reading import Window
from deponij.store.scenes import Scenes

LabelMaps = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Cut:
    """What to read of one picture.

    Attributes:
        window: in cells of the coarsest level of the map that is read; None for all of it.
        mirrored: of the mirrored picture.
    """

    item_id: str
    window: Window | None = None
    mirrored: bool = False


@dataclass(frozen=True, slots=True)
class Frame:
    """The pixels in which a backbone sees pictures, and the cells of its coarsest map.

    Attributes:
        input_px: (height, width).
        stride_px: of the coarsest level.
    """

    input_px: tuple[int, int]
    stride_px: int

    def cells(self, window_px: tuple[int, int]) -> tuple[int, int]:
        """(height, width) of a window in cells.

        Raises:
            UsageError: the coarsest stride does not tile it, or it is larger than the picture.
        """
        fits = all(0 < side <= whole for side, whole in zip(window_px, self.input_px, strict=True))
        if not fits or any(side % self.stride_px for side in window_px):
            raise UsageError(
                f"a window of {window_px[0]}x{window_px[1]} px: its sides must be multiples of the coarsest stride, "
                f"{self.stride_px} px, and fit into the pictures' {self.input_px[0]}x{self.input_px[1]} px"
            )
        return window_px[0] // self.stride_px, window_px[1] // self.stride_px

    def slices(self, cut: Cut) -> tuple[slice, slice]:
        """Rows and columns of a cut in pixels."""
        if cut.window is None:
            return slice(None), slice(None)
        window, stride = cut.window, self.stride_px
        top, left = window.top * stride, window.left * stride
        return slice(top, top + window.height * stride), slice(left, left + window.width * stride)

    def target(self, scenes: Scenes, cut: Cut) -> LabelMaps:
        """A label map in these pixels, uint8 [h, w]: mirrored and cut as that is."""
        height, width = self.input_px
        labels = scenes.label_map(cut.item_id)
        if labels.shape != (height, width):
            resized = Image.fromarray(labels).resize((width, height), Image.Resampling.NEAREST)
            labels = np.asarray(resized)
        return (labels[:, ::-1] if cut.mirrored else labels)[self.slices(cut)]

    def targets(self, scenes: Scenes, cuts: Sequence[Cut]) -> LabelMaps:
        """Of m pictures, [m, h, w]."""
        return np.stack([self.target(scenes, one) for one in cuts])


@dataclass(frozen=True, slots=True)
class Drawn:
    """How pictures are drawn for learning.

    Attributes:
        batch_size: pictures a step.
        window_px: sides of a random window, or None for whole pictures.
        mirrored: half of them as mirrored pictures.
        seed: decides order, windows and mirroring, for each epoch anew.
    """

    batch_size: int
    window_px: tuple[int, int] | None
    mirrored: bool
    seed: int

    def n_batches(self, n_pictures: int) -> int:
        """Of an epoch; a last, smaller batch counts where it has more than half of the others' pictures."""
        full, rest = divmod(n_pictures, self.batch_size)
        return max(1, full + (2 * rest > self.batch_size))

    def plan(self, ids: Sequence[str], frame: Frame, epoch: int) -> list[list[Cut]]:
        """The batches of an epoch; the same for the same epoch."""
        rng = np.random.default_rng([self.seed, epoch])
        order = rng.permutation(len(ids))
        cells = None if self.window_px is None else frame.cells(self.window_px)
        plan = []
        for start in range(0, self.n_batches(len(ids)) * self.batch_size, self.batch_size):
            rows = order[start : start + self.batch_size].tolist()
            flips = (rng.random(len(rows)) < 0.5).tolist() if self.mirrored else [False] * len(rows)
            plan.append(
                [
                    Cut(ids[row], _window(rng, cells, frame), flip)
                    for row, flip in zip(rows, flips, strict=True)
                ]
            )
        return plan


def _window(rng: np.random.Generator, cells: tuple[int, int] | None, frame: Frame) -> Window | None:
    if cells is None:
        return None
    free = [side // frame.stride_px - one for side, one in zip(frame.input_px, cells, strict=True)]
    top, left = (int(rng.integers(0, one + 1)) for one in free)
    return Window(top, left, *cells)
