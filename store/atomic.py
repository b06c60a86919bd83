"""Whole files or none: write aside, flush, rename, flush the folder."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from deponij.store.errors import StoreError, explained
from deponij.store.locks import holding

if TYPE_CHECKING:
    import pyarrow as pa

PART = ".part"


def write_bytes(path: Path, data: bytes) -> None:
    """Replace `path` by `data`; after a crash either the old or the new file is there, whole."""
    with replacing(path) as part:
        part.write_bytes(data)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path to write to; on success it is flushed and takes the place of `path`.

    The part has one name, `<name>.part`, and is locked: what a killed process left there is taken
    over by the next one, and of two processes the second waits for the first.

    Raises:
        StoreError: the folder cannot be written, the disk is full, or another process keeps writing.
    """
    part = path.with_name(path.name + PART)
    with explained(f"cannot write {path}"):
        make_folder(path.parent)
        with holding(part, path):
            try:
                yield part
                publish(part, path)
            except BaseException:
                part.unlink(missing_ok=True)
                raise


def publish(part: Path, path: Path) -> None:
    """Flush `part`, rename it to `path` and flush the folder."""
    flush(part)
    part.replace(path)
    flush(path.parent)


def make_folder(path: Path) -> None:
    """Make a folder and those above it, so that they outlast a loss of power."""
    if path.is_dir():
        return
    make_folder(path.parent)
    path.mkdir(exist_ok=True)
    flush(path.parent)


def flush(path: Path) -> None:
    """Bring a file's or a folder's content to the disk (fsync)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_table(path: Path, table: "pa.Table") -> None:
    """Write one Parquet file whole, with page checksums."""
    import pyarrow.parquet as pq

    with replacing(path) as part:
        pq.write_table(table, part, compression="zstd", write_page_checksum=True)


def read_table(path: Path, columns: list[str] | None = None) -> "pa.Table":
    """Read one Parquet file, checking its page checksums.

    Raises:
        StoreError: the file is missing, damaged, or lacks a column (the message lists those it has).
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file():
        raise StoreError(f"there is no table at {path}")
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            missing = sorted(set(columns or []) - set(file.schema_arrow.names))
            if missing:
                raise StoreError(f"{path} has no column {missing}; it has {file.schema_arrow.names}")
            return file.read(columns=columns)
    except (pa.ArrowException, OSError, ValueError, IndexError) as error:
        raise StoreError(f"{path} is damaged or not a Parquet file: {error}") from error


def refuse_foreign(folder: Path, is_ours: Callable[[Path], bool], what: str) -> None:
    """Refuse a folder to write that holds anything else.

    Args:
        what: lies in such a folder, as `items`.

    Raises:
        StoreError: it is a file, or holds other files.
    """
    if folder.exists() and not folder.is_dir():
        raise StoreError(f"{folder} is a file; {what} needs a folder")
    foreign = sorted(path.name for path in folder.iterdir() if not is_ours(path)) if folder.exists() else []
    if foreign:
        raise StoreError(
            f"{folder} holds other files (such as {foreign[0]!r}); name a folder for {what} alone"
        )
