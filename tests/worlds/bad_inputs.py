"""A corpus of inputs that are wrong, odd or hostile, each with the command that meets it and what has to come of it.

`CASES` and `PARAMS` name them all: pictures, COCO files, Parquet files, tables, depots, views, items, params. What tools
export wrongly is in `tests/contracts/test_source_bad_cases.py`. A case is refused (status 1 or 2), or done with failures
recorded (3) or without (0), always with words that say what was wrong; never a traceback.
"""

import gzip
import io
import json
import os
import pickle
import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from depot_world import CLIP, keys_of
from PIL import Image, ImageCms

from deponij.store.sealed import sealed
from deponij.store.shard import row_checksums
from deponij.store.view import write_view

REFUSED, USAGE, SOME_FAILED, DONE = 1, 2, 3, 0


@dataclass(frozen=True)
class Case:
    """One bad input.

    Attributes:
        make: writes it into an empty folder.
        argv: the command, run in that folder.
        status: of the command.
        words: a regular expression that what it says has to hold.
    """

    make: Callable[[Path], Any]
    argv: tuple[str, ...]
    status: int
    words: str = ""


CASES: dict[str, Case] = {}


def _add(name: str, case: Case) -> None:
    assert name not in CASES, name
    CASES[name] = case


def _png(width: int = 8, height: int = 8, mode: str = "RGB", **options: Any) -> bytes:
    return _saved(Image.new(mode, (width, height)), "PNG", **options)


def _saved(picture: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png_head(width: int, height: int, *more: bytes) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = (_chunk(b"IHDR", head), *more, _chunk(b"IDAT", zlib.compress(b"\0" * 64)), _chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _flip(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 0x55]) + data[place + 1 :]


# --- pictures ---------------------------------------------------------------------------------

_NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8))
_JPEG = _saved(_NOISE, "JPEG")
_EXIF = Image.Exif()
_EXIF[274] = 99
_FRAMES = [Image.new("RGB", (8, 8), (one, 0, 0)) for one in (10, 200)]
# Name with its ending -> content, and words of the failure ("" where it can be read).
PICTURES: Mapping[str, tuple[bytes, str]] = {
    "empty.png": (b"", "."),
    "text.jpg": (b"this is a text\n", "."),
    "page.png": (b"<!doctype html><title>404</title>", "."),
    "outline.png": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "."),
    "program.png": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n(x) = quit\n", "."),
    "document.jpg": (b"%PDF-1.4\n%%EOF\n", "."),
    "archive.png": (b"PK\x03\x04" + bytes(60), "."),
    "pickle.jpg": (pickle.dumps({"a": 1}), "."),
    "half.png": (_saved(_NOISE, "PNG")[:2000], "."),
    "flipped.png": (_flip(_saved(_NOISE, "PNG"), 1000), "."),
    "half.jpg": (_JPEG[: len(_JPEG) // 2], "."),
    "head.jpg": (_JPEG[:20], "."),
    "bomb.png": (_png_head(65535, 65535), "."),
    "no width.png": (_png_head(0, 8), "."),
    "no pixels.png": (_png_head(64, 64), "."),
    "head.gif": (b"GIF89a\x08\0\x08\0\0\0\0;", "."),
    "half.webp": (_saved(_NOISE, "WEBP")[:200], "."),
    "half.jp2": (_saved(_NOISE, "JPEG2000")[:120], "."),
    "none.ico": (b"\0\0\1\0\0\0", "."),
    "huge.ppm": (b"P6\n99999999 99999999\n255\n" + bytes(40), "."),
    "huge.bmp": (
        b"BM"
        + struct.pack("<IHHI", 60, 0, 0, 54)
        + struct.pack("<IiiHHIIiiII", 40, 2**30, 2**30, 1, 24, *[0] * 6),
        ".",
    ),
    "loop.tif": (b"II*\0\x08\0\0\0" + struct.pack("<H", 0) + struct.pack("<I", 8), "."),
    "heic.jpg": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40), "."),
    "text chunk.png": (_png_head(4, 4, _chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1 << 26)))), "."),
    "sixteen bits.png": (_saved(Image.fromarray(np.full((8, 8), 40_000, np.uint16)), "PNG"), ""),
    "one bit.png": (_png(mode="1"), ""),
    "grey and alpha.png": (_png(mode="LA"), ""),
    "palette.png": (_saved(Image.new("P", (8, 8)), "PNG", transparency=0), ""),
    "cmyk.jpg": (_saved(Image.new("CMYK", (8, 8)), "JPEG"), ""),
    "dot.png": (_png(1, 1), ""),
    "line.png": (_png(1, 4000), ""),
    "moving.gif": (_saved(_FRAMES[0], "GIF", save_all=True, append_images=_FRAMES[1:]), ""),
    "turned nowhere.jpg": (_saved(_NOISE, "JPEG", exif=_EXIF), ""),
    "broken exif.jpg": (_saved(_NOISE, "JPEG", exif=b"Exif\0\0MM\0*\0\0\xff\xff"), ""),
    "broken profile.png": (_saved(_NOISE, "PNG", icc_profile=b"no profile"), ""),
    "profile.png": (
        _saved(_NOISE, "PNG", icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()),
        "",
    ),
    "junk behind.jpg": (_JPEG + os.urandom(0) + b"junk" * 100, ""),
}


