"""Hugging Face parquet files with a column of images, as items that keep the pictures' original bytes.

Files are streamed. What their columns mean is found in `parquet_columns`.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from deponij.pipeline.data.adapters.file_names import distinct_names
from deponij.pipeline.data.adapters.parquet_columns import LABEL, Column, columns_of
from deponij.pipeline.data.adapters.registry import Progress, SourceParams, check_columns, register_source
from deponij.pipeline.data.adapters.whole import each_picture, whole_picture
from deponij.pipeline.data.item import Item, MetadataValue, ToAct
from deponij.pipeline.data.parallel import Workers
from deponij.pipeline.data.parts import Place, Treatment, parts_of_files, places_of_values, refuse_unknown
from deponij.pipeline.data.try_out import first_in_turn, told_part
from deponij.store.errors import DataError, UsageError

# Rows held at a time, before decoding, and what they may hold.
BATCH_ROWS = 64
BATCH_BYTES = 64 << 20
READ_BYTES = 1 << 20
# Where rows say which part they are of, this column does.
SPLIT = "split"


class ParquetParams(SourceParams):
    """Which files and columns hold the pictures and their labels.

    Attributes:
        files: parquet files of the same columns, in the order of the items.
        image_column: by default the only column of type `struct<bytes, path>`.
        label_column: by default `label`, otherwise the only column of class labels, otherwise none.
        treat: what files, their folders and values of a column `split` are whose names leave it open: `train`, `val`,
            `test`, `class` (no part), or `skip` to leave them out.
    """

    files: tuple[Path, ...] = Field(min_length=1)
    image_column: str | None = None
    label_column: str | None = None
    treat: dict[str, Treatment] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _File:
    """One file: what the ids of its items begin with, its given part and its metadata columns."""

    path: Path
    name: str
    given: str | None
    columns: tuple[Column, ...]


# An item's id, content, failure, given part and metadata, before its picture is decoded.
_Row = tuple[str, bytes | None, str | None, str | None, dict[str, MetadataValue]]


@register_source("parquet")
class ParquetSource:
    """Parquet files of the same columns, with these understood."""

    Params = ParquetParams

    def __init__(self, params: ParquetParams) -> None:
        """Read the files' footers.

        Raises:
            DataError: a file is missing, damaged, has other columns, or holds no pictures; or it is open which
                part of a split it is.
            UsageError: a file named twice, an unknown column, or several image columns to choose from.
        """
        if len({path.resolve() for path in params.files}) < len(params.files):
            raise UsageError("a parquet file is named twice; each row must become one item")
        footers = {path: _footer(path) for path in params.files}
        parts = dict(zip(params.files, parts_of_files(params.files, params.treat), strict=True))
        kept = [path for path, part in parts.items() if part != "skip"]
        if not kept:
            raise UsageError("all parquet files are to be left out (treat: skip); leave one to read")
        self._columns = columns_of(
            {path: footers[path][0] for path in kept}, params.image_column, params.label_column
        )
        self.files = [
            _File(path, name, parts[path], columns)
            for path, name, columns in zip(kept, distinct_names(kept), self._columns.of_file, strict=True)
        ]
        self.metadata_schema = check_columns(
            pa.schema([(column.name, column.type) for column in self.files[0].columns])
        )
        self._places, n_skipped = self._split_of_rows(params.treat)
        values = [(name,) for name in self._places]
        refuse_unknown(
            params.treat, [*values, *(one for path in params.files for one in (path.parts, (path.stem,)))]
        )
        self.n_items = sum(footers[path][1] for path in kept) - n_skipped
        if not self.n_items:
            raise DataError(f"no rows in {', '.join(map(str, kept))}")
        self._chosen: list[frozenset[int]] | None = None
        self._part: tuple[ToAct, ...] = ()
        if params.limit is not None:
            self._take(params.limit)

    def _take(self, limit: int) -> None:
        """Choose so many rows, one of each label (and part) in turn; of the files only the columns of these are read."""
        rows: list[tuple[int, int]] = []
        groups: list[tuple[str | None, str]] = []
        for number, file in enumerate(self.files):
            named = {one.name: one.source for one in file.columns if one.name in (LABEL, SPLIT)}
            columns = {name: _read_column(file.path, source) for name, source in named.items()}
            for row in range(_footer(file.path)[1]):
                said = str(columns[SPLIT][row] or "") if self._places else ""
                place = self._places.get(said, Place())
                if not place.is_skipped:
                    rows.append((number, row))
                    label = str(columns[LABEL][row]) if LABEL in columns else ""
                    groups.append((place.given or file.given, label))
        taken: list[set[int]] = [set() for _ in self.files]
        for at in first_in_turn(groups, limit):
            number, row = rows[at]
            taken[number].add(row)
        self._chosen = [frozenset(one) for one in taken]
        self.n_items = sum(map(len, self._chosen))
        self._part = told_part(self.n_items, len(rows), "one of each label in turn, by row")

    def _split_of_rows(self, treat: Mapping[str, Treatment]) -> tuple[dict[str, Place], int]:
        """What each value of the column `split` says, nothing where it is no split, and how many rows are left out."""
        counts: Counter[str] = Counter()
        for file in self.files:
            column = next(
                (one for one in file.columns if one.name == SPLIT and one.type == pa.string()), None
            )
            if column is None:
                return {}, 0
            for value in _read_column(file.path, column.source):
                counts[str(column.value(value) or "")] += 1
        found = places_of_values(counts, treat, SPLIT)
        return found, sum(counts[name] for name, place in found.items() if place.is_skipped)

    @property
    def notes(self) -> tuple[str, ...]:
        """Whether there are labels; columns that are called otherwise here, or left out."""
        return (*self._part, *self._columns.notes)

    def items(self, *, workers: Workers = 1, progress: Progress | None = None) -> Iterator[Item]:
        """One item per row, file by file; what does not decode carries its failure.

        Raises:
            DataError: a file turns out to be damaged on the way.
        """
        return each_picture(lambda row: whole_picture(*row), self._rows(), workers, progress, _size)

    def _rows(self) -> Iterator[_Row]:
        for place, one in enumerate(self.files):
            chosen = None if self._chosen is None else self._chosen[place]
            wanted = [self._columns.image, *(column.source for column in one.columns)]
            number = 0
            try:
                # Without these a whole file of row groups is read ahead.
                with pq.ParquetFile(one.path, pre_buffer=False, buffer_size=READ_BYTES) as file:
                    for group in range(file.num_row_groups):
                        of_group = file.metadata.row_group(group)
                        n_rows = of_group.num_rows
                        if chosen is not None and chosen.isdisjoint(range(number, number + n_rows)):
                            number += n_rows
                            continue
                        for batch in file.iter_batches(
                            _n_rows_at_once(of_group),
                            row_groups=[group],
                            columns=wanted,
                            use_threads=False,
                        ):
                            for at in range(batch.num_rows):
                                if chosen is None or number in chosen:
                                    row = self._row(one, number, *_values(batch.slice(at, 1)))
                                    if row is not None:
                                        yield row
                                number += 1
            except (OSError, pa.ArrowException) as error:
                raise DataError(
                    f"parquet file {one.path} is damaged after {number:,} rows: {error}"
                ) from error

    def _row(self, file: _File, number: int, values: dict[str, Any], failure: str | None) -> _Row | None:
        """None where the user leaves it out."""
        image = values[self._columns.image]
        content = image.get("bytes") if isinstance(image, dict) else image
        if content is None and failure is None:
            path = image.get("path") if isinstance(image, dict) else None
            failure = "the row holds no picture" if not path else (
                f"the row names the file {path!r} and does not hold its bytes; embed them in the parquet file"
            )  # fmt: skip
        metadata: dict[str, MetadataValue] = {}
        for column in file.columns:
            try:
                metadata[column.name] = column.value(values[column.source])
            except DataError as error:
                metadata[column.name], failure = None, str(error)
        given = file.given
        if self._places:
            place = self._places.get(str(metadata[SPLIT] or ""), Place())
            if place.is_skipped:
                return None
            given = place.given
        return f"{file.name}#{number}", content, failure, given, metadata


def _size(row: _Row) -> int:
    return len(row[1] or b"")


def _n_rows_at_once(group: pq.RowGroupMetaData) -> int:
    """Of a group: up to `BATCH_ROWS`, fewer where they are large."""
    return max(1, min(BATCH_ROWS, int(BATCH_BYTES * group.num_rows // max(1, group.total_byte_size))))


def _values(row: pa.RecordBatch) -> tuple[dict[str, Any], str | None]:
    """Those of a batch of one row, and why one of them is missing."""
    found = {name: _value(column[0]) for name, column in zip(row.schema.names, row.columns, strict=True)}
    failure = next((f"column {name!r}: {why}" for name, (_, why) in found.items() if why is not None), None)
    return {name: value for name, (value, _) in found.items()}, failure


def _value(scalar: pa.Scalar) -> tuple[Any, str | None]:
    """As Python has it; None, and why, for a text that is none: files do not say, and Arrow does not check."""
    try:
        return scalar.as_py(), None
    except UnicodeDecodeError as error:
        return None, f"its text is not UTF-8: {error}"


def _read_column(path: Path, name: str) -> list[Any]:
    try:
        with pq.ParquetFile(path) as file:
            return [_value(one)[0] for one in file.read(columns=[name]).column(0)]
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"parquet file {path} is damaged: {error}") from error


def _footer(path: Path) -> tuple[pa.Schema, int]:
    """Schema and number of rows."""
    if not path.is_file():
        raise DataError(f"parquet file {path} {'is not a file' if path.exists() else 'does not exist'}")
    try:
        with pq.ParquetFile(path) as file:
            return file.schema_arrow, file.metadata.num_rows
    except (OSError, pa.ArrowException, UnicodeEncodeError) as error:
        raise DataError(f"{path} is not a readable parquet file: {error}") from error
