"""Pictures that items name instead of holding them: where the file lies, how large it is, what its bytes hash to.

Nothing is taken for the picture but the very bytes that were seen when the items were made. Times and inodes, by which a
file is known without being read, are facts of one machine and no part of an item (`deponij.pipeline.data.known_files`).
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from deponij.store.errors import StoreError

# The column of items; the path stands in `image.path`, where `datasets` looks for it.
COLUMN = "picture_file"
FIELD = pa.field(COLUMN, pa.struct([("size_bytes", pa.int64()), ("digest", pa.string())]))
_REMEDY = "make the items again, by `--copy always` with the pictures in them"


def digest_of(content: bytes) -> str:
    """BLAKE2b-160 of a file's bytes, 40 hexadecimal characters."""
    return hashlib.blake2b(content, digest_size=20).hexdigest()


@dataclass(frozen=True, slots=True)
class FileReference:
    """A picture's file.

    Attributes:
        path: absolute, or relative to one of the folders that the items lie in.
    """

    path: str
    size_bytes: int
    digest: str

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> "FileReference | None":
        """The one that a row of an items table holds, if any."""
        held, image = row.get(COLUMN), row.get("image")
        if held is None or image is None:
            return None
        return cls(str(image["path"]), held["size_bytes"], held["digest"])

    def read(self, items: Path) -> bytes:
        """The picture's bytes.

        Args:
            items: the folder of items that names the file.

        Raises:
            StoreError: the file is not there, cannot be read, or holds other bytes.
        """
        tried = _places(self.path, items)
        there = [one for one in tried if one.is_file()]
        if not there:
            raise StoreError(
                f"picture {self.path!r} is not there (looked at {tried[0]}), and these items only name it: it was moved, or "
                f"they were made on another machine. Bring it back, or {_REMEDY}"
            )
        for path in there:
            try:
                # A file that has grown is not read to its end.
                content = path.read_bytes() if path.stat().st_size == self.size_bytes else b""
            except OSError as error:
                raise StoreError(
                    f"picture {path} cannot be read ({error.strerror or error}), and these items only name it; "
                    f"make it readable, or {_REMEDY}"
                ) from error
            if len(content) == self.size_bytes and digest_of(content) == self.digest:
                return content
        raise StoreError(
            f"picture {there[0]} has changed since the items were made, which only name it; restore it, or {_REMEDY}"
        )


def home_of(items: Path) -> Path | None:
    """The current folder where items are to lie below it: their pictures there are named relative to it, so that a project
    can be moved as a whole.
    """
    return Path.cwd() if items.absolute().is_relative_to(Path.cwd()) else None


def named(path: Path, home: Path | None) -> str:
    """A path as references have it, of items with this home."""
    absolute = path.absolute()
    return str(absolute if home is None or not absolute.is_relative_to(home) else absolute.relative_to(home))


def _places(path: str, items: Path) -> list[Path]:
    if Path(path).is_absolute():
        return [Path(path)]
    here = Path.cwd()
    return [one / path for one in dict.fromkeys((here, *items.absolute().parents))]
