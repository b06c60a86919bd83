"""Decoding: every mode, orientation and kind of damage ends in upright 8-bit RGB or in a `PictureError`."""

import io
import random
import struct
import zlib
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps, PngImagePlugin, TiffImagePlugin, features

from deponij.pipeline.pictures import (
    DRAFT_MIN_PIXELS,
    FORMATS,
    MAX_PIXELS,
    Route,
    decode,
    is_picture_head,
    to_rgb,
    upright_size_px,
)
from deponij.store.errors import PictureError

ORIENTATION = 274


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def smooth(width: int, height: int) -> Image.Image:
    """A picture with structure at several scales, as photographs have, from formulas."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    planes = [
        128
        + 60 * np.sin(x / (7 + 20 * c)) * np.cos(y / (11 + 9 * c))
        + 50 * np.sin((x + y) / (width / (2 + c)))
        for c in range(3)
    ]
    return Image.fromarray(np.clip(np.stack(planes, -1), 0, 255).astype(np.uint8))


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image)


def test_rgb_png_comes_back_exactly() -> None:
    image = smooth(31, 17)
    decoded = decode(encoded(image, "PNG"))
    assert decoded.mode == "RGB"
    assert np.array_equal(pixels(decoded), pixels(image))


def test_alpha_is_dropped_and_kept_on_request() -> None:
    rgba = smooth(8, 6).convert("RGBA")
    rgba.putalpha(Image.linear_gradient("L").resize((8, 6)))
    data = encoded(rgba, "PNG")
    assert np.array_equal(pixels(decode(data)), pixels(rgba)[..., :3])
    kept = decode(data, keep_alpha=True)
    assert kept.mode == "RGBA"
    assert np.array_equal(pixels(kept), pixels(rgba))


@pytest.mark.parametrize("transparency", [None, 0, bytes([0, 128, 255])])
def test_palette_with_and_without_transparency(transparency: int | bytes | None) -> None:
    image = Image.new("P", (3, 1))
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.putdata([0, 1, 2])
    options = {} if transparency is None else {"transparency": transparency}
    decoded = decode(encoded(image, "PNG", **options))
    assert decoded.mode == "RGB"
    assert pixels(decoded).tolist() == [[[255, 0, 0], [0, 255, 0], [0, 0, 255]]]


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bit_grey_keeps_its_range(kind: str) -> None:
    # 257 * v is how 8 bits are widened to 16, so that v must come back.
    grey = Image.fromarray(np.array([[0, 257, 257 * 128, 65535]], dtype=np.uint16))
    assert pixels(decode(encoded(grey, kind)))[0, :, 0].tolist() == [0, 1, 128, 255]


def test_a_transparent_colour_of_sixteen_bit_grey_is_kept_on_request() -> None:
    grey = Image.fromarray(np.array([[0, 257, 258, 65535]], dtype=np.uint16))
    data = encoded(grey, "PNG", transparency=257)
    kept = decode(data, keep_alpha=True)
    assert pixels(kept)[0].tolist() == [[0, 0, 0, 255], [1, 1, 1, 0], [1, 1, 1, 255], [255, 255, 255, 255]]
    assert "transparency" not in decode(data).info


def test_crops_of_a_picture_with_a_transparent_colour_are_stored_without_it() -> None:
    """Else a crop, which is known by its pixels, would come back with transparency that its key does not name."""
    image = smooth(16, 8)
    data = encoded(image, "PNG", transparency=image.getpixel((3, 3)))
    crop = decode(data).crop((2, 2, 10, 8))
    assert decode(encoded(crop, "PNG"), keep_alpha=True).mode == "RGB"


def test_dark_sixteen_bit_grey_stays_dark() -> None:
    grey = Image.fromarray(np.full((4, 4), 200, dtype=np.uint16))
    assert pixels(decode(encoded(grey, "PNG"))).max() == 0


def test_big_endian_sixteen_bit_tiff() -> None:
    rows = np.array([[0, 65535]], dtype=">u2").tobytes()
    fields = [
        (256, 2),
        (257, 1),
        (258, 16),
        (259, 1),
        (262, 1),
        (273, 8),
        (277, 1),
        (278, 1),
        (279, len(rows)),
    ]
    entries = b"".join(struct.pack(">HHII", tag, 4, 1, value) for tag, value in fields)
    tiff = (
        b"MM\0*"
        + struct.pack(">I", 8 + len(rows))
        + rows
        + struct.pack(">H", len(fields))
        + entries
        + b"\0" * 4
    )
    assert pixels(decode(tiff))[0, :, 0].tolist() == [0, 255]


def test_cmyk_jpeg_becomes_rgb() -> None:
    red = Image.new("RGB", (16, 16), (250, 10, 10)).convert("CMYK")
    decoded = decode(encoded(red, "JPEG", quality=95))
    assert decoded.mode == "RGB"
    assert np.abs(pixels(decoded).astype(int) - (250, 10, 10)).max() <= 4


@pytest.mark.parametrize("mode", ["L", "LA", "1", "F", "I"])
def test_other_modes_become_rgb(mode: str) -> None:
    decoded = decode(encoded(smooth(9, 9).convert(mode), "TIFF"))
    assert (decoded.mode, decoded.size) == ("RGB", (9, 9))
    assert pixels(decoded).max() > 100


def test_float_grey_in_unit_range_is_scaled_and_nan_is_black() -> None:
    values = np.array([[0.0, 0.5, 1.0, np.nan]], dtype=np.float32)
    assert pixels(to_rgb(Image.fromarray(values)))[0, :, 0].tolist() == [0, 127, 255, 0]


def test_only_the_first_frame_of_an_animation_counts() -> None:
    first, second = Image.new("RGB", (4, 4), "red"), Image.new("RGB", (4, 4), "blue")
    decoded = decode(encoded(first, "GIF", save_all=True, append_images=[second]))
    assert pixels(decoded)[0, 0].tolist() == [255, 0, 0]


# The letters a-f lie in a picture of two rows, as stored; by TIFF 6.0 (tag 274), row 0 and column 0 of
# the file are the sides named in the comment, from which the upright picture follows by hand.
UPRIGHT = {
    1: ["abc", "def"],  # top, left
    2: ["cba", "fed"],  # top, right
    3: ["fed", "cba"],  # bottom, right
    4: ["def", "abc"],  # bottom, left
    5: ["ad", "be", "cf"],  # left, top
    6: ["da", "eb", "fc"],  # right, top
    7: ["fc", "eb", "da"],  # right, bottom
    8: ["cf", "be", "ad"],  # left, bottom
}


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_orientation_is_applied(orientation: int) -> None:
    stored = np.array([[ord(c) for c in row] for row in ("abc", "def")], dtype=np.uint8)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    data = encoded(Image.fromarray(stored).convert("RGB"), "PNG", exif=exif)
    upright = pixels(decode(data))[..., 0]
    assert ["".join(map(chr, row)) for row in upright] == UPRIGHT[orientation]
    assert upright_size_px(data) == upright.shape[::-1]


def with_chunk(png: bytes, chunk: bytes) -> bytes:
    """A PNG file with a further chunk (kind and content) behind its pixels."""
    end = png.rindex(b"IEND") - 4
    length, crc = struct.pack(">I", len(chunk) - 4), struct.pack(">I", zlib.crc32(chunk))
    return png[:end] + length + chunk + crc + png[end:]


def turned(image: Image.Image, carrier: str, orientation: int) -> bytes:
    """The picture with an orientation, as one of `CARRIERS` says it."""
    kind, _, how = carrier.partition(" ")
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    raw = exif.tobytes()
    xmp = f'<rdf:Description tiff:Orientation="{orientation}"/>'
    texts, tags = PngImagePlugin.PngInfo(), TiffImagePlugin.ImageFileDirectory_v2()
    texts.add_text("Raw profile type exif", f"\nexif\n{len(raw):8}\n{raw.hex()}\n", zip=True)
    xmp_texts = PngImagePlugin.PngInfo()
    xmp_texts.add_itxt("XML:com.adobe.xmp", xmp)
    tags[700], tags.tagtype[700] = xmp.encode(), 1
    options: dict[str, Any] = {
        "": {"exif": exif},
        "as text": {"pnginfo": texts},
        "xmp": {"PNG": {"pnginfo": xmp_texts}, "TIFF": {"tiffinfo": tags}}.get(kind, {"xmp": xmp.encode()}),
        "behind the pixels": {},
        "xmp behind the pixels": {},
    }.get(how, {"exif": exif, "compression": how})
    chunk = {
        "behind the pixels": b"eXIf" + raw.removeprefix(b"Exif\0\0"),
        "xmp behind the pixels": b"iTXtXML:com.adobe.xmp\0\0\0\0\0" + xmp.encode(),
    }.get(how)
    data = encoded(image, kind, **options)
    return data if chunk is None else with_chunk(data, chunk)


CARRIERS = [
    *("JPEG", "MPO", "PNG", "WEBP", "TIFF", *(["AVIF"] if features.check("avif") else [])),
    *("TIFF tiff_lzw", "TIFF tiff_adobe_deflate", "TIFF jpeg", "TIFF packbits"),
    *("PNG behind the pixels", "PNG as text", "PNG xmp", "PNG xmp behind the pixels"),
    *("JPEG xmp", "WEBP xmp", "TIFF xmp"),
]


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("carrier", CARRIERS)
def test_every_way_to_say_an_orientation_gives_pillows_upright_picture(
    carrier: str, orientation: int
) -> None:
    data = turned(smooth(64, 40), carrier, orientation)
    with Image.open(io.BytesIO(data)) as image:
        expected = ImageOps.exif_transpose(image)
    assert expected.size == ((40, 64) if orientation >= 5 else (64, 40))
    assert np.array_equal(pixels(decode(data)), pixels(expected))
    assert upright_size_px(data) == expected.size


@pytest.mark.parametrize("carrier", CARRIERS)
def test_what_is_made_of_an_upright_picture_is_not_turned_again(carrier: str) -> None:
    upright = decode(turned(smooth(64, 40), carrier, 6))
    for kind in ("PNG", "JPEG", "WEBP"):
        assert upright_size_px(encoded(upright, kind)) == decode(encoded(upright, kind)).size == (40, 64)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGBA", "CMYK", "I;16"])
@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_tiff_pictures_of_any_mode_are_turned_once(
    mode: str, compression: str | None, orientation: int
) -> None:
    grey = Image.fromarray(np.asarray(smooth(64, 40).convert("L")).astype(np.uint16) * 257)
    image = grey if mode == "I;16" else smooth(64, 40).convert(mode)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    options = {} if compression is None else {"compression": compression}
    data = encoded(image, "TIFF", exif=exif, **options)
    with Image.open(io.BytesIO(data)) as stored:
        expected = to_rgb(ImageOps.exif_transpose(stored))
    assert np.array_equal(pixels(decode(data)), pixels(expected))
    assert upright_size_px(data) == expected.size


def test_a_size_is_read_from_the_header_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    data = {carrier: turned(smooth(64, 40), carrier, 6) for carrier in CARRIERS}

    def refuse(*_: object) -> None:
        raise AssertionError("pixels were decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", refuse)
    assert {upright_size_px(one) for one in data.values()} == {(40, 64)}


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_orientation_of_a_drafted_jpeg_is_pillows(orientation: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    data = encoded(smooth(1280, 832), "JPEG", exif=exif)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).size
    drafted = decode(data, route=Route.DRAFT, input_px=(64, 64))
    assert upright_size_px(data) == expected
    assert drafted.size == (expected[0] // 4, expected[1] // 4)


@pytest.mark.parametrize("orientation", [0, 9, 77])
def test_unknown_orientations_are_left_alone(orientation: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    assert decode(encoded(smooth(6, 4), "PNG", exif=exif)).size == (6, 4)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize(
    "junk", [b"\xff" * 20, b"II", b"II*\0\x08\0\0\0\xff", b"MM\0*\0\0\0\x08\0\x01\x01\x12"]
)
@pytest.mark.filterwarnings("ignore")  # Pillow's own remarks on what it finds
def test_damaged_exif_does_not_cost_the_picture(kind: str, junk: bytes) -> None:
    data = encoded(smooth(16, 8), kind, exif=b"Exif\0\0" + junk)
    assert decode(data).size == upright_size_px(data) == (16, 8)


def reduced(image: Image.Image, size_px: int) -> np.ndarray:
    return pixels(image.resize((size_px, size_px), Image.Resampling.BICUBIC)).astype(float)


def test_draft_route_stays_close_to_the_full_one() -> None:
    # Measured with 12-megapixel photographs: mean difference 0.2 of 255, largest 2 (see the draft factor).
    data = encoded(smooth(2000, 1504), "JPEG", quality=90)
    drafted = decode(data, route=Route.DRAFT, input_px=(224, 224))
    full = decode(data)
    assert drafted.size == (1000, 752)
    difference = np.abs(reduced(drafted, 224) - reduced(full, 224))
    assert difference.mean() < 0.5
    assert difference.max() <= 4


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGB"])
def test_draft_route_reads_every_jpeg(mode: str) -> None:
    data = encoded(smooth(1200, 1000).convert(mode), "JPEG", progressive=mode == "RGB")
    drafted = decode(data, route=Route.DRAFT, input_px=(32, 32))
    assert (drafted.mode, drafted.size) == ("RGB", (150, 125))


def test_draft_route_reduces_multi_picture_jpegs_of_phones() -> None:
    data = encoded(smooth(1280, 960), "MPO", save_all=True, append_images=[smooth(640, 480)])
    assert decode(data, route=Route.DRAFT, input_px=(224, 224)).size == (640, 480)


def test_draft_route_leaves_small_and_other_pictures_alone() -> None:
    small = smooth(990, 1000)
    assert small.width * small.height < DRAFT_MIN_PIXELS
    large_png = encoded(smooth(1100, 1000), "PNG")
    for data in (encoded(small, "JPEG"), large_png):
        drafted = decode(data, route=Route.DRAFT, input_px=(32, 32))
        assert np.array_equal(pixels(drafted), pixels(decode(data)))


def test_icons_are_not_taken_for_another_format() -> None:
    """TGA files begin with no signature; this icon's header is also one of a TGA picture of 32 px."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (420, 420, 3), dtype=np.uint8))
    png = encoded(noise, "PNG")
    entry = struct.pack("<BBBBHHII", 0, 0, 0, 0, 1, 32, len(png), 22)
    icon = struct.pack("<HHH", 0, 1, 1) + entry + png
    with pytest.warns(UserWarning, match="not the expected size"):
        assert np.array_equal(pixels(decode(icon)), pixels(noise))


