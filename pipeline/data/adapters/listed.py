"""A table of pictures (CSV, TSV or Parquet) with their labels, as items that keep the pictures' original bytes.

    path,label,split,camera
    pictures/1.jpg,cat,train,A

Every further column of plain values becomes a column of the items. Pictures may have several labels each: in a Parquet
column of lists, in texts with a separator that is asked for, or in a column of 0 and 1 for each class (`label_sets`).
"""

import io
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.csv as arrow_csv
from pydantic import Field

from deponij.pipeline.data.adapters.file_names import Finder, is_address
from deponij.pipeline.data.adapters.label_sets import (
    LABEL_SET,
    is_list,
    looks_like_sets,
    of_choices,
    of_columns,
    split_texts,
)
from deponij.pipeline.data.adapters.parquet_columns import LABEL, columns_of_table
from deponij.pipeline.data.adapters.registry import Progress, check_columns, register_source
from deponij.pipeline.data.adapters.whole import each_picture, whole_picture
from deponij.pipeline.data.inside import Links, existing_folder, read_inside
from deponij.pipeline.data.item import Item, MetadataValue
from deponij.pipeline.data.parts import Place, Treatment, places_of_values, refuse_unknown
from deponij.pipeline.record_lists import Record
from deponij.store.atomic import read_table
from deponij.store.errors import DataError, StoreError, UsageError

_PARQUET = (".parquet", ".pq")
_DELIMITERS = ",\t;|"
# What people call these columns, without regard to case; the first that is there is taken.
_PATHS = (
    "path",
    "file",
    "filename",
    "file_name",
    "filepath",
    "file_path",
    "image_path",
    "img_path",
    "image",
    "img",
)
_LABELS = (
    "label",
    "class",
    "category",
    "target",
    "class_name",
    "species",
    "labels",
    "choice",
    "choices",
    "tags",
)
_PARTS = ("split", "part", "subset", "set", "partition")


class ListedParams(Record):
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
        self.path_column = _column(table, params.path_column, _PATHS, "paths of pictures", params.table)
        if self.path_column is None:
            raise DataError(
                f"{params.table} has no column of paths ({', '.join(_PATHS[:4])}, ...); it has "
                f"{', '.join(table.column_names)}; name one as path_column"
            )
        table, label, self._label_notes = _with_labels(table, params)
        part = _column(table, params.part_column, _PARTS, "parts", params.table)
        raw = [None] * table.num_rows if part is None else table[part].to_pylist()
        values = [str(one or "") for one in raw]
        refuse_unknown(params.treat, {(value,) for value in values if value})
        found = places_of_values(values, params.treat, str(part))
        if not found:
            part = None  # a column like any other
        of_rows = [found.get(value, Place()) for value in values]
        self._places = [place for place in of_rows if not place.is_skipped]
        self._table = table.filter(pa.array([not place.is_skipped for place in of_rows]))
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
        notes = (*self._label_notes, *self._columns.notes, *self._finder.notes)
        outside = sum(place.given is None for place in self._places)
        if not 0 < outside < self.n_items:
            return notes
        return (*notes, f"pictures in no part of the given split: {outside:,}")

    def items(self, *, workers: int = 1, progress: Progress | None = None) -> Iterator[Item]:
        """One item per row, in order; what cannot be read carries its failure."""
        return each_picture(partial(_item, root=self.root, links=self.links), self._rows(), workers, progress)

    def _rows(self) -> Iterator[tuple[str, str | None, str | None, dict[str, MetadataValue]]]:
        """Item id, failure, part and metadata of each row."""
        seen: dict[str, int] = {}
        values = [(one, self._table[one.source].to_pylist()) for one in self.columns]
        for row, path in enumerate(self._paths):
            failure = None
            if is_address(path):
                failure = f"row {row + 1} names an address; fetch the picture into the folder of the pictures, under its name"
            elif not path:
                path, failure = f"row {row + 1}", f"row {row + 1} names no picture"
            elif path in seen:
                failure = f"row {row + 1} names the same picture as row {seen[path] + 1}; one row a picture is expected"
                path = f"{path}#{row + 1}"
            seen.setdefault(path, row)
            metadata: dict[str, MetadataValue] = {}
            for column, of_rows in values:
                try:
                    metadata[column.name] = column.value(of_rows[row])
                except DataError as error:
                    metadata[column.name], failure = None, str(error)
            yield path, failure, self._places[row].given, metadata


def read_listing(path: Path, encoding: str = "utf-8") -> pa.Table:
    """The table, texts as texts: only an empty field is a missing value, since a class may be called `NA`.

    Raises:
        DataError: there is none, it is in another encoding, or it is no table.
    """
    if not path.is_file():
        raise DataError(f"table {path} {'is not a file' if path.exists() else 'does not exist'}")
    if path.suffix.lower() in _PARQUET:
        try:
            return read_table(path)
        except StoreError as error:
            raise DataError(str(error)) from error
    data = path.read_bytes()
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        encoding = "utf-16"
    try:
        text = data.decode("utf-8-sig" if encoding.lower() in ("utf-8", "utf8") else encoding)
    except (UnicodeDecodeError, LookupError) as error:
        raise DataError(
            f"table {path} is not in {encoding}: {error}; name its encoding, such as `cp1252` or `shift_jis`"
        ) from error
    header = text.split("\n", 1)[0]
    delimiter = max(_DELIMITERS, key=header.count)
    try:
        return arrow_csv.read_csv(
            io.BytesIO(text.encode()),
            parse_options=arrow_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            convert_options=arrow_csv.ConvertOptions(strings_can_be_null=False, null_values=[""]),
        )
    except pa.ArrowException as error:
        raise DataError(f"table {path} cannot be read as CSV: {error}") from error


