"""Hugging Face parquet files with a column of images, as items that keep the pictures' original bytes.

Such a column is a `struct<bytes, path>`; class names come from the `huggingface` entry of the schema's
metadata (`datasets.Features`, https://huggingface.co/docs/datasets/image_dataset). Files are streamed.
"""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from deponij.pipeline.data.adapters.registry import ITEM_COLUMNS, Progress, check_columns, register_source
from deponij.pipeline.data.adapters.whole import each_picture, whole_picture
from deponij.pipeline.data.item import Item, MetadataValue, given_part_of_file
from deponij.pipeline.record_lists import Record
from deponij.store.errors import DataError, UsageError

LABEL = "label"
# Rows held at a time, before decoding; with pictures of 1 MB this is 64 MB.
BATCH_ROWS = 64
READ_BYTES = 1 << 20


class ParquetParams(Record):
    """Which files and columns hold the pictures and their labels.

    Attributes:
        files: parquet files of one schema, in the order of the items.
        image_column: by default the only column of type `struct<bytes, path>`.
        label_column: by default `label`, otherwise the only column of class labels, otherwise none.
    """

    files: tuple[Path, ...] = Field(min_length=1)
    image_column: str | None = None
    label_column: str | None = None


@dataclass(frozen=True, slots=True)
class Column:
    """A metadata column: its names in the file and among the items, its type, its classes if it has any."""

    source: str
    name: str
    type: pa.DataType
    classes: tuple[str, ...] | None

    def value(self, raw: Any) -> MetadataValue:
        """One value as the items have it; class numbers become names, -1 (unlabelled) becomes None.

        Raises:
            DataError: a class number that has no name.
        """
        if raw is None or (self.classes is not None and raw == -1):
            return None
        if self.classes is None:
            plain: MetadataValue = str(raw) if pa.types.is_string(self.type) else raw
            return plain
        if not isinstance(raw, int) or not 0 <= raw < len(self.classes):
            raise DataError(f"column {self.source!r} holds {raw!r}, outside its {len(self.classes)} classes")
        return self.classes[raw]


# An item's id, content, failure, given part and metadata, before its picture is decoded.
_Row = tuple[str, bytes | None, str | None, str | None, dict[str, MetadataValue]]


@register_source("parquet")
class ParquetSource:
    """Parquet files of one schema, with their columns understood."""

    Params = ParquetParams

    def __init__(self, params: ParquetParams) -> None:
        """Read the files' footers.

        Raises:
            DataError: a file is missing, damaged, has another schema, or holds no pictures.
            UsageError: a file named twice, an unknown column, or several image columns to choose from.
        """
        self.files = params.files
        self.names = _names(params.files)
        footers = [_footer(path) for path in params.files]
        schema = footers[0][0]
        for path, (other, _) in zip(params.files, footers, strict=True):
            if not other.equals(schema):
                raise DataError(
                    f"{path} has other columns than {params.files[0]}: {_difference(schema, other)}"
                )
        self.image_column = _image_column(schema, params)
        self.columns = _metadata_columns(schema, self.image_column, params.label_column)
        self.metadata_schema = check_columns(
            pa.schema([(column.name, column.type) for column in self.columns])
        )
        self.n_items = sum(n_rows for _, n_rows in footers)
        if not self.n_items:
            raise DataError(f"no rows in {', '.join(map(str, params.files))}")
        parts = [given_part_of_file(path.name) for path in params.files]
        # One part alone is not a split.
        self.given = parts if len(set(parts) - {None}) > 1 else [None] * len(parts)

    @property
    def notes(self) -> tuple[str, ...]:
        """Whether there are labels."""
        return () if any(column.name == LABEL for column in self.columns) else ("no column holds labels",)

    def items(self, *, workers: int = 1, progress: Progress | None = None) -> Iterator[Item]:
        """One item per row, file by file; what does not decode carries its failure.

        Raises:
            DataError: a file turns out to be damaged on the way.
        """
        return each_picture(lambda row: whole_picture(*row), self._rows(), workers, progress)

    def _rows(self) -> Iterator[_Row]:
        wanted = [self.image_column, *(column.source for column in self.columns)]
        for path, name, given in zip(self.files, self.names, self.given, strict=True):
            number = 0
            try:
                # Without these a whole file of row groups is read ahead.
                with pq.ParquetFile(path, pre_buffer=False, buffer_size=READ_BYTES) as file:
                    for batch in file.iter_batches(BATCH_ROWS, columns=wanted, use_threads=False):
                        for values in batch.to_pylist():
                            yield self._row(f"{name}#{number}", values, given)
                            number += 1
            except (OSError, pa.ArrowException) as error:
                raise DataError(f"parquet file {path} is damaged after {number:,} rows: {error}") from error

    def _row(self, item_id: str, values: dict[str, Any], given: str | None) -> _Row:
        image, failure = values[self.image_column], None
        content = image.get("bytes") if isinstance(image, dict) else image
        if content is None:
            path = image.get("path") if isinstance(image, dict) else None
            failure = "the row holds no picture" if not path else (
                f"the row names the file {path!r} and does not hold its bytes; embed them in the parquet file"
            )  # fmt: skip
        metadata: dict[str, MetadataValue] = {}
        for column in self.columns:
            try:
                metadata[column.name] = column.value(values[column.source])
            except DataError as error:
                metadata[column.name], failure = None, str(error)
        return item_id, content, failure, given, metadata


