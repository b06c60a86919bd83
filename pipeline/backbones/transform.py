"""Pixels to a model's input: resize, crop, pad and normalise, with Pillow and NumPy alone.

A `Transform` is a value; where it comes from (a model's own published record) is in
`deponij.pipeline.backbones.records`, and decoding is in `deponij.pipeline.pictures`. It gives what the family's own
preprocessing of Pillow pictures gives, bit for bit: open_clip's `image_transform`, the `pil` backend
of transformers' image processors, timm's `create_transform` for evaluation. The order of work matters
for that: open_clip resizes in the picture's own mode and drops alpha afterwards, transformers lays
transparent pixels on white first.

Shape letters: h, w sides of the model's input in px; n pictures; channels are R, G, B.
"""

from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image
from pydantic import TypeAdapter

from deponij.pipeline.backbones.remember import canonical

# A picture one pixel wide and thousands high would be resized to gigabytes of which the crop keeps
# almost nothing: past this many resized pixels only the part that the crop keeps is computed. Pillow
# takes that part's corners as 32-bit floats, so a value may then differ from upstream's by 1 of 255.
_MAX_RESIZED_PIXELS = 1 << 26


class Resize(StrEnum):
    """How a picture is brought to size; the rounding rules are those of the libraries named."""

    SHORTEST = "shortest"
    """Short side to `resize_px`, long side truncated: torchvision `Resize(int)`, transformers."""
    COVER = "cover"
    """Smallest size that covers `resize_px`, both sides rounded: `ResizeKeepRatio(longest=0)`."""
    CONTAIN = "contain"
    """Largest size inside `resize_px`, both sides rounded: `ResizeKeepRatio(longest=1)`."""
    SQUASH = "squash"
    """Exactly `resize_px`, whatever the aspect ratio."""
    NONE = "none"
    """Left at its size."""


class Rounding(StrEnum):
    """Where the centre crop starts when the surplus is odd."""

    HALF_EVEN = "half_even"
    """torchvision's `CenterCrop`: round half to even; padding floors its start."""
    FLOOR = "floor"
    """transformers' `center_crop`: floor; padding ceils its start."""


class Rescale(StrEnum):
    """In which arithmetic 0..255 becomes 0..1; the two differ in the last bit."""

    FLOAT32_DIVIDE = "float32_divide"
    """torchvision's `to_tensor`: float32 division by 255."""
    FLOAT64_MULTIPLY = "float64_multiply"
    """transformers' `rescale`: float64 multiplication by `rescale_factor`, then float32."""


class Alpha(StrEnum):
    """What becomes of transparency, and when the picture becomes RGB."""

    DROP_FIRST = "drop_first"
    """Dropped before resizing: timm's examples."""
    WHITE_FIRST = "white_first"
    """Laid on white before resizing: transformers 5."""
    DROP_LAST = "drop_last"
    """Resized with the picture, which weights its colours, and dropped afterwards: open_clip."""


_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "box": Image.Resampling.BOX,
    "hamming": Image.Resampling.HAMMING,
    "lanczos": Image.Resampling.LANCZOS,
}
INTERPOLATIONS = tuple(_FILTERS)


