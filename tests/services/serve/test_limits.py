"""What is refused before it is decoded."""

import base64
import io
import struct
import zlib

import pytest
from PIL import Image

from deponij.services.serve.limits import (
    Limits,
    TooLargeError,
    TooManyPixelsError,
    check_pixels,
    picture_of_base64,
)
from deponij.store.errors import PictureError

LIMITS = Limits(upload_bytes=1000, picture_pixels=10_000)


def png_header(width: int, height: int) -> bytes:
    """A PNG that says how large it is, and little else."""
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0")), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    )


def test_a_body_has_room_for_a_picture_in_base64() -> None:
    assert LIMITS.body_bytes >= len(base64.b64encode(b"x" * 1000))


def test_base64() -> None:
    text = base64.b64encode(b"abc").decode()
    assert picture_of_base64(text, LIMITS) == b"abc"
    assert picture_of_base64(f"data:image/png;base64,{text}", LIMITS) == b"abc"
    for wrong in ("a", "%%%%", "YWJj\n!", "é", "data:image/png,abc", "../../etc/passwd"):
        with pytest.raises(PictureError, match="no Base64"):
            picture_of_base64(wrong, LIMITS)
    with pytest.raises(TooLargeError, match="1,001 bytes; 1,000 are allowed"):
        picture_of_base64(base64.b64encode(b"x" * 1001).decode(), LIMITS)


def test_pixels_by_the_header_alone() -> None:
    file = io.BytesIO()
    Image.new("L", (100, 100)).save(file, "PNG")
    check_pixels(file.getvalue(), "x.png", LIMITS)
    with pytest.raises(TooManyPixelsError, match="101 x 100 pixels"):
        check_pixels(png_header(101, 100), "x.png", LIMITS)
    # Above what Pillow itself lets through.
    with pytest.raises(PictureError, match="pixels"):
        check_pixels(png_header(50_000, 50_000), "x.png", LIMITS)
    with pytest.raises(PictureError, match="not a picture"):
        check_pixels(b"hello", "x.png", LIMITS)