def _folder(root: Path, name: str = "", content: bytes = b"") -> None:
    for label, colour in (("x", (9, 9, 9)), ("y", (200, 9, 9))):
        (root / "in" / label).mkdir(parents=True)
        for number in range(2):
            Image.new("RGB", (9, 9), (number, *colour[1:])).save(root / "in" / label / f"{number}.png")
    if name:
        (root / "in" / "x" / name).write_bytes(content)


_ITEMS = ("items", "--folder", "in", "--out", "items")
for _name, (_content, _words) in PICTURES.items():
    _add(
        f"picture {_name}",
        Case(
            lambda root, name=_name, content=_content: _folder(root, name, content),
            _ITEMS,
            SOME_FAILED if _words else DONE,
            _words,
        ),
    )

# --- names and things that are no files ----------------------------------------------------------

NAMES = {
    "new line": "a\nb.png",
    "tab": "a\tb.png",
    "escape": "a\x1b[31mb.png",
    "dash": "--out.png",
    "quotes": "a\"'`b.png",
    "shell": "$(touch gone);x.png",
    "right to left": "a\u202egnp.exe.png",
    "decomposed": "Käfer.png",
    "long": "x" * 251 + ".png",
    "backslash": "a\\..\\b.png",
    "percent": "%2e%2e%2f.png",
    "device": "CON.png",
    "dots": "...png",
    "hash": "a.png#0.png",
    "no text": b"\xff\xfe.png".decode("utf-8", "surrogateescape"),
}
for _name, _file in NAMES.items():
    _add(
        f"name {_name}",
        Case(lambda root, file=_file: _folder(root, file, _png()), _ITEMS, DONE),
    )


def _no_file(kind: str) -> Callable[[Path], None]:
    def make(root: Path) -> None:
        _folder(root)
        at = root / "in" / "x" / "odd.png"
        if kind == "pipe":
            os.mkfifo(at)
        elif kind == "folder":
            at.mkdir()
        elif kind == "device":
            at.symlink_to("/dev/zero")
        elif kind == "loop":
            at.symlink_to(at)
        elif kind == "folder loop":
            (root / "in" / "x" / "again").symlink_to(root / "in")
        else:
            at.symlink_to("/etc/passwd")

    return make


for _kind in ("pipe", "folder", "device", "loop", "folder loop", "link to a secret"):
    _add(f"no picture: {_kind}", Case(_no_file(_kind), _ITEMS, DONE if _kind == "folder" else SOME_FAILED))

# --- COCO files -------------------------------------------------------------------------------