def test_one_pixel_wide_pictures() -> None:
    assert decode(encoded(smooth(1, 300), "PNG")).size == (1, 300)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("route", list(Route))
def test_truncated_pictures_are_refused(kind: str, route: Route) -> None:
    data = encoded(smooth(1100, 1000), kind)
    with pytest.raises(PictureError):
        decode(data[: len(data) // 2], route=route, input_px=(32, 32))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "the file is empty"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "an HTML or XML page"),
        (b"\n  <html>", "an HTML or XML page"),
        (b"\x00\x01\x02 no picture", "14 bytes"),
        (b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG drawing"),
        (b"%PDF-1.7\n", "a PDF document"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a picture"),
    ],
)
def test_what_is_no_picture_is_named(data: bytes, said: str) -> None:
    with pytest.raises(PictureError, match=said):
        decode(data)
    with pytest.raises(PictureError, match=said):
        upright_size_px(data)


@pytest.mark.parametrize(
    ("header", "tags"),
    [
        (b"", {50706: 0x00000401}),
        (b"", {254: 1, 330: 8}),
        (b"CR\2\0\0\0\0\0", {}),
    ],
    ids=["dng", "nef_and_arw", "cr2"],
)
def test_cameras_raw_files_are_refused_though_their_previews_could_be_read(
    header: bytes, tags: dict[int, int]
) -> None:
    """DNG by its version, NEF and ARW by a first page that says it is a small form of others, CR2 by its header."""
    start = 8 + len(header)
    fields = {256: 2, 257: 1, 258: 8, 259: 1, 262: 1, 273: 0, 277: 1, 278: 1, 279: 2} | tags
    fields[273] = start + 2 + 12 * len(fields) + 4  # where the pixels lie
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(fields.items()))
    directory = struct.pack("<H", len(fields)) + entries + bytes(4)
    data = b"II*\0" + struct.pack("<I", start) + header + directory + b"\x10\xf0"
    with Image.open(io.BytesIO(data)) as preview:
        assert pixels(preview).tolist() == [[16, 240]]
    with pytest.raises(PictureError, match="a camera's raw file, which is not read here: develop it"):
        decode(data)


def test_decompression_bombs_are_refused_before_they_unfold() -> None:
    side = 30_000
    assert side * side > MAX_PIXELS
    header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunks = (header, b"IDAT" + zlib.compress(bytes(1000)))
    bomb = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks
    )
    with pytest.raises(PictureError, match="decompression bomb"):
        decode(bomb)


