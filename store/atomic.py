"""Whole files or none: write aside, flush, rename, flush the folder."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from store.errors import StoreError

PART = ".part"


def write_bytes(path: Path, data: bytes) -> None:
    """Replace `path` by `data`; after a crash either the old or the new file is there, whole."""
    with replacing(path) as part:
        part.write_bytes(data)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path to write to; on success it is flushed and takes the place of `path`.

    Raises:
        StoreError: the folder cannot be written or the disk is full.
    """
    part = path.with_name(f"{path.name}.{os.getpid()}{PART}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        publish(part, path)
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        part.unlink(missing_ok=True)


def publish(part: Path, path: Path) -> None:
    """Flush `part`, rename it to `path` and flush the folder."""
    flush(part)
    part.replace(path)
    flush(path.parent)


def flush(path: Path) -> None:
    """Bring a file's or a folder's content to the disk (fsync)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_table(path: Path, table: pa.Table) -> None:
    """Write one Parquet file whole, with page checksums."""
    with replacing(path) as part:
        pq.write_table(table, part, compression="zstd", write_page_checksum=True)


def read_table(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Read one Parquet file, checking its page checksums.

    Raises:
        StoreError: the file is missing, damaged, or lacks a column (the message lists those it has).
    """
    if not path.is_file():
        raise StoreError(f"there is no table at {path}")
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            missing = sorted(set(columns or []) - set(file.schema_arrow.names))
            if missing:
                raise StoreError(f"{path} has no column {missing}; it has {file.schema_arrow.names}")
            return file.read(columns=columns)
    except (pa.ArrowException, OSError) as error:
        raise StoreError(f"{path} is damaged or not a Parquet file: {error}") from error
