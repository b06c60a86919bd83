"""Augmentation of stored features: what a picture that is seen otherwise would roughly give, without seeing it again.

After Konuk et al., Learning from Offline Foundation Features with Tensor Augmentations (NeurIPS 2024): a picture is encoded
once, and its features are flipped, cut and blurred by noise as they are learned from. Flips are stored maps of the
mirrored picture (kind `…+flip`): a map that is mirrored instead is the same set of tokens, which says nothing new to a
head that asks for no place.

Shape letters: n pictures, h and w sides of the grid.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from deponij.pipeline.cards import Condition

if TYPE_CHECKING:
    from torch import Tensor

A = TypeVar("A", bound=np.generic)


@dataclass(frozen=True, slots=True)
class Augmentation:
    """What is done to features as they are learned from.

    Attributes:
        flip: by chance every second picture's maps are those of the mirrored picture.
        crop: a rectangle of the grid, of at least this share of each side, is all that is seen; 1 is the whole grid.
        noise: standard deviation of what is added, in standard deviations of each channel; 0 adds nothing.
    """

    flip: bool = False
    crop: float = 1.0
    noise: float = 0.0

    def conditions(self) -> tuple[Condition, ...]:
        """What must hold of the values."""
        return (
            (0 < self.crop <= 1, f"crop must be above 0 and at most 1, got {self.crop}"),
            (math.isfinite(self.noise) and self.noise >= 0, f"noise must be 0 or more, got {self.noise}"),
        )

    def __str__(self) -> str:
        said = (
            "stored flips" * self.flip,
            f"crops of at least {self.crop:g} of a side" if self.crop < 1 else "",
            f"noise of {self.noise:g} standard deviations" if self.noise else "",
        )
        return ", ".join(filter(None, said))


def some_flipped(maps: NDArray[A], flipped: NDArray[A], generator: np.random.Generator) -> NDArray[A]:
    """Of each of n pictures its maps [n, …], or by an even chance those of the mirrored picture."""
    chosen = generator.random(len(maps)) < 0.5
    return np.where(chosen.reshape(-1, *(1,) * (maps.ndim - 1)), flipped, maps)


def crops(n: int, height: int, width: int, least: float, generator: np.random.Generator) -> NDArray[np.bool_]:
    """What is seen of n grids [n, h, w]: a rectangle each, whose sides and place are uniform among those allowed."""
    tall, wide = (_stretches(n, side, least, generator) for side in (height, width))
    return tall[:, :, None] & wide[:, None, :]


def _stretches(n: int, side: int, least: float, generator: np.random.Generator) -> NDArray[np.bool_]:
    """A run of True in each of n rows [n, side]."""
    lengths = generator.integers(max(1, math.ceil(least * side)), side, size=n, endpoint=True)
    starts = generator.integers(0, side - lengths, endpoint=True)
    places = np.arange(side)
    return (places >= starts[:, None]) & (places < (starts + lengths)[:, None])


def noise_like(values: "Tensor", generator: np.random.Generator) -> "Tensor":
    """Gaussian noise of deviation 1, in the shape and precision of values."""
    import torch

    drawn = generator.standard_normal(tuple(values.shape), dtype=np.float32)
    return torch.from_numpy(drawn).to(values.dtype)
