"""Many pictures in one: tiles in order, whole and in proportion."""

import base64
import io

from PIL import Image

from deponij.pipeline.reports.sheets import sprite


def test_tiles_lie_row_by_row() -> None:
    images = [Image.new("RGB", (64, 64), (i * 7, 255 - i * 7, 40)) for i in range(34)]
    found = sprite(images, 16)
    assert found is not None
    assert (found.n_columns, found.n_rows) == (32, 2)
    picture = Image.open(io.BytesIO(base64.b64decode(found.uri.split(",")[1])))
    assert picture.size == (32 * 16, 2 * 16)
    for i in (0, 31, 32, 33):
        pixel = picture.getpixel((i % 32 * 16 + 8, i // 32 * 16 + 8))
        assert all(abs(a - b) < 12 for a, b in zip(pixel, (i * 7, 255 - i * 7, 40), strict=True)), i


def test_long_pictures_lie_in_the_middle_of_their_tile() -> None:
    found = sprite([Image.new("RGB", (100, 20), (200, 0, 0))], 50)
    assert found is not None
    picture = Image.open(io.BytesIO(base64.b64decode(found.uri.split(",")[1])))
    assert picture.getpixel((25, 25))[0] > 180
    assert picture.getpixel((25, 25))[1] < 40
    assert min(picture.getpixel((25, 5))) > 200


def test_nothing() -> None:
    assert sprite([], 16) is None
