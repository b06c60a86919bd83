"""Files that a person names: tables of records to write, splits by their names. This is no stage."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from deponij.store.atomic import write_table
from deponij.store.errors import UsageError

_KINDS: Mapping[Any, pa.DataType] = {str: pa.string(), float: pa.float64(), int: pa.int64(), bool: pa.bool_()}


def check_ending(path: Path | None, flag: str, *endings: str) -> None:
    """Refuse a file to write whose name does not say its format, before anything is computed.

    Raises:
        UsageError: naming what is allowed.
    """
    if path is not None and path.suffix.lower() not in endings:
        raise UsageError(f"{flag} wants a file that ends in {' or '.join(endings)}, got {path}")


def write_records(
    path: Path, records: Sequence[Mapping[str, Any]], kinds: Mapping[str, Any], flag: str = "--parquet"
) -> None:
    """Write a Parquet table, a column for each fact.

    Args:
        kinds: of columns, a Python type or an Arrow one; other columns are found in the records, their kinds too.
        flag: that named the file, for messages.

    Raises:
        UsageError: another ending.
        StoreError: it cannot be written.
    """
    check_ending(path, flag, ".parquet")
    names = dict.fromkeys([*kinds, *(name for record in records for name in record)])
    columns = {
        name: pa.array([record.get(name) for record in records], _KINDS.get(kinds.get(name), kinds.get(name)))
        for name in names
    }
    write_table(path, pa.table(columns))


def by_name(splits: Sequence[Path]) -> dict[str, Path]:
    """Tables of splits by their file names.

    Raises:
        UsageError: two have the same.
    """
    named = {path.stem: path for path in splits}
    if len(named) < len(splits):
        raise UsageError("two splits have the same file name; they are told apart by it, so rename one")
    return named
