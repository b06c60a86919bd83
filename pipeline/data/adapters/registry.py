"""Where data adapters register, what each of them promises (a stream of items with known columns), and the one
entry to all of them: `open_source`. Each adapter's module holds its own parameters and its own class.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

import pyarrow as pa
from pydantic import BaseModel, Field, ValidationError

from deponij.pipeline.data.adapters.whole import COPIED, Reading
from deponij.pipeline.data.item import Item
from deponij.pipeline.data.parallel import Workers
from deponij.pipeline.record_lists import Record
from deponij.pipeline.registry import Registry
from deponij.store.errors import UsageError
from deponij.store.references import COLUMN

# Columns that every items table has; metadata columns have other names.
ITEM_COLUMNS = frozenset(
    ("item_id", "key", "image", "image_id", "width_px", "height_px", "phash", "failure", "given", COLUMN)
)
# What is put beside them: by an index (`deponij.project.indexes`), and the parts of each split as `split_NAME`.
JOINED_COLUMNS = frozenset(("vector_row", "score", "folded"))
SPLIT_PREFIX = "split_"


# Called with the number of items that were just finished.
Progress = Callable[[int], None]


class SourceParams(Record):
    """What the parameters of every adapter begin with.

    Attributes:
        limit: only so many items, for a try-out: which ones, each adapter says in its notes.
    """

    limit: int | None = Field(default=None, ge=1)


class Source(Protocol):
    """An opened data set.

    Opening reads lists and headers, never pixels, and raises `DataError` where there is nothing to read.
    """

    @property
    def metadata_schema(self) -> pa.Schema:
        """Names and types of the metadata columns, the same for every item."""
        ...

    @property
    def n_items(self) -> int:
        """Number of items that `items` yields, failures included."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know and no item says: files that were left aside, rows that match nothing.

        What somebody should act on is a `ToAct`.
        """
        ...

    def items(self, *, workers: Workers = 1, progress: Progress | None = None) -> Iterator[Item]:
        """Every item once, in an order that depends on the data set alone.

        Each has the columns of `metadata_schema`, and no others, in its `metadata`.

        Args:
            workers: threads that read and decode ahead of the consumer; 0 for none.
            progress: called as items are handed out.
        """
        ...


@runtime_checkable
class FileSource(Source, Protocol):
    """A data set whose whole pictures lie as files, so that items may name them instead of holding them."""

    def picture_files(self) -> Iterator[Path]:
        """Where they lie, as far as they are there; none where the items are crops."""
        ...

    def items(
        self, *, workers: Workers = 1, progress: Progress | None = None, reading: Reading = COPIED
    ) -> Iterator[Item]:
        """As of every source.

        Args:
            reading: how the files are taken.
        """
        ...


# Classes with an attribute `Params`, of the model above, whose only argument is one of these.
_SOURCES: Registry[type[Any]] = Registry("kind of data set", room="deponij.pipeline.data.adapters")
register_source = _SOURCES.register


def source_names() -> tuple[str, ...]:
    """Names of the registered adapters, sorted."""
    return tuple(_SOURCES.entries())


def source_class(name: str) -> type[Any]:
    """The adapter of that name.

    Raises:
        UsageError: there is none; the message lists the known ones and the nearest.
    """
    return _SOURCES[name]


def open_source(name: str, params: BaseModel | Mapping[str, object]) -> Source:
    """Open a data set.

    Args:
        name: of a registered adapter: such as `coco`, `folder` or `parquet`.
        params: the adapter's own model, or a mapping of its fields.

    Raises:
        UsageError: an unknown name, or parameters that do not fit; all of them are named.
        DataError: there is no such data set, or its lists are damaged.
    """
    adapter = source_class(name)
    if not isinstance(params, adapter.Params):
        fields = params.model_dump() if isinstance(params, BaseModel) else params
        try:
            params = adapter.Params.model_validate(fields)
        except ValidationError as error:
            wrong = "; ".join(
                f"{'.'.join(map(str, one['loc'])) or 'value'}: {one['msg']} (got {one['input']!r})"
                for one in error.errors()
            )
            raise UsageError(f"parameters of the {name} data set: {wrong}") from error
    return cast(Source, adapter(params))


def is_taken(name: str) -> bool:
    """Whether a metadata column cannot have this name; upper and lower case are the same to a filter in SQL."""
    plain = name.lower()
    return plain in ITEM_COLUMNS | JOINED_COLUMNS or plain.startswith(SPLIT_PREFIX)


def check_columns(schema: pa.Schema) -> pa.Schema:
    """The schema itself, if every item can have these metadata columns.

    Raises:
        UsageError: a name occurs twice or belongs to the items themselves.
    """
    taken = sorted(name for name in set(schema.names) if is_taken(name) or schema.names.count(name) > 1)
    if taken:
        raise UsageError(
            f"metadata columns {', '.join(taken)} would occur twice in the items table, or the items need their names; "
            "choose others"
        )
    return schema
