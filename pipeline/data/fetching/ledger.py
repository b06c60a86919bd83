"""What a fetched data set says about itself: two small tables beside its files.

- `fetched.parquet`: what is there (file_name, url, n_bytes, digest), with one row for the annotation file.
- `failures.parquet`: what could not be had in the last run (file_name, url, reason, attempts).

What lives elsewhere: the fetching (`deponij.pipeline.data.fetching.dataset`).
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import pyarrow as pa
import pyarrow.parquet as pq

from deponij.store.atomic import write_table

FETCHED = "fetched.parquet"
FAILURES = "failures.parquet"

_FETCHED_SCHEMA = pa.schema(
    [("file_name", pa.string()), ("url", pa.string()), ("n_bytes", pa.int64()), ("digest", pa.string())]
)
_FAILURES_SCHEMA = pa.schema(
    [("file_name", pa.string()), ("url", pa.string()), ("reason", pa.string()), ("attempts", pa.int64())]
)


@dataclass(frozen=True, slots=True)
class Fetched:
    """One file that is there: where it came from, its size and the BLAKE2b-160 digest of its bytes, in hexadecimal."""

    file_name: str
    url: str
    n_bytes: int
    digest: str

    @classmethod
    def of(cls, file_name: str, url: str, body: bytes) -> Self:
        """A file of these bytes."""
        return cls(file_name, url, len(body), hashlib.blake2b(body, digest_size=20).hexdigest())


@dataclass(frozen=True, slots=True)
class Failure:
    """One file that could not be had, and why."""

    file_name: str
    url: str | None
    reason: str
    attempts: int


def read_fetched(root: Path) -> dict[str, Fetched]:
    """Rows of `fetched.parquet` by file name; none where the table is missing or damaged.

    The table only spares work: a file without a row is decoded again instead of being compared.
    """
    try:
        rows = pq.read_table(root / FETCHED, schema=_FETCHED_SCHEMA).to_pylist()
    except (OSError, pa.ArrowException):
        return {}
    return {row["file_name"]: Fetched(**row) for row in rows}


def write_fetched(root: Path, rows: Iterable[Fetched]) -> None:
    """Replace `fetched.parquet`; rows are sorted by file name.

    Raises:
        StoreError: it cannot be written.
    """
    _write(root / FETCHED, sorted(rows, key=lambda row: row.file_name), _FETCHED_SCHEMA)


def write_failures(root: Path, rows: Iterable[Failure]) -> None:
    """Replace `failures.parquet`; rows are sorted by file name, and there may be none.

    Raises:
        StoreError: it cannot be written.
    """
    _write(root / FAILURES, sorted(rows, key=lambda row: row.file_name), _FAILURES_SCHEMA)


def _write(path: Path, rows: Sequence[Fetched | Failure], schema: pa.Schema) -> None:
    write_table(path, pa.Table.from_pylist([asdict(row) for row in rows], schema=schema))