def _footer(path: Path) -> tuple[pa.Schema, int]:
    """Schema and number of rows."""
    if not path.is_file():
        raise DataError(f"parquet file {path} {'is not a file' if path.exists() else 'does not exist'}")
    try:
        with pq.ParquetFile(path) as file:
            return file.schema_arrow, file.metadata.num_rows
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path} is not a readable parquet file: {error}") from error


def _names(files: Sequence[Path]) -> list[str]:
    """What the item ids begin with: the file's name, or where names repeat its path below the common one."""
    if len({path.resolve() for path in files}) < len(files):
        raise UsageError("a parquet file is named twice; each row must become one item")
    names = [path.name for path in files]
    if len(set(names)) == len(names):
        return names
    # Links stay as they are named: in the hub's cache they lead to files that are named by a hash.
    absolute = [Path(os.path.abspath(path)) for path in files]  # noqa: PTH100
    common = os.path.commonpath([path.parent for path in absolute])
    return [path.relative_to(common).as_posix() for path in absolute]


def _difference(schema: pa.Schema, other: pa.Schema) -> str:
    ours, theirs = ({f"{field.name}: {field.type}" for field in one} for one in (schema, other))
    has, lacks = (", ".join(sorted(columns)) or "nothing" for columns in (theirs - ours, ours - theirs))
    return f"{has} instead of {lacks}"


def _image_column(schema: pa.Schema, params: ParquetParams) -> str:
    columns = [str(field.name) for field in schema if _is_image(field.type)]
    where = params.files[0]
    if params.image_column is not None:
        if params.image_column not in schema.names:
            raise UsageError(
                f"{where} has no column {params.image_column!r}; it has {', '.join(schema.names)}"
            )
        kind = schema.field(params.image_column).type
        if not (_is_image(kind) or _is_bytes(kind)):
            raise UsageError(f"column {params.image_column!r} of {where} holds {kind}, not pictures as bytes")
        return params.image_column
    if not columns:
        raise DataError(
            f"{where} has no image column (struct<bytes: binary, path: string>); it has "
            f"{', '.join(f'{field.name}: {field.type}' for field in schema)}"
        )
    if len(columns) > 1:
        raise UsageError(f"{where} has several image columns ({', '.join(columns)}); name one of them")
    return columns[0]


def _is_image(kind: pa.DataType) -> bool:
    if not pa.types.is_struct(kind):
        return False
    index = kind.get_field_index("bytes")
    return bool(index >= 0 and _is_bytes(kind.field(index).type))


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _metadata_columns(schema: pa.Schema, image_column: str, label_column: str | None) -> list[Column]:
    label = _label_column(schema, _class_names(schema), label_column)
    return plain_columns(schema.remove(schema.get_field_index(image_column)), label)


def plain_columns(schema: pa.Schema, label: str | None) -> list[Column]:
    """The column of labels first, under the name `label`, then every other column of plain values."""
    classes = _class_names(schema)
    found = [] if label is None else [_column(schema, label, LABEL, classes)]
    for field in schema:
        if field.name == label or not _is_plain(field.type):
            continue
        taken = field.name in ITEM_COLUMNS or (label is not None and field.name == LABEL)
        found.append(_column(schema, field.name, f"source_{field.name}" if taken else field.name, classes))
    return found


def _label_column(schema: pa.Schema, classes: dict[str, tuple[str, ...]], wanted: str | None) -> str | None:
    if wanted is not None:
        if wanted not in schema.names or not _is_plain(schema.field(wanted).type):
            plain = [field.name for field in schema if _is_plain(field.type)]
            raise UsageError(
                f"no column {wanted!r} holds labels; plain columns are {', '.join(plain) or 'none'}"
            )
        return wanted
    if LABEL in schema.names and _is_plain(schema.field(LABEL).type):
        return LABEL
    return next(iter(classes)) if len(classes) == 1 else None


def _column(schema: pa.Schema, source: str, name: str, classes: dict[str, tuple[str, ...]]) -> Column:
    if source in classes or name == LABEL:
        # Labels are text, so that a class is called the same whatever file it came from.
        return Column(source, name, pa.string(), classes.get(source))
    kind = schema.field(source).type
    plain: list[tuple[Callable[[pa.DataType], bool], pa.DataType]] = [
        (pa.types.is_boolean, pa.bool_()),
        (pa.types.is_integer, pa.int64()),
        (pa.types.is_floating, pa.float64()),
    ]
    return Column(source, name, next((to for test, to in plain if test(kind)), pa.string()), None)


def _is_plain(kind: pa.DataType) -> bool:
    types = pa.types
    tests = (types.is_string, types.is_large_string, types.is_integer, types.is_floating, types.is_boolean)
    return kind != pa.uint64() and any(test(kind) for test in tests)


def _class_names(schema: pa.Schema) -> dict[str, tuple[str, ...]]:
    """Names of the classes of each `ClassLabel` feature; empty where the file says nothing."""
    raw = (schema.metadata or {}).get(b"huggingface")
    if raw is None:
        return {}
    try:
        features = json.loads(raw)["info"]["features"]
        return {
            column: tuple(map(str, feature["names"]))
            for column, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" and column in schema.names
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"the schema's 'huggingface' entry is not what `datasets` writes: {error!r}"
        ) from error
