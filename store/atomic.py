"""Whole files and folders or none: write aside, flush, rename, flush the folder above."""

import ctypes
import errno
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deponij.store.errors import StoreError, explained
from deponij.store.locks import WAIT_S, hold, holding, release
from deponij.store.sealed import check_table, seal_table
from deponij.store.what_is import instead, what_is

if TYPE_CHECKING:
    import pyarrow as pa

PART = ".part"
_PARQUET_MAGIC = b"PAR1"
_PARQUET: Mapping[str, Any] = {"compression": "zstd", "write_page_checksum": True}


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


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder to write files into; on success it is flushed and takes the place of `path`.

    In one step, where the file system can exchange two names: whoever opens `path` meets the old or the new folder.
    Its part is locked as a file's is (`replacing`).

    Raises:
        StoreError: the folder cannot be written, the disk is full, or another process keeps writing.
    """
    with explained(f"cannot write {path}"):
        # Of a link the folder that it leads to is replaced.
        place = path.resolve()
        part, held = open_part(place, WAIT_S)
        try:
            yield part
            publish_folder(part, place)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
        finally:
            release(held)


def open_part(path: Path, wait_s: float = 0.0) -> tuple[Path, int]:
    """An empty folder that may take the place of `path` (`publish_folder`), and the lock on it (for `release`).

    Raises:
        StoreError: another process is writing `path`.
        OSError: it cannot be made.
    """
    if path.exists() and path.samefile(Path.cwd()):
        raise StoreError(f"{path} is the current folder, which cannot be replaced; name another one")
    part, old = path.with_name(path.name + PART), _old(path)
    held = None
    while held is None:
        make_folder(part)
        try:
            if (held := hold(part, create=False, wait_s=wait_s)) is None:
                raise StoreError(f"another process is writing {path}; wait for it to end")
        except FileNotFoundError:
            # The process that it was waited for has put the folder in its place.
            continue
    _clear(part)
    if old.exists() and not path.exists():
        # Killed between the two renames of a swap.
        old.rename(path)
    shutil.rmtree(old, ignore_errors=True)
    return part, held


def publish_folder(part: Path, path: Path) -> None:
    """Flush a folder of files, put it in the place of `path` and flush what is above; an earlier one goes."""
    for file in part.iterdir():
        flush(file)
    flush(part)
    if not path.exists():
        part.rename(path)
        flush(path.parent)
        return
    # Under the part's name the old folder must not be taken for one to write in.
    with holding(path, path, create=False):
        old = part
        if not _exchange(part, path):
            old = _old(path)
            path.rename(old)
            part.rename(path)
        flush(path.parent)
        shutil.rmtree(old, ignore_errors=True)


def discard_folder(path: Path) -> None:
    """Take away a folder that nobody needs any more, and what a killed `replacing_folder` of it has left beside it."""
    for one in (path, path.with_name(path.name + PART), _old(path)):
        shutil.rmtree(one, ignore_errors=True)


def _old(path: Path) -> Path:
    return path.with_name(f"{path.name}.old{PART}")


def _clear(folder: Path) -> None:
    for stale in folder.iterdir():
        if stale.is_dir() and not stale.is_symlink():
            shutil.rmtree(stale)
        else:
            stale.unlink()


_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


def _exchange(one: Path, other: Path) -> bool:
    """Let two names change places in one step (renameat2 of Linux); False where this system cannot."""
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is None:
        return False
    names = (_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other))
    if call(*names, _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
        return False
    raise OSError(code, os.strerror(code), str(other))


def write_table(path: Path, table: "pa.Table") -> None:
    """Write one Parquet file whole, with page checksums and a seal over all of it."""
    import pyarrow.parquet as pq

    with replacing(path) as part:
        pq.write_table(table, part, **_PARQUET)
        seal_table(part)


def table_bytes(table: "pa.Table") -> bytes:
    """One Parquet file, as `write_table` writes it but without a seal, for files that a bundle guards."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    out = pa.BufferOutputStream()
    pq.write_table(table, out, **_PARQUET)
    return bytes(out.getvalue())


def read_table(path: Path, columns: list[str] | None = None) -> "pa.Table":
    """Read one Parquet file; whoever wrote it, its page checksums are checked, and its seal where it has one.

    Raises:
        StoreError: the file is missing, damaged, or lacks a column (the message lists those it has).
    """
    if not path.is_file():
        raise StoreError(f"there is no table at {path}{instead(path)}")
    with explained(f"cannot read {path}"):
        content = path.read_bytes()
    if content[:4] != _PARQUET_MAGIC:
        raise StoreError(f"{path} is damaged or not a Parquet file: it is {what_is(path)}")
    check_table(content, path)
    return table_of(content, path, columns)


def table_of(content: bytes, path: Path, columns: list[str] | None = None) -> "pa.Table":
    """The table in a Parquet file's content; `path` is for messages.

    Raises:
        StoreError: it is damaged, or lacks a column (the message lists those it has).
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True) as file:
            missing = sorted(set(columns or []) - set(file.schema_arrow.names))
            if missing:
                raise StoreError(
                    f"{path} has no column {missing}; it has {file.schema_arrow.names}{instead(path)}"
                )
            return file.read(columns=columns)
    except (pa.ArrowException, OSError, ValueError, IndexError) as error:
        raise StoreError(f"{path} is damaged or not a Parquet file: {error}") from error


def read_texts(path: Path, columns: list[str]) -> list[list[str | None]]:
    """Columns of names of one Parquet file, whoever wrote it.

    Raises:
        StoreError: as `read_table`, or a column holds anything else.
    """
    import pyarrow as pa

    table = read_table(path, columns)
    texts: list[list[str | None]] = []
    for name in columns:
        kind = table[name].type
        value = kind.value_type if pa.types.is_dictionary(kind) else kind
        if value not in (pa.string(), pa.large_string(), pa.string_view(), pa.null()):
            raise StoreError(f"{path}: its column {name!r} holds {kind} instead of names (string)")
        texts.append(table[name].to_pylist())
    return texts


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