def png_of_rows(
    n_rows: int, *, depth: int, colour: int, interlaced: bool, bits: int, size_px: tuple[int, int] = (9, 8)
) -> bytes:
    """A PNG file, all 1 bits, whose data end behind so many rows of those that it is written in."""
    width, height = size_px
    steps = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    rows = [
        b"\0" + b"\xff" * -(-len(range(x, width, x_step)) * bits // 8)
        for x, y, x_step, y_step in (steps if interlaced else [(0, 0, 1, 1)])
        for _ in range(y, height, y_step)
        if x < width
    ]
    chunks = [b"IHDR" + struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)]
    chunks += [b"PLTE" + b"\x50" * 768] if colour == 3 else []
    chunks += [b"IDAT" + zlib.compress(b"".join(rows[: len(rows) + n_rows])), b"IEND"]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks
    )


# Of odd height the last row is not the last that is written; one column is in some of the passes only.
@pytest.mark.parametrize(
    ("interlaced", "size_px"), [(False, (9, 8)), (True, (9, 8)), (True, (9, 7)), (True, (1, 5))]
)
@pytest.mark.parametrize(
    ("depth", "colour", "bits"),
    [(1, 0, 1), (8, 0, 8), (16, 0, 16), (8, 2, 24), (16, 2, 48), (4, 3, 4), (8, 4, 16), (8, 6, 32)],
)
def test_png_data_that_end_before_the_last_row_are_refused(
    depth: int, colour: int, bits: int, interlaced: bool, size_px: tuple[int, int]
) -> None:
    """All checksums are right; Pillow fills up with nothing."""
    kind: Any = {
        "depth": depth, "colour": colour, "interlaced": interlaced, "bits": bits, "size_px": size_px
    }  # fmt: skip
    whole = png_of_rows(99, **kind)
    assert pixels(decode(whole)).min() > 0
    for n_lacking in (1, 4):
        data = png_of_rows(-n_lacking, **kind)
        with Image.open(io.BytesIO(data)) as image:
            image.load()  # without a word
        with pytest.raises(PictureError, match="its data end before its last row"):
            decode(data)