def document() -> dict[str, Any]:
    """A sound COCO document of one photograph of 40 x 40 px."""
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [2, 3, 10, 8], "area": 80, "iscrowd": 0}
    return {
        "images": [{"id": 1, "file_name": "a.png", "width": 40, "height": 40}],
        "annotations": [box, {**box, "id": 2, "bbox": [5, 5, 20, 20]}],
        "categories": [{"id": 1, "name": "can"}],
    }


def _coco(change: Callable[[dict[str, Any]], Any] | bytes) -> Callable[[Path], None]:
    def make(root: Path) -> None:
        (root / "in").mkdir()
        _NOISE.save(root / "in" / "a.png")
        if isinstance(change, bytes):
            (root / "c.json").write_bytes(change)
            return
        made = document()
        changed = change(made)
        (root / "c.json").write_text(json.dumps(made if changed is None else changed))

    return make


def _set(*path: str | int, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(made: dict[str, Any]) -> None:
        owner: Any = made
        for step in path[:-1]:
            owner = owner[step]
        owner[path[-1]] = value

    return change


def _without(*path: str | int) -> Callable[[dict[str, Any]], None]:
    def change(made: dict[str, Any]) -> None:
        owner: Any = made
        for step in path[:-1]:
            owner = owner[step]
        del owner[path[-1]]

    return change


_DOCUMENT = json.dumps(document())
_BOX = ("annotations", 0, "bbox")
_FILE = ("images", 0, "file_name")
COCO: Mapping[str, tuple[Callable[[dict[str, Any]], Any] | bytes, int, str]] = {
    "empty": (b"", REFUSED, "."),
    "no JSON": (b"images: []", REFUSED, "."),
    "cut off": (_DOCUMENT.encode()[:200], REFUSED, "."),
    "a list": (lambda _: [document()], REFUSED, "."),
    "null": (b"null", REFUSED, "."),
    "a number": (b"7", REFUSED, "."),
    "UTF-16": (_DOCUMENT.encode("utf-16"), DONE, ""),
    "byte order mark": (b"\xef\xbb\xbf" + _DOCUMENT.encode(), DONE, ""),
    "compressed": (gzip.compress(_DOCUMENT.encode()), REFUSED, "."),
    "bytes that are no text": (_DOCUMENT.encode().replace(b"can", b"c\xffn"), REFUSED, "."),
    "deep": (b'{"images": ' + b"[" * 200_000 + b"]" * 200_000 + b"}", REFUSED, "."),
    "a number of 5000 digits": (_DOCUMENT.replace("80", "9" * 5000).encode(), REFUSED, "."),
    "no images": (_without("images"), REFUSED, "."),
    "no annotations": (_without("annotations"), DONE, "nothing is annotated"),
    "no categories": (_without("categories"), REFUSED, "."),
    "images as an object": (_set("images", value={"1": {}}), REFUSED, "."),
    "images as texts": (_set("images", value=["a.png"]), REFUSED, "."),
    "annotations as numbers": (_set("annotations", value=[1, 2]), REFUSED, "."),
    "images null": (_set("images", value=None), REFUSED, "."),
    "two photographs of one id": (
        lambda made: made["images"].append({**made["images"][0], "file_name": "b.png"}),
        REFUSED,
        ".",
    ),
    "two annotations of one id": (_set("annotations", 1, "id", value=1), DONE, ""),
    "two categories of one id": (
        lambda made: made["categories"].append({"id": 1, "name": "cup"}),
        REFUSED,
        ".",
    ),
    "of an unknown photograph": (_set("annotations", 0, "image_id", value=9), SOME_FAILED, "."),
    "of an unknown category": (_set("annotations", 0, "category_id", value=9), SOME_FAILED, "."),
    "a category without a name": (_without("categories", 0, "name"), REFUSED, "."),
    "a category's name null": (_set("categories", 0, "name", value=None), REFUSED, "."),
    "a box of three numbers": (_set(*_BOX, value=[1, 2, 3]), SOME_FAILED, "."),
    "a box of texts": (_set(*_BOX, value=["1", "2", "3", "4"]), SOME_FAILED, "."),
    "a box with NaN": (_set(*_BOX, value=[1, 2, float("nan"), 4]), SOME_FAILED, "."),
    "a box with infinity": (_set(*_BOX, value=[1, 2, float("inf"), 4]), SOME_FAILED, "."),
    "a box of negative width": (_set(*_BOX, value=[20, 20, -5, 5]), SOME_FAILED, "."),
    "a box of no width": (_set(*_BOX, value=[20, 20, 0, 5]), SOME_FAILED, "."),
    "a box outside": (_set(*_BOX, value=[400, 400, 5, 5]), SOME_FAILED, "."),
    "a box of 1e308": (_set(*_BOX, value=[-1e308, 0, 1.7e308, 1e308]), DONE, "clipped"),
    "a box null": (_set(*_BOX, value=None), SOME_FAILED, "."),
    "no box": (_without(*_BOX), SOME_FAILED, "."),
    "no file name": (_without(*_FILE), REFUSED, "."),
    "a number as file name": (_set(*_FILE, value=7), REFUSED, "."),
    "an empty file name": (_set(*_FILE, value=""), REFUSED, "."),
    "a dot as file name": (_set(*_FILE, value="."), REFUSED, "."),
    "a NUL in a file name": (_set(*_FILE, value="a\0.png"), REFUSED, "."),
    "half a character in a file name": (_set(*_FILE, value="a\ud800.png"), REFUSED, "."),
    "a file above": (_set(*_FILE, value="../../etc/passwd"), REFUSED, "."),
    "an absolute file": (_set(*_FILE, value="/etc/passwd"), REFUSED, "."),
    "a file name of 5000 letters": (_set(*_FILE, value="x" * 5000 + ".png"), REFUSED, "."),
    "an id as text": (_set("annotations", 0, "id", value="one"), DONE, ""),
    "an id null": (_set("annotations", 0, "id", value=None), DONE, ""),
    "an id as list": (_set("annotations", 0, "id", value=[1]), DONE, ""),
    "another size stated": (_set("images", 0, "width", value=4000), REFUSED, "."),
    "a negative size": (_set("images", 0, "width", value=-40), REFUSED, "."),
    "an outline of three numbers": (_set("annotations", 0, "segmentation", value=[[1, 2, 3]]), DONE, ""),
    "an outline of texts": (_set("annotations", 0, "segmentation", value=[["a"] * 6]), DONE, ""),
    "run lengths of another size": (
        _set("annotations", 0, "segmentation", value={"size": [5, 5], "counts": [0, 25]}),
        DONE,
        "",
    ),
    "negative run lengths": (
        _set("annotations", 0, "segmentation", value={"size": [40, 40], "counts": [-5, 1605]}),
        DONE,
        "",
    ),
    "no entries": (lambda _: {"images": [], "annotations": [], "categories": []}, REFUSED, "."),
}
_CROP = ("crop", "--coco", "c.json", "--images", "in", "--out", "items")
for _name, (_change, _status, _words) in COCO.items():
    _add(f"coco {_name}", Case(_coco(_change), _CROP, _status, _words))

# --- Parquet files and tables ---------------------------------------------------------------------

_PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def _parquet(**columns: Any) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file)
    return file.getvalue()


