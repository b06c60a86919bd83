"""Which columns of Hugging Face parquet files hold the pictures, the labels and what else is known of each row.

Class names come from the `huggingface` entry of each file's own schema (`datasets.Features`,
https://huggingface.co/docs/datasets/image_dataset). Rows are read in `hf_parquet`.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from deponij.pipeline.data.adapters.label_sets import LABEL_SET, is_list, label_set
from deponij.pipeline.data.adapters.registry import is_taken
from deponij.pipeline.data.item import MetadataValue
from deponij.store.errors import DataError, UsageError

LABEL = "label"
_NAME_CHARS = 100
Classes = Mapping[str, tuple[str, ...]]
_WORDS = {"text": "text", "int": "whole numbers", "float": "numbers", "bool": "truth values"}
_SORTS: tuple[tuple[Callable[[pa.DataType], bool], str], ...] = (
    (pa.types.is_string, "text"),
    (pa.types.is_large_string, "text"),
    (pa.types.is_string_view, "text"),
    (pa.types.is_boolean, "bool"),
    (pa.types.is_integer, "int"),
    (pa.types.is_floating, "float"),
)


@dataclass(frozen=True, slots=True)
class Column:
    """A metadata column: its names in the file and among the items, its type there, its classes if it has any."""

    source: str
    name: str
    type: pa.DataType
    classes: tuple[str, ...] | None

    def value(self, raw: Any) -> MetadataValue:
        """One value as the items have it; class numbers become names, -1 (unlabelled), NaN and empty texts become None.

        Raises:
            DataError: a class number that has no name, or a list of labels with a gap.
        """
        if self.type == LABEL_SET:
            names: MetadataValue = label_set(raw, self.classes, self.source)
            return names
        if raw is None or raw == "" or (self.classes is not None and raw == -1):
            return None
        if self.classes is None:
            if self.type != pa.string():
                plain: MetadataValue = raw
                return plain
            return None if isinstance(raw, float) and raw != raw else str(raw)  # noqa: PLR0124
        if not isinstance(raw, int) or not 0 <= raw < len(self.classes):
            raise DataError(f"column {self.source!r} holds {raw!r}, outside its {len(self.classes)} classes")
        return self.classes[raw]


@dataclass(frozen=True, slots=True)
class Columns:
    """What a set of files holds.

    Attributes:
        image: the column of pictures.
        of_file: the metadata columns of each file, the same names and types for all, in the order of the first
            file, the label before the others.
        left_out: columns of the first file whose values no items table can hold, with their types.
    """

    image: str
    of_file: tuple[tuple[Column, ...], ...]
    left_out: tuple[str, ...]

    @property
    def notes(self) -> tuple[str, ...]:
        """Whether there are labels; columns that are called otherwise here, or left out."""
        first = self.of_file[0]
        notes = [] if any(column.name == LABEL for column in first) else ["no column holds labels"]
        renamed = [f"{one.source!r} is {one.name!r}" for one in first if one.name not in (one.source, LABEL)]
        if renamed:
            notes.append(
                f"columns whose names the items need for themselves, or no file can have, have others: {', '.join(renamed)}"
            )
        if self.left_out:
            notes.append(
                f"columns that are left out, since they hold no plain values: {', '.join(self.left_out)}"
            )
        return tuple(notes)


def columns_of(
    schemas: Mapping[Path, pa.Schema], image_column: str | None, label_column: str | None
) -> Columns:
    """The columns of files, understood; their order in a file says nothing.

    Args:
        schemas: of each file.
        image_column, label_column: what the user names.

    Raises:
        UsageError: an unknown column, or several image columns to choose from.
        DataError: no pictures, or a file has other columns than the first.
    """
    for path, schema in schemas.items():
        if twice := sorted({name for name in schema.names if schema.names.count(name) > 1}):
            raise DataError(f"{path} has two columns of the name {', '.join(map(repr, twice))}; rename one")
    (first, schema), *others = schemas.items()
    image = _image_column(schema, image_column, first)
    classes = {path: _class_names(one, path) for path, one in schemas.items()}
    label = _label_column(schema, classes[first], label_column)
    for path, other in others:
        _refuse_other(first, schema, classes[first], path, other, classes[path], image)
    return _understood(list(schemas.values()), list(classes.values()), image, label)


def columns_of_table(schema: pa.Schema, image: str, label: str | None) -> Columns:
    """The columns of one table, whose column `image` names pictures that lie elsewhere."""
    return _understood([schema], [{}], image, label)


def _understood(
    schemas: Sequence[pa.Schema], classes: Sequence[Classes], image: str, label: str | None
) -> Columns:
    names = _names(schemas[0], image, label)
    types = {source: _type(schemas, source) for source in names}
    of_file = [
        tuple(
            Column(
                source, name, _of_items(types[source], name == LABEL or source in known), known.get(source)
            )
            for source, name in names.items()
        )
        for known in classes
    ]
    left_out = tuple(
        f"{field.name!r} ({field.type})"
        for field in schemas[0]
        if field.name not in (image, label) and not _is_plain(field.type)
    )
    return Columns(image, tuple(of_file), left_out)


def _of_items(kind: pa.DataType, is_label: bool) -> pa.DataType:
    """Labels are text, so that a class is called the same whatever file it came from."""
    return pa.string() if is_label and kind != LABEL_SET else kind


def _names(schema: pa.Schema, image: str, label: str | None) -> dict[str, str]:
    """Names among the items by those in the file: the label first, then every other column of plain values."""
    name_of = {} if label is None else {label: LABEL}
    own = {name.lower() for name in schema.names}
    for field in schema:
        if field.name in (image, label) or not _is_plain(field.type):
            continue
        # Case says nothing to a filter in SQL.
        others = {name.lower() for name in name_of.values()}
        name = _plain(field.name)
        while is_taken(name) or name.lower() in others or (name != field.name and name.lower() in own):
            name = f"source_{name}"
        name_of[field.name] = name
    return name_of


def _plain(name: str) -> str:
    """A column's name as that of a file, which results by these labels have."""
    kept = "".join(one if one.isprintable() and one not in "/\\" else "_" for one in name)
    return kept.lstrip(".")[:_NAME_CHARS] or "column"