@dataclass(frozen=True, slots=True)
class Transform:
    """From a decoded picture to a model's input.

    Attributes:
        resize: geometry rule, see `Resize`.
        resize_px: (height, width) that the rule aims at.
        interpolation: Pillow filter by name, one of `INTERPOLATIONS`.
        crop_px: (height, width) of the centre crop, or None; where the picture is smaller it is padded.
        crop_rounding: where an odd crop starts.
        fill: R, G, B of the padding, 0..255.
        alpha: what becomes of transparency.
        rescale: arithmetic of the step to 0..1.
        rescale_factor: factor of `Rescale.FLOAT64_MULTIPLY`.
        mean, std: of each channel, in units of 0..1.
    """

    resize: Resize
    resize_px: tuple[int, int]
    interpolation: str
    crop_px: tuple[int, int] | None
    crop_rounding: Rounding
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    fill: tuple[int, int, int] = (0, 0, 0)
    alpha: Alpha = Alpha.DROP_FIRST
    rescale: Rescale = Rescale.FLOAT32_DIVIDE
    rescale_factor: float = 1 / 255

    @property
    def input_px(self) -> tuple[int, int]:
        """(height, width) of what the transform gives."""
        return self.crop_px or self.resize_px

    @property
    def keeps_alpha(self) -> bool:
        """Whether alpha has a say in the pixels, so that decoding should keep it."""
        return self.alpha is not Alpha.DROP_FIRST

    @property
    def identity(self) -> str:
        """One canonical string that names everything that changes the pixels, for fingerprints."""
        return canonical(asdict(self))

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> "Transform":
        """The inverse of `dataclasses.asdict` after a round trip through JSON."""
        return TypeAdapter(cls).validate_python(record)

    def for_input(self, height_px: int, width_px: int) -> "Transform":
        """The variant for another input size: the whole picture, squashed to it, nothing cropped.

        Made for dense features, where every pixel of the picture must be seen and the map must lie
        on the picture by a plain scaling. It is a choice of this project, not of the upstream libraries.
        """
        return replace(self, resize=Resize.SQUASH, resize_px=(height_px, width_px), crop_px=None)

    def pixels(self, image: Image.Image) -> np.ndarray:
        """Resize, crop and pad: uint8 [h, w, 3], C-contiguous.

        Args:
            image: a decoded picture: RGB, or with its alpha, which is then treated as upstream does.
        """
        if self.alpha is not Alpha.DROP_LAST and image.mode != "RGB":
            image = _on_white(image) if self.alpha is Alpha.WHITE_FIRST else image.convert("RGB")
        size = self._resized(image.width, image.height)
        window = self._window(*size)
        if size[0] * size[1] > _MAX_RESIZED_PIXELS and window is not None:
            image, window = self._resize_window(image, size, window)
        elif size != image.size:
            image = image.resize(size, resample=_FILTERS[self.interpolation])
        if window is not None and window != (0, 0, *image.size):
            image = self._crop(image, window)
        if image.mode != "RGB":
            image = image.convert("RGB")
        return np.asarray(image)

    def normalise(self, pixels: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """uint8 [h, w, 3] to float32 [3, h, w], by a table of the 256 values of each channel.

        Args:
            pixels: what `pixels` gave.
            out: float32 [3, h, w] to write into, C-contiguous (a row of a batch); made when None.
        """
        table = self.table()
        if out is None:
            out = np.empty((3, *pixels.shape[:2]), np.float32)
        for channel in range(3):
            # mode="clip" spares NumPy a buffered copy; every uint8 is inside the table anyway.
            np.take(table[channel], pixels[..., channel], out=out[channel], mode="clip")
        return out

    def apply(self, image: Image.Image, out: np.ndarray | None = None) -> np.ndarray:
        """A decoded picture to the model's input: float32 [3, h, w], normalised.

        Args:
            image: a decoded picture (`deponij.pipeline.pictures.decode`).
            out: see `normalise`.
        """
        return self.normalise(self.pixels(image), out)

    def table(self) -> np.ndarray:
        """float32 [3, 256]: what each of the 256 values of each channel becomes. Read-only."""
        return _table(self.rescale, self.rescale_factor, self.mean, self.std)

    def _resized(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) after resizing; never 0, where upstream would fail on very long pictures."""
        target_h, target_w = self.resize_px
        match self.resize:
            case Resize.NONE:
                return width, height
            case Resize.SQUASH:
                return target_w, target_h
            case Resize.SHORTEST:
                if width <= height:
                    return target_h, int(target_h * height / width)
                return int(target_h * width / height), target_h
            case Resize.COVER:
                ratio = min(height / target_h, width / target_w)
            case Resize.CONTAIN:
                ratio = max(height / target_h, width / target_w)
        return max(1, round(width / ratio)), max(1, round(height / ratio))

    def _window(self, width: int, height: int) -> tuple[int, int, int, int] | None:
        """(left, top, right, bottom) of the centre crop in the resized picture; negative where padded."""
        if self.crop_px is None:
            return None
        crop_h, crop_w = self.crop_px
        left, top = _start(width, crop_w, self.crop_rounding), _start(height, crop_h, self.crop_rounding)
        return left, top, left + crop_w, top + crop_h

    def _resize_window(
        self, image: Image.Image, size: tuple[int, int], window: tuple[int, int, int, int]
    ) -> tuple[Image.Image, tuple[int, int, int, int]]:
        """Resize only the part of the picture that `window` keeps; also the window within that part."""
        left, top = max(0, window[0]), max(0, window[1])
        right, bottom = min(size[0], window[2]), min(size[1], window[3])
        scale_x, scale_y = image.width / size[0], image.height / size[1]
        box = (left * scale_x, top * scale_y, right * scale_x, bottom * scale_y)
        part = image.resize((right - left, bottom - top), resample=_FILTERS[self.interpolation], box=box)
        return part, (window[0] - left, window[1] - top, window[2] - left, window[3] - top)

    def _crop(self, image: Image.Image, window: tuple[int, int, int, int]) -> Image.Image:
        inside = window[0] >= 0 and window[1] >= 0 and window[2] <= image.width and window[3] <= image.height
        if inside or not any(self.fill):
            return image.crop(window)  # Pillow fills with zeros outside the picture
        canvas = Image.new("RGB", (window[2] - window[0], window[3] - window[1]), self.fill)
        canvas.paste(image.convert("RGB"), (-window[0], -window[1]))
        return canvas


def _on_white(image: Image.Image) -> Image.Image:
    """RGB, with what is transparent laid on white as transformers' `convert_to_rgb` does."""
    if "A" not in image.getbands() and image.info.get("transparency") is None:
        return image.convert("RGB")
    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")


def _start(side: int, crop: int, rounding: Rounding) -> int:
    """First kept index of a side; negative where `crop` is larger and the picture is padded."""
    if rounding is Rounding.FLOOR:
        return (side - crop) // 2
    return round((side - crop) / 2) if side >= crop else -((crop - side) // 2)


@lru_cache(maxsize=64)
def _table(
    rescale: Rescale, factor: float, mean: tuple[float, float, float], std: tuple[float, float, float]
) -> np.ndarray:
    if rescale is Rescale.FLOAT32_DIVIDE:
        unit = np.arange(256, dtype=np.float32) / np.float32(255)
    else:
        unit = (np.arange(256, dtype=np.float64) * factor).astype(np.float32)
    means = np.asarray(mean, np.float32)[:, None]
    stds = np.asarray(std, np.float32)[:, None]
    table: np.ndarray = (unit[None] - means) / stds  # [3, 256]
    table.setflags(write=False)
    return table