_SOUND = _parquet(image=pa.array([{"bytes": _png(), "path": "a.png"}] * 3, _PICTURE), label=["a", "b", "a"])
PARQUET: Mapping[str, tuple[bytes, int, str]] = {
    "empty": (b"", REFUSED, "."),
    "no Parquet": (b"path,label\n", REFUSED, "."),
    "cut off": (_SOUND[:-40], REFUSED, "."),
    "a footer of 4 GB": (_SOUND[:-8] + b"\xff\xff\xff\xff" + b"PAR1", REFUSED, "."),
    "a byte of its footer flipped": (_flip(_SOUND, len(_SOUND) - 60), REFUSED, "."),
    "no pictures": (_parquet(label=["a", "b"]), REFUSED, "."),
    "numbers as pictures": (_parquet(image=[1, 2], label=["a", "b"]), REFUSED, "."),
    "no rows": (_parquet(image=pa.array([], _PICTURE), label=pa.array([], pa.string())), REFUSED, "."),
    "pictures null": (_parquet(image=pa.array([None, None], _PICTURE), label=["a", "b"]), REFUSED, "."),
    "pictures that are texts": (
        _parquet(image=pa.array([{"bytes": b"text", "path": "a"}] * 2, _PICTURE), label=["a", "b"]),
        REFUSED,
        ".",
    ),
    "pickles as pictures": (
        _parquet(image=pa.array([{"bytes": pickle.dumps(print), "path": "a"}], _PICTURE), label=["a"]),
        REFUSED,
        ".",
    ),
}
for _name, (_content, _status, _words) in PARQUET.items():
    _add(
        f"parquet {_name}",
        Case(
            lambda root, content=_content: (root / "p.parquet").write_bytes(content),
            ("items", "--parquet", "p.parquet", "--out", "items"),
            _status,
            _words,
        ),
    )

