"""What a request may hold, and what is checked before anything is decoded."""

import base64
import binascii
from dataclasses import dataclass

from deponij.pipeline.pictures import upright_size_px
from deponij.store.errors import DataError, PictureError

# Lists of item ids in filters, beside a picture.
_SLACK_BYTES = 1 << 20


class TooLargeError(DataError):
    """A picture of more bytes than are allowed."""


class TooManyPixelsError(PictureError):
    """A picture that would decode to more pixels than are allowed."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of requests.

    Attributes:
        upload_bytes: of one encoded picture.
        picture_pixels: of one decoded picture.
        top: hits.
        terms, filters: of one query.
        values: in the lists of all its filters.
        text_chars: of words.
        id_chars: of an item id.
    """

    upload_bytes: int = 16 << 20
    picture_pixels: int = 64_000_000
    top: int = 500
    terms: int = 8
    filters: int = 16
    values: int = 5000
    text_chars: int = 1000
    id_chars: int = 1000

    @property
    def body_bytes(self) -> int:
        """Of a request: a picture in Base64 and some words."""
        return self.upload_bytes * 4 // 3 + _SLACK_BYTES


def picture_of_base64(text: str, limits: Limits) -> bytes:
    """Bytes of an encoded picture, given as Base64 or as a data URL of it.

    Raises:
        PictureError: not Base64.
        TooLargeError: more bytes than allowed.
    """
    start = text.find(";base64,", 0, 100) + len(";base64,") if text.startswith("data:") else 0
    try:
        content = base64.b64decode(text[start:], validate=True)
    except (binascii.Error, ValueError) as error:
        raise PictureError(f"the picture is no Base64: {error}") from error
    check_upload(content, limits)
    return content


def check_upload(content: bytes, limits: Limits) -> None:
    """Refuse a picture that has too many bytes.

    Raises:
        TooLargeError: more than `upload_bytes`.
    """
    if len(content) > limits.upload_bytes:
        raise TooLargeError(
            f"the picture has {len(content):,} bytes; {limits.upload_bytes:,} are allowed, so send a smaller one"
        )


def check_pixels(content: bytes, name: str, limits: Limits) -> None:
    """Refuse a picture that would decode to too many pixels, by its header alone.

    Raises:
        PictureError: no picture.
        TooManyPixelsError: more than `picture_pixels`.
    """
    try:
        width_px, height_px = upright_size_px(content)
    except PictureError as error:
        raise PictureError(f"{name}: {error}") from error
    if width_px * height_px > limits.picture_pixels:
        raise TooManyPixelsError(
            f"{name}: {width_px:,} x {height_px:,} pixels; {limits.picture_pixels:,} are allowed, so send a smaller one"
        )