def _with_labels(table: pa.Table, params: ListedParams) -> tuple[pa.Table, str | None, tuple[str, ...]]:
    """The table with one column of labels, if any, its name, and how its labels are read.

    Raises:
        UsageError: columns that are not there, or several ways at once. DataError: a value that cannot be read so.
    """
    if params.label_columns:
        if params.label_column or params.label_separator:
            raise UsageError(
                "columns of 0 and 1 are the labels by themselves; name no label column or separator too"
            )
        sets = of_columns(table, params.label_columns, params.table)
        left = table.drop_columns(list(dict.fromkeys(params.label_columns)))
        name = LABEL if LABEL not in left.column_names else "labels of columns"
        return (
            left.append_column(name, pa.array(sets, LABEL_SET)),
            name,
            _told_sets(sets, "0 in every column"),
        )
    label = _column(table, params.label_column, _LABELS, "labels", params.table)
    if label is None:
        if params.label_separator:
            raise UsageError(
                f"{params.table} has no column of labels to take apart at {params.label_separator!r}; it has "
                f"{', '.join(table.column_names)}"
            )
        return table, None, ()
    if is_list(table[label].type):
        if params.label_separator:
            raise UsageError(
                f"column {label!r} of {params.table} holds lists already; name no label separator"
            )
        return table, label, _told_sets(table[label].to_pylist(), "an empty list")
    texts = [None if one is None else str(one) for one in table[label].to_pylist()]
    if params.label_separator:
        sets = split_texts(texts, params.label_separator)
        if not any(one is not None and len(one) > 1 for one in sets):
            raise UsageError(
                f"no value in column {label!r} of {params.table} holds {params.label_separator!r}; such as "
                f"{next((one for one in texts if one), '')!r}"
            )
        return _with_sets(table, label, sets), label, _told_sets(sets, f"{params.label_separator!r} alone")
    if (sets_or_none := of_choices(texts, label)) is not None:
        return _with_sets(table, label, sets_or_none), label, _told_sets(sets_or_none, '{"choices": []}')
    return table, label, (*_other_labels(table, label), *_told_separator(texts, label))


def _with_sets(table: pa.Table, label: str, sets: Sequence[list[str] | None]) -> pa.Table:
    return table.set_column(table.column_names.index(label), label, pa.array(sets, LABEL_SET))


def _told_sets(sets: Sequence[Sequence[str] | None], empty: str) -> tuple[str, ...]:
    n_none, n_empty = sum(one is None for one in sets), sum(one is not None and not len(one) for one in sets)
    known = [len(one) for one in sets if one is not None]
    mean = sum(known) / max(1, len(known))
    return (
        f"several labels a picture, {mean:.2g} on average; {n_empty:,} pictures that show none of the classes ({empty}), "
        f"{n_none:,} without labels (an empty field)",
    )


def _other_labels(table: pa.Table, label: str) -> tuple[str, ...]:
    others = [name for name in table.column_names if name != label and name.strip().lower() in _LABELS]
    if not others:
        return ()
    return (
        f"labels are those of column {label!r}; {', '.join(map(repr, others))} could be meant too (--labels)",
    )


def _told_separator(texts: Sequence[str | None], label: str) -> tuple[str, ...]:
    sign = looks_like_sets(texts)
    if sign is None:
        return ()
    such = max((one for one in texts if one and sign in one), key=len)
    return (
        f"values of {label!r} such as {such!r} are one class each; if they are several labels, "
        f"--label-separator {sign!r} takes them apart",
    )


def _column(table: pa.Table, wanted: str | None, usual: Sequence[str], what: str, path: Path) -> str | None:
    if wanted is not None:
        if wanted not in table.column_names:
            raise UsageError(
                f"{path} has no column {wanted!r} for {what}; it has {', '.join(table.column_names)}"
            )
        return wanted
    names = {name.strip().lower(): name for name in reversed(table.column_names)}
    return next((names[name] for name in usual if name in names), None)


def _tidied(raw: Any, root: Path) -> str:
    """A path as the data set's folder has it: without `./`, with forward slashes, relative where it lies inside."""
    path = "" if raw is None else str(raw).strip()
    if "\\" in path and "/" not in path:
        path = path.replace("\\", "/")
    if not path:
        return ""
    pure = PurePosixPath(path)
    return str(pure.relative_to(root) if pure.is_relative_to(root) else pure)


def _item(
    row: tuple[str, str | None, str | None, dict[str, MetadataValue]], *, root: Path, links: Links
) -> Item:
    item_id, failure, given, metadata = row
    content = None
    if failure is None:
        try:
            content = read_inside(root, item_id, links)
        except DataError as error:
            failure = str(error)
    return whole_picture(item_id, content, failure, given, metadata)