TABLES: Mapping[str, tuple[bytes, int, str]] = {
    "a NUL": (b"path,label\na.png,c\0at\nb.png,dog\n", DONE, ""),
    "a quote that never ends": (b'path,label\na.png,"cat\nb.png,dog\n', REFUSED, "line 2 a quotation mark"),
    "a spreadsheet": (b"PK\x03\x04" + bytes(200), REFUSED, "."),
    "a header alone": (b"path,label", REFUSED, "."),
    "a cell of ten million letters": (b"path,label\na.png," + b"x" * 10_000_000 + b"\n", REFUSED, "."),
    "cells too many": (b"path,label\na.png,cat,dog,elk\n", REFUSED, "."),
    "empty": (b"", REFUSED, "."),
    "a formula": (b"path,label\na.png,=cmd()\nb.png,dog\n", DONE, ""),
}


def _table(content: bytes) -> Callable[[Path], None]:
    def make(root: Path) -> None:
        for number, name in enumerate(("a.png", "b.png")):
            Image.new("RGB", (9, 9), (number, 0, 0)).save(root / name)
        (root / "t.csv").write_bytes(content)

    return make


for _name, (_content, _status, _words) in TABLES.items():
    _add(
        f"table {_name}",
        Case(_table(_content), ("items", "--table", "t.csv", "--out", "items"), _status, _words),
    )

# --- depots, views, items ----------------------------------------------------------------------


def _depot(marker: bytes | None, **files: bytes) -> Callable[[Path], None]:
    def make(root: Path) -> None:
        (root / "depot").mkdir()
        if marker is not None:
            (root / "depot/format.json").write_bytes(marker)
        for name, content in files.items():
            at = root / "depot" / name.replace("__", "/")
            at.parent.mkdir(parents=True, exist_ok=True)
            at.write_bytes(content)

    return make


def _marker(version: object, name: str = "deponij-depot") -> bytes:
    return json.dumps({"format": name, "version": version}).encode()


