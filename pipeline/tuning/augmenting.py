"""Pictures that look a little different in each epoch, by torchvision's transforms (v2).

What a picture becomes depends on the seed, the epoch and its number alone: a training that was interrupted sees the same
bytes, and so does one with other workers.

Shape letters: n pictures, h and w their sides in px, H and W those of the network's input; channels are R, G, B.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from deponij.pipeline.backbones.lean_imports import without_compiler
from deponij.pipeline.registry import unknown
from deponij.pipeline.tuning.drawing import drawing
from deponij.store.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

# RandAugment's strengths lie between 0 and 10, as timm counts them; torchvision takes the number of a step.
_STEPS_A_UNIT = 100


def _rising(bounds: tuple[float, float]) -> tuple[float, float]:
    if not 0 < bounds[0] <= bounds[1] < math.inf:
        raise ValueError(f"{list(bounds)} must be two positive numbers, the smaller one first")
    return bounds


Bounds = Annotated[tuple[float, float], AfterValidator(_rising)]


class AugmentParams(BaseModel):
    """How pictures are changed; by default not at all beyond what brings them to size.

    Attributes:
        crop: `none` (scaled until it just covers H by W, and its centre), `resized` (a part of
            the picture, its share of the area within `scale`, its width by its height within `ratio` of W / H, stretched to
            H x W), or `padded` (as `none`, then moved by up to `padding_px` over black).
        interpolation: of resizing.
        horizontal_flip, vertical_flip: probabilities.
        rand_augment: operations of RandAugment a picture.
        magnitude: their strength, 0 to 10, as timm counts it (torchvision's 9 of 31 steps is a 3).
        magnitude_std: it is drawn anew for each picture with this deviation.
        jitter: brightness, contrast and saturation are multiplied by 1 - jitter to 1 + jitter.
        hue: it turns by up to this share of the circle.
        erasing: probability that a rectangle of 2 to 33 % of the area becomes noise.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    crop: Literal["none", "resized", "padded"] = "none"
    scale: Bounds = (0.08, 1.0)
    ratio: Bounds = (3 / 4, 4 / 3)
    padding_px: int = Field(default=4, ge=0)
    interpolation: Literal["bilinear", "bicubic"] = "bicubic"
    horizontal_flip: float = Field(default=0.0, ge=0, le=1)
    vertical_flip: float = Field(default=0.0, ge=0, le=1)
    rand_augment: int = Field(default=0, ge=0, le=20)
    magnitude: float = Field(default=9.0, ge=0, le=10)
    magnitude_std: float = Field(default=0.0, ge=0, le=10)
    jitter: float = Field(default=0.0, ge=0, le=1)
    hue: float = Field(default=0.0, ge=0, le=0.5)
    erasing: float = Field(default=0.0, ge=0, le=1)

    @property
    def draws(self) -> bool:
        """Whether a picture may look different from one epoch to the next."""
        is_whole = self.crop == "none" or (self.crop == "padded" and self.padding_px == 0)
        others = (
            self.horizontal_flip,
            self.vertical_flip,
            self.rand_augment,
            self.jitter,
            self.hue,
            self.erasing,
        )
        return not is_whole or any(others)


_DEIT = AugmentParams(
    crop="resized",
    horizontal_flip=0.5,
    rand_augment=2,
    magnitude=9.0,
    magnitude_std=0.5,
    erasing=0.25,
)
PRESETS: dict[str, AugmentParams] = {
    "none": AugmentParams(),
    "flips": AugmentParams(horizontal_flip=0.5, vertical_flip=0.5),
    "light": AugmentParams(crop="resized", scale=(0.5, 1.0), horizontal_flip=0.5, jitter=0.2),
    # `rand-m9-mstd0.5-inc1`, erase 0.25. DeiT's colour jitter of 0.3 has no effect there: timm leaves it out where
    # there is RandAugment.
    "deit": _DEIT,
    # Ćorić (2021) names the parts and not their values: those of DeiT, whose code it builds on, and its flips both ways.
    "heavy": _DEIT.model_copy(update={"vertical_flip": 0.5, "jitter": 0.3}),
}


def preset(name: str) -> AugmentParams:
    """The augmentation of this name.

    Raises:
        UsageError: there is none.
    """
    if name not in PRESETS:
        raise unknown("augmentation", name, PRESETS)
    return PRESETS[name]


class Augmenter:
    """Decoded pictures to a network's input: float32 [3, H, W], normalised.

    Args:
        size_px: (H, W), or one number for both.
        mean, std: of each channel, in units of 0..1, as the backbone's record says.
        seed: of all draws.
    """

    def __init__(
        self,
        params: AugmentParams,
        size_px: int | tuple[int, int],
        *,
        mean: Sequence[float],
        std: Sequence[float],
        seed: int = 0,
    ) -> None:
        import torch

        with without_compiler():
            from torchvision.transforms import v2
        self.size_px = (size_px, size_px) if isinstance(size_px, int) else size_px
        self.params, self.seed = params, seed
        self._v2, self._fill = v2, [round(255 * one) for one in mean]
        self._interpolation = v2.InterpolationMode(params.interpolation)
        flips = [v2.RandomHorizontalFlip(params.horizontal_flip), v2.RandomVerticalFlip(params.vertical_flip)]
        self._before = v2.Compose([*self._geometry(), *flips])
        colours = (params.jitter, params.jitter, params.jitter, params.hue)
        self._after = v2.Compose(
            [
                *([v2.ColorJitter(*colours)] if any(colours) else []),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(list(mean), list(std)),
                *([v2.RandomErasing(params.erasing, value="random")] if params.erasing else []),
            ]
        )

    def one(self, picture: "NDArray[np.uint8] | Tensor", epoch: int, number: int) -> "Tensor":
        """One picture as it looks in an epoch, float32 [3, H, W].

        Args:
            picture: uint8 [h, w, 3] of NumPy, or [3, h, w] of torch.
            number: its place in the data set.

        Raises:
            DataError: it is no such array.
        """
        pixels = _pixels(picture)
        with drawing(self.seed, "augment", epoch, number):
            pixels = self._before(pixels)
            if self.params.rand_augment:
                pixels = self._rand_augment()(pixels)
            made: Tensor = self._after(pixels)
        return made

    def batch(
        self, pictures: "Sequence[NDArray[np.uint8]] | Tensor", epoch: int, numbers: Sequence[int]
    ) -> "Tensor":
        """Pictures as they look in an epoch, float32 [n, 3, H, W]; each as `one` gives it.

        Args:
            pictures: as in `one`, or uint8 [n, 3, h, w].
            numbers: their places in the data set.
        """
        import torch

        pairs = zip(pictures, numbers, strict=True)
        return torch.stack([self.one(picture, epoch, int(number)) for picture, number in pairs])

    def _geometry(self) -> list[Any]:
        params, v2, size_px = self.params, self._v2, self.size_px
        if params.crop == "resized":
            low, high = (one * (size_px[1] / size_px[0]) for one in params.ratio)
            return [
                v2.RandomResizedCrop(size_px, params.scale, (low, high), self._interpolation, antialias=True)
            ]
        centre = [self._covering, v2.CenterCrop(size_px)]
        moved = [v2.RandomCrop(size_px, padding=params.padding_px)] if params.crop == "padded" else []
        return centre + moved

    def _covering(self, pixels: "Tensor") -> "Tensor":
        """Scaled until it just covers the input."""
        wanted_h, wanted_w = self.size_px
        height, width = pixels.shape[-2:]
        size = (
            [wanted_h, wanted_h * width // height]
            if wanted_h * width >= wanted_w * height
            else [wanted_w * height // width, wanted_w]
        )
        made: Tensor = self._v2.functional.resize(pixels, size, self._interpolation, antialias=True)
        return made

    def _rand_augment(self) -> Any:
        """torchvision's own, whose steps are fine enough for a strength that is drawn."""
        import torch

        params = self.params
        strength = params.magnitude + params.magnitude_std * float(torch.randn(()))
        step = round(_STEPS_A_UNIT * min(10.0, max(0.0, strength)))
        bilinear = self._v2.InterpolationMode.BILINEAR
        return self._v2.RandAugment(params.rand_augment, step, 10 * _STEPS_A_UNIT + 1, bilinear, self._fill)


def _pixels(picture: "NDArray[np.uint8] | Tensor") -> "Tensor":
    import torch

    is_array = isinstance(picture, np.ndarray)
    made = torch.from_numpy(np.array(picture)).permute(2, 0, 1) if is_array and picture.ndim == 3 else picture
    if (
        not isinstance(made, torch.Tensor)
        or made.ndim != 3
        or made.shape[0] != 3
        or made.dtype != torch.uint8
    ):
        raise DataError(
            f"a picture is {picture.dtype} {list(picture.shape)}; it must be uint8 [h, w, 3] of NumPy or [3, h, w] of torch"
        )
    return made
