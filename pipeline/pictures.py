"""Bytes to pixels: the one place where pictures are decoded.

Whatever changes the pixels of a format raises its version in `deponij.store.keys.DECODERS`, so that rows made of the
earlier ones are unknown. A decode *route* changes pixels, so its name is part of a feature's identity. Routes:

- `full`: Pillow decodes every pixel.
- `draft`: JPEG pictures of at least `DRAFT_MIN_PIXELS` are decoded at the smallest of the sizes
  1/1, 1/2, 1/4, 1/8 that libjpeg offers at which both sides stay at least `DRAFT_FACTOR` times
  the model's input. All other pictures are decoded as in `full`.

Of animations and files of several pages the first picture counts.

What lives elsewhere: resizing and normalising (`deponij.pipeline.backbones.transform`).
"""

import io
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum

import numpy as np
from PIL import ExifTags, IcoImagePlugin, Image, UnidentifiedImageError

from deponij.store.errors import PictureError, blame_nothing
from deponij.store.keys import key_of_bytes

DRAFT_FACTOR = 2
DRAFT_MIN_PIXELS = 1_000_000
# Larger pictures are refused as decompression bombs (a 20,000 x 20,000 photograph fits).
MAX_PIXELS = 400_000_000
Image.MAX_IMAGE_PIXELS = MAX_PIXELS // 2  # Pillow raises at twice its own limit
# Raster formats only: others that Pillow knows run programs (EPS) or hold no picture of their own. They are tried in
# this order; TGA begins with nothing to know it by, and would take icons for its own.
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "DIB", "WEBP", "TIFF", "PPM", "AVIF", "JPEG2000", "ICO", "TGA")
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
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_BLOCK_BYTES = 1 << 20
# Of the PNG specification: channels by colour type; of Adam7's passes x and y of the first pixel, and the steps.
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_PNG_PASSES = (
    *((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2)),
    (0, 1, 1, 2),
)
# Chunks of PNG files that can hold an orientation: EXIF, or XMP and EXIF as texts.
_PNG_ORIENTATION = (b"eXIf", b"iTXt", b"tEXt", b"zTXt")
# Of a file, for `is_picture_head`.
HEAD_BYTES = 32
# How pictures that are read begin, where that can be nothing else; at 4, as in AVIF and HEIC, the length stands before.
_HEADS = (b"\xff\xd8\xff", _PNG_SIGNATURE, b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*", b"\0\0\0\x0cjP  ")
_TO_JPEG = "convert it to JPEG or PNG"
_HEIC = (
    "a HEIC picture, as phones write them, which is not read here: install ImageMagick and run "
    "`magick mogrify -format jpg *.heic`, or let the phone write JPEG"
)
_RAW = "a camera's raw file, which is not read here: develop it to JPEG or 16-bit TIFF, for example with darktable"
# What people take for pictures and is not read, by what stands at a place in its first bytes.
_UNREAD = (
    *(
        (4, b"ftyp" + brand, _HEIC)
        for brand in (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")
    ),
    *((0, head, _RAW) for head in (b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"IIU\0")),
    (4, b"ftypcrx ", _RAW),
    (0, b"\0\0\0\x0cJXL ", f"a JPEG XL picture, which is not read here: {_TO_JPEG}"),
    (0, b"\xff\x0a", f"a JPEG XL picture, which is not read here: {_TO_JPEG}"),
    (0, b"8BPS", f"a Photoshop document, which is not read here: {_TO_JPEG}"),
    (0, b"%PDF", "a PDF document, which may have many pages: export them as PNG"),
)
# Tags of TIFF; raw files are known by DNGVersion, or by a first page that is a small form of others below it.
_COMPRESSION, _DEFLATE = 259, (8, 32946)
_STRIPS, _TILES = (273, 279), (324, 325)  # where they lie, and how long they are
_TIFF_PIXEL_BYTES = 16  # four 32-bit numbers
_TIFF_TILE_BYTES = 1 << 26  # a tile may reach far past a small picture
_DNG_VERSION, _NEW_SUBFILE_TYPE, _SUB_IFDS = 50706, 254, 330
_CR2 = b"\x10\0\0\0CR\2\0"
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
    with _opened(data) as image:
        if route is Route.DRAFT and input_px is not None and image.format in _DRAFTABLE:
            _draft(image, input_px)
        png = _png_of(image, data)
        if png is not None:
            _check_png(png)
        if image.format == "TIFF":
            _check_tiff(image, data)
        # Before anything is asked: metadata may lie behind the pixels, and TIFF pictures turn as they are loaded.
        image.load()
        if png is not None and _may_lack_rows(image):
            _check_png_rows(png)
        turn = _UPRIGHT.get(_orientation(image))
        upright = _to_rgba(image) if keep_alpha and image.has_transparency_data else to_rgb(image)
        return upright if turn is None else upright.transpose(turn)


def upright_size_px(data: bytes) -> tuple[int, int]:
    """(width, height) of a picture after EXIF orientation, by its header and metadata alone.

    Raises:
        PictureError: not a picture, or larger than `MAX_PIXELS`. Damage of the pixels goes unseen.
    """
    with _opened(data) as image:
        width, height = image.size
        swaps = _orientation(image) in _SWAPS_SIDES
        if image.format == "PNG":
            with _opened(_metadata_first(data)) as ordered:
                swaps = _orientation(ordered) in _SWAPS_SIDES
        # Pillow states the upright size of a TIFF picture by its tag, but not by its XMP.
        if image.format == "TIFF" and ExifTags.Base.Orientation in getattr(image, "tag_v2", {}):
            swaps = False
        return (height, width) if swaps else (width, height)


def key_of_picture(data: bytes) -> str:
    """Key of a whole picture, by its bytes and its format's decoding (`deponij.store.keys.DECODERS`).

    What is no picture has a key too, that of its bytes.
    """
    try:
        with _opened(data) as image:
            return key_of_bytes(data, image.format or "")
    except PictureError:
        return key_of_bytes(data)


def is_picture_head(head: bytes) -> bool:
    """Whether a file that begins with these `HEAD_BYTES` is a picture for sure, be it one that is read here or not."""
    is_read = head.startswith(_HEADS) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")
    is_avif = head[4:12] in (b"ftypavif", b"ftypavis")
    # Two bytes are too few to know JPEG XL by, and PDF documents lie beside pictures as papers.
    unread = (one for one in _UNREAD if len(one[1]) > 2 and one[1] != b"%PDF")
    return is_read or is_avif or any(head.startswith(start, at) for at, start, _ in unread)


def to_rgb(image: Image.Image) -> Image.Image:
    """Any Pillow mode to 8-bit RGB; 16-bit and float grey keep their tonal range, transparency is dropped."""
    # Else Pillow would warn that it is dropped, or write it into the crops of this picture.
    image.info.pop("transparency", None)
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


def _to_rgba(image: Image.Image) -> Image.Image:
    """A picture with any kind of transparency to 8-bit RGBA."""
    if not image.mode.startswith("I"):
        return image.convert("RGBA")
    seen = np.asarray(image) != image.info["transparency"]
    rgba = to_rgb(image)
    rgba.putalpha(Image.fromarray(np.where(seen, 255, 0).astype(np.uint8)))
    return rgba


def _orientation(image: Image.Image) -> int:
    """EXIF's orientation, 1 where there is none; a damaged EXIF block does not cost the picture."""
    try:
        # PNG pictures' own `getexif` loads their pixels, which is no place for it: what then goes wrong would be lost.
        value = Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1)
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


def _png_of(image: Image.Image, data: bytes) -> bytes | None:
    """The PNG file that a picture is, or that an icon holds it as; None for any other."""
    start = image.ico.entry[0].offset if isinstance(image, IcoImagePlugin.IcoImageFile) else 0
    return data[start:] if data.startswith(_PNG_SIGNATURE, start) else None


def _check_png(data: bytes) -> None:
    """Every chunk against its checksum: Pillow passes over those of the pixels.

    Raises:
        OSError: one does not agree, or the file is cut off.
    """
    for kind, start, stop in _png_chunks(data):
        if zlib.crc32(memoryview(data)[start - 4 : stop]) != int.from_bytes(data[stop : stop + 4]):
            raise OSError(f"the checksum of its part {kind.decode('latin-1')!r} does not agree")


def _may_lack_rows(image: Image.Image) -> bool:
    """Whether the data of a PNG picture may have ended early: its last row is empty, or did not come last."""
    width, height = image.size
    return "interlace" in image.info or image.crop((0, height - 1, width, height)).getbbox() is None


def _check_png_rows(data: bytes) -> None:
    """That the pixels' data hold all rows: Pillow leaves those that lack empty, without a word.

    Raises:
        OSError: there are fewer.
        zlib.error: damaged.
    """
    width, height, depth, colour, interlaced = struct.unpack_from(">IIBBxxB", data, len(_PNG_SIGNATURE) + 8)
    n_wanted, bits = 0, depth * _PNG_CHANNELS[colour]
    for x, y, x_step, y_step in _PNG_PASSES if interlaced else [(0, 0, 1, 1)]:
        n_columns, n_rows = len(range(x, width, x_step)), len(range(y, height, y_step))
        n_wanted += n_rows * (1 + (n_columns * bits + 7) // 8) if n_columns else 0
    packed = b"".join(data[start:stop] for kind, start, stop in _png_chunks(data) if kind == b"IDAT")
    if _inflated_bytes(packed, n_wanted) < n_wanted:
        raise OSError("its data end before its last row")


def _check_tiff(image: Image.Image, data: bytes) -> None:
    """That a TIFF picture's strips or tiles cover it, where Pillow leaves the rest empty, and their checksums agree.

    Raises:
        OSError: they do not cover it, are cut off, or hold far more.
        zlib.error: one is damaged.
    """
    n_pixels = sum((x1 - x0) * (y1 - y0) for _, (x0, y0, x1, y1), *_ in getattr(image, "tile", ()))
    if n_pixels < image.width * image.height:
        raise OSError("its strips or tiles cover a part of it only")
    tags = getattr(image, "tag_v2", {})
    if tags.get(_COMPRESSION) in _DEFLATE:
        of_strips = [tags[tag] for tag in (_STRIPS if _STRIPS[0] in tags else _TILES)]
        for start, n_bytes in zip(*of_strips, strict=True):
            # libtiff takes what it needs and checks no sum. A bomb is what holds more than pixels can take.
            limit = _TIFF_PIXEL_BYTES * n_pixels + _TIFF_TILE_BYTES
            if _inflated_bytes(data[start : start + n_bytes], limit) >= limit:
                raise OSError("its strips or tiles hold more than its pixels")


def _inflated_bytes(packed: bytes, limit: int) -> int:
    """How many bytes were deflated, counted until there are so many; their checksum is tested where it is reached.

    Raises:
        zlib.error: damaged.
        OSError: cut off before.
    """
    stream, n_bytes = zlib.decompressobj(), 0
    while not stream.eof and n_bytes < limit:
        block = stream.decompress(packed, _BLOCK_BYTES)
        packed, n_bytes = stream.unconsumed_tail, n_bytes + len(block)
        if not block and not packed:
            raise OSError("its data are cut off")
    return n_bytes


def _metadata_first(data: bytes) -> bytes:
    """A PNG file with what may state an orientation before its pixels, where opening reads it."""
    chunks = list(_png_chunks(data))
    pixels = [kind for kind, _, _ in chunks].index(b"IDAT")
    late = [data[start - 8 : stop + 4] for kind, start, stop in chunks[pixels:] if kind in _PNG_ORIENTATION]
    place = chunks[pixels][1] - 8
    return data[:place] + b"".join(late) + data[place:] if late else data


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Kind of each chunk of a PNG file, where its content begins and where it ends.

    Raises:
        OSError: the file is cut off.
    """
    kind, start = b"", len(_PNG_SIGNATURE)
    while kind != b"IEND":
        length, kind = int.from_bytes(data[start : start + 4]), data[start + 4 : start + 8]
        stop = start + 8 + length
        if stop + 4 > len(data):
            raise OSError("image file is truncated")
        yield kind, start + 8, stop
        start = stop + 4


@contextmanager
def _opened(data: bytes) -> Iterator[Image.Image]:
    """The picture, its header read; what Pillow says about bytes that it cannot read, as one kind of error."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.format == "TIFF" and _is_raw(image, data):
                raise PictureError(f"not a picture: it is {_RAW}")
            yield image
    except UnidentifiedImageError as error:
        raise PictureError(f"not a picture: {_looks_like(data)}") from error
    except Image.DecompressionBombError as error:
        raise PictureError(
            f"picture has more than {MAX_PIXELS:,} pixels; it may be a decompression bomb"
        ) from error
    except _DAMAGED as error:
        blame_nothing(error, "a picture cannot be decoded")
        raise PictureError(f"picture cannot be decoded: {error}") from error


def _is_raw(image: Image.Image, data: bytes) -> bool:
    """Whether a TIFF file is a camera's raw file (DNG, NEF, ARW, CR2 …), whose first page is a preview."""
    tags = getattr(image, "tag_v2", {})
    is_preview = tags.get(_NEW_SUBFILE_TYPE) == 1 and _SUB_IFDS in tags
    return is_preview or _DNG_VERSION in tags or data.startswith(_CR2, 4)


def _looks_like(data: bytes) -> str:
    if not data:
        return "the file is empty"
    for at, start, what in _UNREAD:
        if data.startswith(start, at):
            return f"it is {what}"
    head = data[:1000].lstrip().lower()
    if b"<svg" in head:
        return "it is an SVG drawing, which has no pixels: export it as PNG"
    if head.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "it is an HTML or XML page"
    return f"{len(data):,} bytes that begin with {data[:8]!r}"
