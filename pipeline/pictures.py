"""Bytes to pixels: the one place where pictures are decoded.

A decode *route* changes pixels, so its name is part of a feature's identity. Routes:

- `full`: Pillow decodes every pixel.
- `draft`: JPEG pictures of at least `DRAFT_MIN_PIXELS` are decoded at the smallest of the sizes
  1/1, 1/2, 1/4, 1/8 that libjpeg offers at which both sides stay at least `DRAFT_FACTOR` times
  the model's input. All other pictures are decoded as in `full`.

What lives elsewhere: resizing and normalising (`pipeline.backbones.transform`).
"""

import io
from enum import StrEnum

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from store.errors import PictureError

DRAFT_FACTOR = 2
DRAFT_MIN_PIXELS = 1_000_000
# Larger pictures are refused as decompression bombs (a 20,000 x 20,000 photograph fits).
MAX_PIXELS = 400_000_000
Image.MAX_IMAGE_PIXELS = MAX_PIXELS // 2  # Pillow raises at twice its own limit


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


def decode(data: bytes, *, route: Route = Route.FULL, input_px: tuple[int, int] | None = None) -> Image.Image:
    """Decode one picture to upright 8-bit RGB.

    EXIF orientation is applied; alpha is dropped (as open_clip and transformers do); palettes,
    CMYK and grey become RGB; 16-bit grey is scaled to 8 bits.

    Args:
        data: encoded bytes of any format that Pillow reads.
        route: see the module's text.
        input_px: (height, width) of the model's input, needed by `Route.DRAFT`.

    Raises:
        PictureError: not a picture, truncated, damaged or larger than `MAX_PIXELS`.
    """
    try:
        image = Image.open(io.BytesIO(data))
        if route is Route.DRAFT and input_px is not None and image.format == "JPEG":
            _draft(image, input_px)
        image.load()
        return to_rgb(ImageOps.exif_transpose(image))
    except UnidentifiedImageError as error:
        raise PictureError(f"not a picture: {_looks_like(data)}") from error
    except Image.DecompressionBombError as error:
        raise PictureError(f"picture has more than {MAX_PIXELS:,} pixels; it may be a decompression bomb") from error
    # Pillow's format plug-ins raise all of these for damaged files.
    except (OSError, ValueError, SyntaxError, EOFError, IndexError, TypeError, OverflowError, MemoryError) as error:
        raise PictureError(f"picture cannot be decoded: {error}") from error


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


def _looks_like(data: bytes) -> str:
    if not data:
        return "the file is empty"
    head = data[:64].lstrip().lower()
    if head.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "it is an HTML or XML page"
    return f"{len(data):,} bytes that begin with {data[:8]!r}"
