"""A table of pictures (CSV, TSV or Parquet) with their labels, as items that keep the pictures' original bytes.

    path,label,split,camera
    pictures/1.jpg,cat,train,A

Every further column of plain values becomes a column of the items. Pictures may have several labels each: in a Parquet
column of lists, in texts with a separator that is asked for, or in a column of 0 and 1 for each class (`label_sets`).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
from pydantic import Field

from deponij.pipeline.data.adapters.addresses import AT_ONCE, Addresses, addresses, file_of
from deponij.pipeline.data.adapters.file_names import Finder, is_address, numbered
from deponij.pipeline.data.adapters.parquet_columns import columns_of_table
from deponij.pipeline.data.adapters.registry import Progress, SourceParams, check_columns, register_source
from deponij.pipeline.data.adapters.table_columns import (
    PARTS,
    PATHS,
    column_called,
    refuse_twins,
    with_labels,
)
from deponij.pipeline.data.adapters.whole import COPIED, Reading, bytes_held, each_picture, picture_in_file
from deponij.pipeline.data.inside import Links, existing_folder
from deponij.pipeline.data.item import Item, MetadataValue, ToAct
from deponij.pipeline.data.parallel import Workers, ordered_map
from deponij.pipeline.data.parts import Place, Treatment, places_of_values, refuse_unknown
from deponij.pipeline.data.try_out import first_in_turn, told_part
from deponij.pipeline.listings import read_listing
from deponij.store.errors import DataError, UsageError

# Beside the table, for pictures that it names by address.
FETCHED = "fetched"


class ListedParams(SourceParams):
    """Which table, and what its columns mean.

    Attributes:
        table: a CSV or TSV file with a header (comma, semicolon, tab or bar between the fields), or a Parquet file.
        images: the folder that its paths are relative to; by default the table's own.
        path_column, label_column, part_column: by default the columns that are usually called so.
        label_separator: between the labels of a picture, such as `|`; none: a text is one label.
        label_columns: columns of 0 and 1, one a class, that take the place of a label column.
        encoding: of a CSV file; UTF-16 is recognised where the file begins with its mark.
        treat: what values of the part column are whose names leave it open: `train`, `val`, `test`, `class` (no part)
            or `skip` to leave their rows out.
        links_into: folders that symbolic links may lead into; DVC's cache is one by itself.
        fetch: fetch pictures that are named by http(s) addresses, and are not here, into `fetched` beside the table.
    """

    table: Path
    images: Path | None = None
    path_column: str | None = None
    label_column: str | None = None
    part_column: str | None = None
    label_separator: str | None = None
    label_columns: tuple[str, ...] = ()
    encoding: str = Field(default="utf-8", min_length=1)
    treat: dict[str, Treatment] = Field(default_factory=dict)
    links_into: tuple[Path, ...] = ()
    fetch: bool = False


@dataclass(frozen=True, slots=True)
class _Row:
    """A row before its picture is read: from a path below the data set's folder, or a file that was fetched.

    Attributes:
        file: below the folder for what is fetched.
    """

    item_id: str
    problem: str | None
    given: str | None
    metadata: dict[str, MetadataValue]
    address: str | None = None
    file: str | None = None


@register_source("listed")
class ListedSource:
    """A table of pictures, read."""

    Params = ListedParams

    def __init__(self, params: ListedParams) -> None:
        """Read the table.

        Raises:
            DataError: there is no such table or folder, it is damaged, or it names no pictures.
            UsageError: a column that it has not.
        """
        table = read_listing(params.table, params.encoding)
        if not table.num_rows:
            raise DataError(f"{params.table} has no rows")
        refuse_twins(table, params.table)
        self.path_column = column_called(table, params.path_column, PATHS, "paths of pictures", params.table)
        if self.path_column is None:
            raise DataError(
                f"{params.table} has no column of paths ({', '.join(PATHS[:4])}, ...); it has "
                f"{', '.join(table.column_names)}; name one with --path-column (`path_column` in a profile)"
            )
        table, label, self._label_notes = with_labels(
            table, params.label_column, params.label_separator, params.label_columns, params.table
        )
        part = column_called(table, params.part_column, PARTS, "parts", params.table)
        raw = [None] * table.num_rows if part is None else table[part].to_pylist()
        values = [str(one or "") for one in raw]
        refuse_unknown(params.treat, {(value,) for value in values if value})
        found = places_of_values(values, params.treat, str(part))
        if not found:
            part = None  # a column like any other
        of_rows = [found.get(value, Place()) for value in values]
        self._places = [place for place in of_rows if not place.is_skipped]
        self._table = table.filter(pa.array([not place.is_skipped for place in of_rows]))
        self._part: tuple[ToAct, ...] = ()
        if params.limit is not None:
            self._take(params.limit, label)
        if not self.n_items:
            raise UsageError(
                f"all rows of {params.table} are to be left out (treat: skip); leave one to read"
            )
        left = [name for name in table.column_names if name != part]
        self._columns = columns_of_table(table.select(left).schema, self.path_column, label)
        self.columns = self._columns.of_file[0]
        self.metadata_schema = check_columns(pa.schema([(one.name, one.type) for one in self.columns]))
        folder = params.images or params.table.parent
        self.root = existing_folder(folder, "folder of the pictures")
        self._fetched_into = params.table.parent / FETCHED if params.fetch else None
        self.links = Links.of(folder, params.links_into)
        self._finder = Finder(self.root)
        raw_paths = self._table[self.path_column].to_pylist()
        self._paths = [self._finder.find(_tidied(raw, self.root)) for raw in raw_paths]

    @property
    def n_items(self) -> int:
        """One item per row that is not left out."""
        return int(self._table.num_rows)

    @property
    def notes(self) -> tuple[str, ...]:
        """Which labels are read how; columns that are called otherwise here, or left out; rows in no part."""
        notes: tuple[str, ...] = (*self._part, *self._label_notes, *self._columns.notes, *self._finder.notes)
        outside = sum(place.given is None for place in self._places)
        if not 0 < outside < self.n_items:
            return notes
        return (*notes, f"pictures in no part of the given split: {outside:,}")

    def picture_files(self) -> Iterator[Path]:
        """Every picture that is named; those of addresses where they are kept."""
        for named in filter(None, self._paths):
            if not is_address(named):
                yield self.root / named
            elif self._fetched_into is not None:
                yield self._fetched_into / file_of(named)

    def items(
        self, *, workers: Workers = 1, progress: Progress | None = None, reading: Reading = COPIED
    ) -> Iterator[Item]:
        """One item per row, in order; what cannot be read carries its failure."""
        fetched = None if self._fetched_into is None else self._fetched_into.resolve()
        one = partial(_item, root=self.root, fetched=fetched, links=self.links, reading=reading)
        return each_picture(
            one,
            self._fetching(),
            workers,
            progress,
            lambda row: bytes_held(Path(*_place(row, self.root, fetched)), reading),
        )

    def _fetching(self) -> Iterator[_Row]:
        """The rows, of which those with an address wait for their file; many are fetched at once, in order."""
        if self._fetched_into is None:
            yield from self._rows()
            return
        with addresses(self._fetched_into) as there:
            one = partial(_fetched, addresses=there)
            yield from ordered_map(one, self._rows(), AT_ONCE, abandon=there.stop)

    def _take(self, limit: int, label: str | None) -> None:
        """Keep so many rows, one of each label (and part) in turn."""
        n_all = self.n_items
        labels = [None] * n_all if label is None else self._table[label].to_pylist()
        groups = [(place.given, str(one)) for place, one in zip(self._places, labels, strict=True)]
        taken = first_in_turn(groups, limit)
        self._table = self._table.take(pa.array(taken, pa.int64()))
        self._places = [self._places[row] for row in taken]
        self._part = told_part(len(taken), n_all, "one of each label in turn, by row")

    def _rows(self) -> Iterator[_Row]:
        seen: dict[str, int] = {}
        taken = set(self._paths)
        values = [(one, self._table[one.source].to_pylist()) for one in self.columns]
        for row, named in enumerate(self._paths):
            path, failure, address = named, None, None
            if not named:
                path = numbered("row ", row + 1, taken)
                failure = f"row {row + 1} names no picture"
            elif named in seen:
                failure = f"row {row + 1} names the same picture as row {seen[named] + 1}; one row a picture is expected"
                path = numbered(f"{named}#", row + 1, taken)
            elif is_address(named) and self._fetched_into is None:
                failure = (
                    f"row {row + 1} names an address; --fetch (`fetch: true` in a profile) fetches it, or put the "
                    "picture into the folder, under its own name"
                )
            elif is_address(named):
                address = named
            seen.setdefault(named, row)
            metadata: dict[str, MetadataValue] = {}
            for column, of_rows in values:
                try:
                    metadata[column.name] = column.value(of_rows[row])
                except DataError as error:
                    metadata[column.name], failure = None, str(error)
            yield _Row(path, failure, self._places[row].given, metadata, address)


def names_pictures(path: Path, encoding: str = "utf-8") -> bool:
    """Whether a table has a column that is called like one of paths.

    Raises:
        DataError: as `read_listing`.
    """
    return column_called(read_listing(path, encoding), None, PATHS, "paths of pictures", path) is not None


def _tidied(raw: Any, root: Path) -> str:
    """A path as the data set's folder has it: without `./`, with forward slashes, relative where it lies inside."""
    path = "" if raw is None else str(raw).strip()
    if "\\" in path and "/" not in path:
        path = path.replace("\\", "/")
    if not path or is_address(path):
        return path
    pure = PurePosixPath(path)
    return str(pure.relative_to(root) if pure.is_relative_to(root) else pure)


def _fetched(row: _Row, *, addresses: Addresses) -> _Row:
    if row.address is None or row.problem is not None:
        return row
    try:
        return replace(row, file=addresses.fetched(row.address))
    except DataError as error:
        return replace(row, problem=str(error))


def _place(row: _Row, root: Path, fetched: Path | None) -> tuple[Path, str]:
    """The folder of a row's picture, and its name there."""
    return (root, row.item_id) if row.file is None or fetched is None else (fetched, row.file)


def _item(row: _Row, *, root: Path, fetched: Path | None, links: Links, reading: Reading) -> Item:
    return picture_in_file(
        row.item_id,
        *_place(row, root, fetched),
        links,
        reading,
        failure=row.problem,
        given=row.given,
        metadata=row.metadata,
    )
