"""What `deponij segment` writes: names that overwrite nothing of the user's, and files that say what they are. No stage.

    OUT/NAME.overlay.jpg    classes' colours over the picture, with a legend; at most `_OVERLAY_PX` wide or high
    OUT/NAME.labels.png     class numbers as a PNG with the classes' colours as palette, of the picture's size
    OUT/NAME.heat.jpg       of --query
    OUT/classes.json        names and colours by number, and which picture each label map is of

Each says in its metadata that this command made it, and only such files are replaced.
"""

import io
import json
import struct
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deponij.store.atomic import make_folder, write_bytes
from deponij.store.errors import DataError, StoreError, explained
from deponij.store.label_maps import VOID, VOID_COLOUR, SceneClass, encode_labels

MADE_BY = "deponij segment"
CLASSES_NAME = "classes.json"
OVERLAY, LABELS, HEAT = ".overlay.jpg", ".labels.png", ".heat.jpg"
_HEAD_BYTES = 4096
_OVERLAY_PX = 2048
_QUALITY = 90
# Of the PNG specification: signature and the header chunk come first.
_PNG_HEADER_BYTES = 33
_LONGEST_NAME_BYTES = 200


class Outputs:
    """A folder for a command's files.

    Args:
        folder: made where it is not there.

    Raises:
        StoreError: it is a file, or cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._taken: Counter[str] = Counter()
        if folder.exists() and not folder.is_dir():
            raise StoreError(f"--out {folder} is a file; name a folder")
        with explained(f"cannot write {folder}"):
            make_folder(folder)

    def name_for(self, path: str) -> str:
        """What the files of a picture begin with: its name without ending, with a number where others have the same."""
        stem = Path(path).stem.encode()[:_LONGEST_NAME_BYTES].decode(errors="ignore") or "picture"
        # On some disks capital letters make no difference.
        name, number = stem, 1
        while self._taken[name.casefold()]:
            number += 1
            name = f"{stem}-{number}"
        self._taken[name.casefold()] += 1
        return name

    def write(self, name: str, data: bytes) -> Path:
        """Write a file that carries `MADE_BY`.

        Raises:
            DataError: a file of that name is there that this command did not make.
            StoreError: it cannot be written.
        """
        path = self.folder / name
        if path.exists() and not is_made_here(path):
            raise DataError(
                f"{path} is there and was not made by `{MADE_BY}`; name another folder with --out"
            )
        write_bytes(path, data)
        return path


def is_made_here(path: Path) -> bool:
    """Whether this command made a file, by what stands at its begin."""
    try:
        with path.open("rb") as file:
            return is_marked(file.read(_HEAD_BYTES))
    except OSError:
        return False


def is_marked(content: bytes) -> bool:
    """The same of a file's content."""
    return MADE_BY.encode() in content[:_HEAD_BYTES]


def labels_png(labels: NDArray[np.uint8], classes: Sequence[SceneClass]) -> bytes:
    """A label map, with the classes' names in its text chunk `Description`."""
    png = encode_labels(labels, classes)
    named = json.dumps([one.name for one in classes])
    chunks = _text_chunk("Software", MADE_BY) + _text_chunk("Description", named)
    return png[:_PNG_HEADER_BYTES] + chunks + png[_PNG_HEADER_BYTES:]


def _text_chunk(keyword: str, text: str) -> bytes:
    """PNG's tEXt, of ASCII."""
    body = b"tEXt" + keyword.encode() + b"\0" + text.encode("ascii")
    return struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))


def picture_jpg(pixels: NDArray[np.uint8]) -> bytes:
    """uint8 [h, w, 3] as a JPEG file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=_QUALITY, comment=MADE_BY.encode())
    return buffer.getvalue()


def shown_px(width: int, height: int) -> tuple[int, int]:
    """(width, height) at which a picture is shown to people."""
    factor = min(1.0, _OVERLAY_PX / max(width, height))
    return max(1, round(width * factor)), max(1, round(height * factor))


def classes_json(classes: Sequence[SceneClass], pictures: Mapping[str, str]) -> bytes:
    """Classes by number, and the picture that each label map is of."""
    value = {
        "made_by": MADE_BY,
        "classes": [
            {"id": number, "name": one.name, "colour": list(one.colour)} for number, one in enumerate(classes)
        ],
        "none": {"id": VOID, "name": "none of the classes", "colour": list(VOID_COLOUR)},
        "label_maps": dict(pictures),
    }
    return f"{json.dumps(value, indent=2, ensure_ascii=False)}\n".encode()