_FOLDER = "0123456789abcdef0123"
DEPOTS: Mapping[str, tuple[Callable[[Path], Any], int, str]] = {
    "of format 0": (_depot(_marker(0)), REFUSED, "."),
    "of format 1": (_depot(_marker(1)), REFUSED, "migrate"),
    "of format 99": (_depot(_marker(99)), REFUSED, "newer"),
    "of format -1": (_depot(_marker(-1)), REFUSED, "."),
    "of format null": (_depot(_marker(None)), REFUSED, "."),
    "of something else": (_depot(_marker(2, "zarr")), REFUSED, "."),
    "with an empty marker": (_depot(b""), REFUSED, "."),
    "with a list as marker": (_depot(b"[]"), REFUSED, "."),
    "with a deep marker": (_depot(b"[" * 100_000), REFUSED, "."),
    "without a marker": (_depot(None, **{"a.txt": b"x"}), REFUSED, "."),
    "that is a file": (lambda root: (root / "depot").write_bytes(b"x"), REFUSED, "."),
    "that is a loop": (lambda root: (root / "depot").symlink_to(root / "depot"), REFUSED, "."),
    "with an empty sidecar": (_depot(_marker(2), **{f"{_FOLDER}__a.json": b""}), REFUSED, "."),
    "with a deep sidecar": (_depot(_marker(2), **{f"{_FOLDER}__a.json": b"[" * 100_000}), REFUSED, "."),
    "with a sidecar of another form": (
        _depot(_marker(2), **{f"{_FOLDER}__a.json": sealed({"format": 2})}),
        REFUSED,
        ".",
    ),
    "with files of others": (_depot(_marker(2), **{"notes.txt": b"mine"}), DONE, "notes.txt"),
    "whose marker is a folder": (lambda root: (root / "depot/format.json").mkdir(parents=True), REFUSED, "."),
}
for _name, (_make, _status, _words) in DEPOTS.items():
    _add(f"depot {_name}", Case(_make, ("depot", "verify", "depot"), _status, _words))


def _view(change: Callable[[h5py.File], Any] | bytes) -> Callable[[Path], None]:
    def make(root: Path) -> None:
        if isinstance(change, bytes):
            (root / "view.h5").write_bytes(change)
            return
        # What lies elsewhere would fit: not its content is wrong, but where it is.
        with h5py.File(root / "other.h5", "w") as other:
            other["secret"] = np.ones((3, 2), np.float32)
        (root / "other.raw").write_bytes(np.ones((3, 2), np.float32).tobytes())
        rows = np.ones((3, 2), np.float32)
        write_view(
            root / "view.h5",
            identity=CLIP,
            backbone="tiny",
            ids=["a", "b", "c"],
            keys=keys_of(range(3)),
            checksums=row_checksums({"embedding": rows}, 3),
            arrays={"embedding": rows},
        )
        with h5py.File(root / "view.h5", "r+") as file:
            change(file)

    return make


def _outside(file: h5py.File) -> None:
    del file["arrays/embedding"]
    file["arrays/embedding"] = h5py.ExternalLink("other.h5", "secret")


def _raw_outside(file: h5py.File) -> None:
    del file["arrays/embedding"]
    file.create_dataset("arrays/embedding", (3, 2), np.float32, external=[("other.raw", 0, 24)])


def _virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((3, 2), np.float32)
    layout[:] = h5py.VirtualSource("other.h5", "secret", (3, 2))
    del file["arrays/embedding"]
    file.create_virtual_dataset("arrays/embedding", layout)


def _vast(file: h5py.File) -> None:
    del file["ids"]
    file.create_dataset("ids", (1 << 40,), "S64", chunks=(1 << 10,))


def _circle(file: h5py.File) -> None:
    del file["ids"]
    file["ids"] = h5py.SoftLink("/ids")


def _fewer(file: h5py.File) -> None:
    del file["ids"]
    file.create_dataset("ids", data=np.array([b"a"]))


def _numbers(file: h5py.File) -> None:
    del file["ids"]
    file.create_dataset("ids", data=np.arange(3))


VIEWS: Mapping[str, Callable[[h5py.File], Any] | bytes] = {
    "empty": b"",
    "a text": b"a view",
    "HDF5's first bytes": b"\x89HDF\r\n\x1a\n",
    "a pickle": pickle.dumps([1]),
    "an HDF5 file of somebody else": lambda file: file.clear(),
    "a link into another file": _outside,
    "bytes of another file": _raw_outside,
    "a virtual array": _virtual,
    "an array of 70 TB": _vast,
    "links in a circle": _circle,
    "fewer ids": _fewer,
    "ids that are numbers": _numbers,
    "an identity of another form": lambda file: file.attrs.__setitem__("identity", "[" * 100_000),
    "another digest": lambda file: file.attrs.__setitem__("digest", "0" * 32),
    "a row that was changed": lambda file: file["arrays/embedding"].__setitem__(0, 7.0),
}
VIEW_WORDS = {
    "a link into another file": "is a link, which is never followed",
    "links in a circle": "is a link, which is never followed",
    "bytes of another file": "lies in another file, which is never read",
    "a virtual array": "lies in another file, which is never read",
    "an array of 70 TB": "claims 70,368,744,177,664 bytes and holds 0",
}
for _name, _change in VIEWS.items():
    _add(
        f"view {_name}",
        Case(_view(_change), ("view", "export", "view.h5", "v.npz"), REFUSED, VIEW_WORDS.get(_name, "view")),
    )