@pytest.mark.parametrize("interlaced", [False, True])
def test_black_pictures_are_whole(interlaced: bool) -> None:
    lit = png_of_rows(99, depth=8, colour=2, interlaced=interlaced, bits=24)
    start = lit.index(b"IDAT") + 4
    rows = zlib.decompress(lit[start : lit.index(b"IEND") - 8]).replace(b"\xff", b"\0")
    black = b"IDAT" + zlib.compress(rows)
    data = lit[: start - 8] + struct.pack(">I", len(black) - 4) + black + struct.pack(">I", zlib.crc32(black))
    assert not pixels(decode(data + lit[lit.index(b"IEND") - 4 :])).any()


def test_tiff_strips_that_lack_are_refused() -> None:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[278] = 8
    whole = encoded(smooth(64, 64), "TIFF", tiffinfo=tags, strip_size=64 * 8 * 3)
    assert np.array_equal(pixels(decode(whole)), pixels(smooth(64, 64)))
    data = bytearray(whole)
    (start,) = struct.unpack_from("<I", data, 4)
    for at in range(start + 2, start + 2 + 12 * data[start], 12):
        tag, _, count = struct.unpack_from("<HHI", data, at)
        if tag in (273, 279):  # where the strips lie, and how long they are
            struct.pack_into("<I", data, at + 4, count // 2)
    with Image.open(io.BytesIO(data)) as image:
        image.load()  # without a word
        assert not pixels(image)[32:].any()
    with pytest.raises(PictureError, match="cover a part of it only"):
        decode(bytes(data))


def in_every_format() -> dict[str, bytes]:
    """A picture in every format that is read, some in several forms; one of each is turned."""
    image = smooth(96, 64)
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    palette = image.quantize(64)
    made = {
        "JPEG": encoded(image, "JPEG", exif=exif.tobytes()),
        "JPEG progressive": encoded(image, "JPEG", progressive=True),
        "PNG": encoded(image, "PNG", exif=exif.tobytes()),
        "PNG palette": encoded(palette, "PNG", transparency=3),
        "PNG animated": encoded(image, "PNG", save_all=True, append_images=[image.rotate(180)]),
        "GIF": encoded(palette, "GIF"),
        "GIF animated": encoded(palette, "GIF", save_all=True, append_images=[palette.rotate(180)]),
        "BMP": encoded(image, "BMP"),
        "DIB": encoded(image, "DIB"),
        "WEBP": encoded(image, "WEBP", exif=exif.tobytes()),
        "WEBP lossless": encoded(image, "WEBP", lossless=True),
        "TIFF": encoded(image, "TIFF", exif=exif),
        "TIFF deflate": encoded(image, "TIFF", compression="tiff_adobe_deflate"),
        "TIFF lzw": encoded(image, "TIFF", compression="tiff_lzw"),
        "TIFF jpeg": encoded(image, "TIFF", compression="jpeg"),
        "PPM": encoded(image, "PPM"),
        "TGA": encoded(image, "TGA"),
        "TGA run lengths": encoded(image, "TGA", compression="tga_rle"),
        "ICO": encoded(image, "ICO", sizes=[(96, 64)]),
        "ICO bitmap": encoded(image, "ICO", sizes=[(96, 64)], bitmap_format="bmp"),
    }
    made |= {"AVIF": encoded(image, "AVIF")} if features.check("avif") else {}
    made |= {"JPEG2000": encoded(image, "JPEG2000")} if features.check("jpg_2000") else {}
    return made


def strictly(data: bytes) -> np.ndarray | None:
    """Upright RGB as Pillow gives it that is asked for nothing before it loads; None where it refuses."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            image.load()
            with suppress(Exception):  # damaged metadata of sound pixels
                ImageOps.exif_transpose(image, in_place=True)
            image.info.pop("transparency", None)
            return pixels(image.convert("RGB"))
    except Exception:  # noqa: BLE001
        return None


def damaged(whole: bytes, rng: random.Random) -> bytes:
    """A few bytes of the header changed, 40 bytes anywhere overwritten, or the end cut off."""
    data = bytearray(whole)
    match rng.randrange(3):
        case 0:
            for _ in range(rng.randint(1, 6)):
                data[rng.randrange(min(len(data), rng.choice((64, 400, 10_000))))] = rng.randrange(256)
        case 1:
            at = rng.randrange(max(1, len(data) - 40))
            data[at : at + 40] = rng.randbytes(40)
        case 2:
            del data[rng.randrange(len(data)) :]
    return bytes(data)


@pytest.mark.filterwarnings("ignore")  # Pillow's own remarks on what it finds
@pytest.mark.parametrize("name", in_every_format())
def test_damage_is_refused_or_gives_what_pillow_gives(name: str) -> None:
    """Never a picture of which a part was not decoded: that Pillow refuses, unless it is asked twice."""
    whole, rng = in_every_format()[name], random.Random(name)
    assert np.array_equal(pixels(decode(whole)), strictly(whole))
    n_refused = 0
    for _ in range(300):
        data = damaged(whole, rng)
        try:
            got = decode(data)
        except PictureError:
            n_refused += 1
            continue
        expected = strictly(data)
        assert expected is not None and np.array_equal(pixels(got), expected)
    assert n_refused > 50


def deflated_tiff(values: np.ndarray, side: int, *, tiled: bool) -> tuple[bytes, list[int], list[int]]:
    """A grey TIFF in tiles, or in strips of so many rows; where these lie, and how long they are."""
    height, width = values.shape
    columns = range(0, width, side) if tiled else [0]
    blocks = [
        zlib.compress(values[y : y + side, x : x + (side if tiled else width)].tobytes())
        for y in range(0, height, side)
        for x in columns
    ]
    sizes = [len(block) for block in blocks]
    starts = [8 + sum(sizes[:k]) for k in range(len(blocks))]
    lists = 8 + sum(sizes)
    places = (322, side), (323, side), (324, lists), (325, lists + 4 * len(blocks))
    strips = (273, lists), (278, side), (279, lists + 4 * len(blocks))
    fields = sorted(
        [(256, width), (257, height), (258, 8), (259, 8), (262, 1), (277, 1), *(places if tiled else strips)]
    )
    entries = b"".join(
        struct.pack("<HHII", tag, 4, len(blocks) if tag in (273, 279, 324, 325) else 1, value)
        for tag, value in fields
    )
    start = struct.pack("<I", lists + 8 * len(blocks))
    numbers = struct.pack(f"<{2 * len(blocks)}I", *starts, *sizes)
    directory = struct.pack("<H", len(fields)) + entries + bytes(4)
    return b"II*\0" + start + b"".join(blocks) + numbers + directory, starts, sizes


@pytest.mark.parametrize("tiled", [False, True])
def test_damaged_blocks_of_a_deflated_tiff_are_refused(tiled: bool) -> None:
    """They have checksums, which libtiff does not look at."""
    values = pixels(smooth(128, 96).convert("L"))  # no noise, which deflate would store as it is
    whole, starts, sizes = deflated_tiff(values, 32, tiled=tiled)
    assert np.array_equal(pixels(decode(whole))[..., 0], values) and len(starts) == (12 if tiled else 3)
    rng, n_refused = random.Random(0), 0
    for _ in range(200):
        data, block = bytearray(whole), rng.randrange(len(starts))
        data[starts[block] + rng.randrange(sizes[block])] ^= 1 << rng.randrange(8)
        try:
            # Bits between the data's end and the checksum say nothing.
            assert np.array_equal(pixels(decode(bytes(data)))[..., 0], values)
        except PictureError:
            n_refused += 1
    assert n_refused > 190


def test_a_head_is_that_of_webp_within_riff_alone() -> None:
    assert is_picture_head(encoded(smooth(9, 9), "WEBP")[:32])
    assert not is_picture_head(b"a text: WEBP in it")


def test_a_tile_may_reach_far_past_a_small_picture() -> None:
    values = pixels(smooth(512, 256).convert("L"))
    whole, _, _ = deflated_tiff(values, 256, tiled=True)
    for tag, side, shorter in ((256, 512, 260), (257, 256, 10)):
        whole = whole.replace(struct.pack("<HHII", tag, 4, 1, side), struct.pack("<HHII", tag, 4, 1, shorter))
    assert np.array_equal(pixels(decode(whole))[..., 0], values[:10, :260])


def test_a_deflated_tiff_that_holds_far_more_than_its_pixels_is_refused() -> None:
    """Its checksum is not looked for behind gigabytes of zeros."""
    values = np.zeros((32, 64), dtype=np.uint8)
    whole, starts, sizes = deflated_tiff(values, 16, tiled=False)
    bomb = zlib.compress(bytes(1 << 27))
    data = bytearray(whole + bomb)
    place = data.rindex(struct.pack("<4I", *starts, *sizes))
    struct.pack_into("<4I", data, place, len(whole), starts[1], len(bomb), sizes[1])
    with pytest.raises(PictureError, match="hold more than its pixels"):
        decode(bytes(data))


@pytest.mark.parametrize("name", ["PNG", "PNG palette", "PNG animated", "ICO"])
def test_any_changed_bit_of_a_png_is_refused(name: str) -> None:
    """Checksums cover all of a PNG file but its signature, which it is known by; also of one within an icon."""
    whole, rng = in_every_format()[name], random.Random(1)
    start = whole.index(b"\x89PNG")
    for _ in range(400):
        data = bytearray(whole)
        data[rng.randrange(start, len(data))] ^= 1 << rng.randrange(8)
        with pytest.raises(PictureError):
            decode(bytes(data))
    for stop in [*rng.sample(range(len(whole)), 100), *range(len(whole) - 20, len(whole))]:
        with pytest.raises(PictureError):
            decode(whole[:stop])


def test_the_damaged_part_of_a_png_is_named_in_words() -> None:
    data = bytearray(in_every_format()["PNG"])
    data[data.index(b"IDAT") + 10] ^= 1
    with pytest.raises(PictureError, match="the checksum of its part 'IDAT' does not agree"):
        decode(bytes(data))
