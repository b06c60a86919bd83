"""Bytes to pixels: the one place where pictures are decoded.

A decode *route* changes pixels, so its name is part of a feature's identity. Routes:

- `full`: Pillow decodes every pixel.
- `draft`: JPEG pictures of at least `DRAFT_MIN_PIXELS` are decoded at the smallest of the sizes
  1/1, 1/2, 1/4, 1/8 that libjpeg offers at which both sides stay at least `DRAFT_FACTOR` times
  the model's input. All other pictures are decoded as in `full`.

What lives elsewhere: resizing and normalising (`deponij.pipeline.backbones.transform`).
"""

import io
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from deponij.store.errors import PictureError

DRAFT_FACTOR = 2
DRAFT_MIN_PIXELS = 1_000_000
# Larger pictures are refused as decompression bombs (a 20,000 x 20,000 photograph fits).
MAX_PIXELS = 400_000_000
Image.MAX_IMAGE_PIXELS = MAX_PIXELS // 2  # Pillow raises at twice its own limit
# Raster formats only: others that Pillow knows run programs (EPS) or hold no picture of their own.
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "DIB", "WEBP", "TIFF", "PPM", "AVIF", "JPEG2000", "TGA", "ICO")
# A JPEG file with a second picture behind the first, as many phones write it, opens as MPO.
_DRAFTABLE = ("JPEG", "MPO")
# EXIF's orientations: what has to be done to see the picture upright (TIFF 6.0, tag 274).
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SWAPS_SIDES = (5, 6, 7, 8)
# Pillow's format plug-ins raise all of these for damaged files.
_DAMAGED = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    MemoryError,
    ZeroDivisionError,
    RuntimeError,
    struct.error,
    zlib.error,
)


class Route(StrEnum):
    """How encoded pictures become pixels; see the module's text."""

    FULL = "full"
    DRAFT = "draft"

    @property
    def identity(self) -> str:
        """The route with everything that changes its pixels, for a feature's identity."""
        if self is Route.FULL:
            return "pillow:full"
        return f"pillow:draft(factor={DRAFT_FACTOR},min_pixels={DRAFT_MIN_PIXELS})"


def decode(
    data: bytes,
    *,
    route: Route = Route.FULL,
    input_px: tuple[int, int] | None = None,
    keep_alpha: bool = False,
) -> Image.Image:
    """Decode one picture to upright 8-bit RGB.

    EXIF orientation is applied; alpha is dropped; palettes, CMYK and grey become RGB; 16-bit grey is
    scaled to 8 bits.

    Args:
        data: encoded bytes of any format that Pillow reads.
        route: see the module's text.
        input_px: (height, width) of the model's input, needed by `Route.DRAFT`.
        keep_alpha: give pictures with transparency (palettes too) as RGBA, for transforms in which
            it has a say (`Transform.keeps_alpha`).

    Raises:
        PictureError: not a picture, truncated, damaged or larger than `MAX_PIXELS`.
    """
    with _refusals(data), Image.open(io.BytesIO(data), formats=FORMATS) as image:
        if route is Route.DRAFT and input_px is not None and image.format in _DRAFTABLE:
            _draft(image, input_px)
        turn = _UPRIGHT.get(_orientation(image))
        image.load()
        image.info.pop("transparency", None)  # of palettes; Pillow would warn that it is dropped
        upright = image.convert("RGBA") if keep_alpha and image.has_transparency_data else to_rgb(image)
        return upright if turn is None else upright.transpose(turn)


def upright_size_px(data: bytes) -> tuple[int, int]:
    """(width, height) of a picture after EXIF orientation, from its header alone.

    Raises:
        PictureError: not a picture, or larger than `MAX_PIXELS`. Damage behind the header goes unseen.
    """
    with _refusals(data), Image.open(io.BytesIO(data), formats=FORMATS) as image:
        width, height = image.size
        return (height, width) if _orientation(image) in _SWAPS_SIDES else (width, height)


def to_rgb(image: Image.Image) -> Image.Image:
    """Any Pillow mode to 8-bit RGB; 16-bit and float grey keep their tonal range."""
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I;16") or image.mode == "I":
        grey = np.asarray(image).astype(np.int64)
        # PNG and TIFF 16-bit grey may arrive as mode I; 65535 / 257 = 255.
        eight = grey // 257 if grey.max(initial=0) > 255 or image.mode != "I" else grey
        return Image.fromarray(np.clip(eight, 0, 255).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        values = np.nan_to_num(np.asarray(image, dtype=np.float32))
        scale = 255.0 if values.max(initial=0.0) <= 1.0 else 1.0
        return Image.fromarray(np.clip(values * scale, 0, 255).astype(np.uint8)).convert("RGB")
    return image.convert("RGB")


def _orientation(image: Image.Image) -> int:
    """EXIF's orientation, 1 where there is none; a damaged EXIF block does not cost the picture."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except _DAMAGED:
        return 1
    return value if isinstance(value, int) else 1


def _draft(image: Image.Image, input_px: tuple[int, int]) -> None:
    width, height = image.size
    if width * height < DRAFT_MIN_PIXELS:
        return
    # Orientation may swap the sides, so both must clear the larger need.
    need = DRAFT_FACTOR * max(input_px)
    for divisor in (8, 4, 2):
        if min(width, height) // divisor >= need:
            image.draft("RGB", (width // divisor, height // divisor))
            return


@contextmanager
def _refusals(data: bytes) -> Iterator[None]:
    """What Pillow says about bytes that it cannot read, as one kind of error."""
    try:
        yield
    except UnidentifiedImageError as error:
        raise PictureError(f"not a picture: {_looks_like(data)}") from error
    except Image.DecompressionBombError as error:
        raise PictureError(
            f"picture has more than {MAX_PIXELS:,} pixels; it may be a decompression bomb"
        ) from error
    except _DAMAGED as error:
        raise PictureError(f"picture cannot be decoded: {error}") from error


def _looks_like(data: bytes) -> str:
    if not data:
        return "the file is empty"
    head = data[:64].lstrip().lower()
    if head.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "it is an HTML or XML page"
    return f"{len(data):,} bytes that begin with {data[:8]!r}"