def _type(schemas: Sequence[pa.Schema], source: str) -> pa.DataType:
    if is_list(schemas[0].field(source).type):
        return LABEL_SET
    kinds = [_values(schema.field(source).type) for schema in schemas]
    if pa.uint64() in kinds:
        return pa.uint64()
    sorts = [sort for kind in kinds if (sort := _sort(kind)) is not None]
    return {"bool": pa.bool_(), "int": pa.int64(), "float": pa.float64()}.get(
        (*sorts, "text")[0], pa.string()
    )


def _values(kind: pa.DataType) -> pa.DataType:
    """What a column of this type holds: categories are stored beside their numbers."""
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _sort(kind: pa.DataType) -> str | None:
    return next((sort for test, sort in _SORTS if test(_values(kind))), None)


def _is_plain(kind: pa.DataType) -> bool:
    # A column without any value has no type of its own; another file may have one.
    return _sort(kind) is not None or pa.types.is_null(kind)


def _refuse_other(
    first: Path,
    schema: pa.Schema,
    classes: Classes,
    path: Path,
    other: pa.Schema,
    theirs: Classes,
    image: str,
) -> None:
    """Say in which columns a file differs from the first."""
    problems = [f"it lacks the column {name!r}" for name in schema.names if name not in other.names]
    problems += [f"it has a column {name!r} more" for name in other.names if name not in schema.names]
    for name in set(schema.names) & set(other.names):
        ours, its = schema.field(name).type, other.field(name).type
        if name == image and _is_image(ours) == _is_image(its) and _is_bytes(ours) == _is_bytes(its):
            continue
        # Of how numbers and texts are stored nothing depends; a column without any value fits all.
        is_alike = (_sort(ours) or ours, name in classes) == (_sort(its) or its, name in theirs)
        if not is_alike and not pa.types.is_null(ours) and not pa.types.is_null(its):
            told = _told(its, name in theirs), _told(ours, name in classes)
            problems.append("its column {!r} holds {}, that of the first {}".format(name, *told))
    if problems:
        raise DataError(
            f"{path} has other columns than {first}: {'; '.join(sorted(problems))}. All files of a data set need the same "
            "columns (in any order); write them anew, or run on those that are alike"
        )


def _told(kind: pa.DataType, has_names: bool) -> str:
    """What a column holds, in words."""
    sort = _sort(kind)
    return (
        str(kind) if sort is None else "class numbers with names" if has_names else f"{_WORDS[sort]} ({kind})"
    )


def _image_column(schema: pa.Schema, named: str | None, where: Path) -> str:
    columns = [str(field.name) for field in schema if _is_image(field.type)]
    if named is not None:
        if named not in schema.names:
            raise UsageError(f"{where} has no column {named!r}; it has {', '.join(schema.names)}")
        kind = schema.field(named).type
        if not (_is_image(kind) or _is_bytes(kind)):
            raise UsageError(f"column {named!r} of {where} holds {kind}, not pictures as bytes")
        return named
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
    tests = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view)
    return any(test(kind) for test in tests)


def _label_column(schema: pa.Schema, classes: Classes, named: str | None) -> str | None:
    could = [field.name for field in schema if _is_plain(field.type) or is_list(field.type)]
    if named is not None:
        if named not in could:
            raise UsageError(f"no column {named!r} holds labels; these could: {', '.join(could) or 'none'}")
        return named
    if LABEL in could:
        return LABEL
    return next(iter(classes)) if len(classes) == 1 else None


def _class_names(schema: pa.Schema, path: Path) -> Classes:
    """Names of the classes of each `ClassLabel` feature; empty where the file says nothing."""
    raw = (schema.metadata or {}).get(b"huggingface")
    if raw is None:
        return {}
    try:
        features = json.loads(raw)["info"]["features"]
        classes = {column: _classes_of(feature) for column, feature in features.items()}
        return {column: names for column, names in classes.items() if names and column in schema.names}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            f"the 'huggingface' entry of the schema of {path} is not what `datasets` writes: {error!r}"
        ) from error


def _classes_of(feature: Any) -> tuple[str, ...]:
    """Names of a `ClassLabel`, or of a list of them (`List`, `Sequence`, or a list with the one feature)."""
    if isinstance(feature, list) and len(feature) == 1:
        feature = feature[0]
    if isinstance(feature, dict) and feature.get("_type") in ("List", "LargeList", "Sequence"):
        feature = feature.get("feature")
    if not isinstance(feature, dict) or feature.get("_type") != "ClassLabel":
        return ()
    return tuple(map(str, feature["names"]))