def _items(manifest: bytes | None) -> Callable[[Path], None]:
    def make(root: Path) -> None:
        (root / "items").mkdir()
        (root / "items/items-00000.parquet").write_bytes(_SOUND)
        if manifest is not None:
            (root / "items/_items.json").write_bytes(manifest)

    return make


ITEMS: Mapping[str, bytes | None] = {
    "without a manifest": None,
    "with an empty manifest": b"",
    "with a deep manifest": b"[" * 100_000,
    "of an older layout": sealed({"format": 0, "files": {}}),
    "of a newer layout": sealed({"format": 99, "files": {}}),
    "with a file above": sealed(
        {"format": 1, "decoders": {}, "files": {"../../etc/passwd": {"size_bytes": 1}}}
    ),
    "with files as a list": sealed({"format": 1, "decoders": {}, "files": [1]}),
}
for _name, _manifest in ITEMS.items():
    _add(
        f"items {_name}",
        Case(
            _items(_manifest),
            ("split", "--items", "items", "--out", "s.parquet", "--strategy", "random"),
            REFUSED,
            ".",
        ),
    )

# --- params -----------------------------------------------------------------------------------

_PARAMS = (Path(__file__).resolve().parents[2] / "params.yaml").read_text()
PARAMS: Mapping[str, bytes] = {
    "empty": b"",
    "a list": b"- a\n",
    "tabs": b"profile: a\n\tdata: 1\n",
    "no text": b"\xff\xfe\x00\xd8",
    "a program": b"profile: !!python/object/apply:os.system ['touch gone']\n",
    "a class": b"profile: !!python/name:os.system\n",
    "a module": b"profile: !!python/module:os\n",
    "deep": b"profile: " + b"[" * 5_000 + b"]" * 5_000,
    "itself": b"splits: &a {x: *a}\n",
    "a hundred million laughs": b"a: &a [x, x, x, x, x, x, x, x, x, x]\n"
    + b"".join(
        b"%c: &%c [%s]\n" % (one + 1, one + 1, b", ".join([b"*%c" % one] * 10))
        for one in range(ord("a"), ord("h"))
    ),
    "a day that is none": b"profile: 2024-99-99\n",
    "a key that is a list": b"? [a, b]\n: 1\n",
    "an unknown section": f"{_PARAMS}\nextract2: {{}}\n".encode(),
    "an unknown key": _PARAMS.replace("strategy: group,", "strategy: group, seeds: 1,").encode(),
    "a text as number": _PARAMS.replace("seed: 0}", "seed: zero}").encode(),
    "a fraction of nothing": _PARAMS.replace("[0.6, 0.15, 0.25]", "[.nan, 0.5, 0.5]").encode(),
    "fractions past one": _PARAMS.replace("[0.6, 0.15, 0.25]", "[0.6, 0.6, 0.6]").encode(),
    "a negative fraction": _PARAMS.replace("[0.6, 0.15, 0.25]", "[1.5, -0.25, -0.25]").encode(),
    "an unknown strategy": _PARAMS.replace("strategy: group,", "strategy: grouped,").encode(),
    "a section null": _PARAMS.replace("labels: [category]", "labels:").encode(),
    "a profile above": _PARAMS.replace("profile: sample", "profile: ../../sample").encode(),
    "a profile without a name": _PARAMS.replace("profile: sample", "profile: ''").encode(),
}
