"""What guards a folder of Parquet files beyond their page checksums.

Parquet checks the content of pages only: a flipped bit in a footer can rename a column or hide rows,
and a file that is missing leaves no trace. `_items.json`, written last, names the files, their sizes
and digests of their footers; tools that read Parquet folders pass over names with an underscore.
"""

import hashlib
import os
from pathlib import Path

from deponij.store.errors import StoreError
from deponij.store.keys import DECODERS
from deponij.store.sealed import sealed, unsealed

MANIFEST = "_items.json"
FORMAT = 1
_TAIL_BYTES = 8


def write_manifest(folder: Path) -> None:
    """Describe the Parquet files of a folder that is not yet in its place."""
    files = {path.name: _facts(path) for path in sorted(folder.glob("*.parquet"))}
    (folder / MANIFEST).write_bytes(sealed({"format": FORMAT, "decoders": DECODERS, "files": files}))


def check_manifest(folder: Path) -> list[Path]:
    """The folder's Parquet files, seen to be those that were written.

    Raises:
        StoreError: the manifest or a file is missing, damaged or of a newer format.
    """
    try:
        body = unsealed((folder / MANIFEST).read_bytes())
        if body["format"] != FORMAT:
            raise StoreError(f"{folder} has format {body['format']}, this Deponij reads {FORMAT}")
        recorded = dict(body["files"])
        present = {path.name: _facts(path) for path in sorted(folder.glob("*.parquet"))}
    except FileNotFoundError:
        raise StoreError(
            f"{folder} lacks {MANIFEST}; copy the whole folder, or make the items again"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(
            f"{folder / MANIFEST} or a file beside it is damaged: {error}; make the items again"
        ) from error
    wrong = sorted(name for name in {*recorded, *present} if recorded.get(name) != present.get(name))
    if wrong:
        what = "missing" if wrong[0] not in present else "damaged or not one of these items"
        raise StoreError(f"{folder / wrong[0]} is {what}; restore it or make the items again")
    return [folder / name for name in sorted(recorded)]


def decoders_of(folder: Path) -> dict[str, int]:
    """By which versions of the decoders (`deponij.store.keys.DECODERS`) the pictures of a checked folder were made."""
    decoders: dict[str, int] = unsealed((folder / MANIFEST).read_bytes()).get("decoders", {})
    return decoders


def _facts(path: Path) -> dict[str, int | str]:
    with path.open("rb") as file:
        size_bytes = file.seek(0, os.SEEK_END)
        file.seek(max(0, size_bytes - _TAIL_BYTES))
        footer_bytes = int.from_bytes(file.read(4), "little") + _TAIL_BYTES
        file.seek(max(0, size_bytes - footer_bytes))
        digest = hashlib.blake2b(file.read(), digest_size=16).hexdigest()
    return {"size_bytes": size_bytes, "footer": digest}
