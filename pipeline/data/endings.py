"""Which files are taken for pictures: by their endings, and where these say nothing by their first bytes.

Whether one can be read is seen where it is decoded (`deponij.pipeline.pictures`).
"""

import os
from collections import Counter
from pathlib import Path

from deponij.pipeline.pictures import HEAD_BYTES, is_picture_head

PICTURE_ENDINGS = frozenset(
    (
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".gif", ".bmp", ".dib", ".webp"),
        *(".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".jp2", ".tga", ".ico"),
    )
)
# Pictures too, if none that can be read: what is said of them when they are decoded must not be lost.
_UNREAD_ENDINGS = frozenset(
    (
        *(".heic", ".heif", ".hif", ".jxl", ".psd", ".raw", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf"),
        *(".rw2", ".raf", ".pef", ".srw"),
    )
)


def has_picture_ending(path: str | Path) -> bool:
    """Whether a file's name, in letters of either case, ends like that of a picture, also of a kind that is not read."""
    return Path(path).suffix.lower() in PICTURE_ENDINGS | _UNREAD_ENDINGS


def is_picture_file(path: Path) -> bool:
    """Whether a file is a picture by its name's ending, or else by its first bytes; cameras' raw files are, too."""
    if has_picture_ending(path):
        return True
    try:
        # A pipe or device would be read for ever.
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return is_picture_head(file.read(HEAD_BYTES))
    except OSError:
        return False


def counted(endings: Counter[str]) -> str:
    """How many files have which ending, as in `.txt: 2, no ending: 1`, the most frequent first."""
    ordered = sorted(endings.items(), key=lambda pair: (-pair[1], pair[0]))
    return ", ".join(f"{ending or 'no ending'}: {n_files:,}" for ending, n_files in ordered)


def ending_of(name: str) -> str:
    """A file's ending in small letters; bytes that are not UTF-8 are spelled out."""
    return os.fsencode(Path(name).suffix.lower()).decode("utf-8", "backslashreplace")
