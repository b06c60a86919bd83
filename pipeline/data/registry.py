"""Where data adapters register, and what each of them promises: a stream of items with known columns.

`source.open_source` looks them up; each adapter's module holds its own parameters and its own class.
"""

import difflib
from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeVar

import pyarrow as pa

from pipeline.data.item import Item
from store.errors import UsageError

# Columns that every items table has; metadata columns have other names.
ITEM_COLUMNS = frozenset(
    ("item_id", "key", "image", "image_id", "width_px", "height_px", "phash", "failure", "given")
)

# Called with the number of items that were just finished.
Progress = Callable[[int], None]


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
        """What a user should know and no item says: files that were left aside, rows that match nothing."""
        ...

    def items(self, *, workers: int = 1, progress: Progress | None = None) -> Iterator[Item]:
        """Every item once, in an order that depends on the data set alone.

        Each has the columns of `metadata_schema`, and no others, in its `metadata`.

        Args:
            workers: threads that read and decode ahead of the consumer; 0 for none.
            progress: called as items are handed out.
        """
        ...


# Classes with an attribute `Params`, a pydantic model, whose only argument is one of these.
_SOURCES: dict[str, type[Any]] = {}
Adapter = TypeVar("Adapter", bound=type[Any])


def register_source(name: str) -> Callable[[Adapter], Adapter]:
    """Class decorator that makes an adapter known by a name.

    Raises:
        ValueError: another adapter has the name already.
    """

    def register(adapter: Adapter) -> Adapter:
        if _SOURCES.get(name, adapter) is not adapter:
            raise ValueError(
                f"two data adapters are named {name!r}: {_SOURCES[name].__name__}, {adapter.__name__}"
            )
        _SOURCES[name] = adapter
        return adapter

    return register


def source_names() -> tuple[str, ...]:
    """Names of the registered adapters, sorted."""
    return tuple(sorted(_SOURCES))


def source_class(name: str) -> type[Any]:
    """The adapter of that name.

    Raises:
        UsageError: there is none; the message lists the known ones and the nearest.
    """
    if name in _SOURCES:
        return _SOURCES[name]
    near = difflib.get_close_matches(name, _SOURCES, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    raise UsageError(f"unknown kind of data set {name!r}{hint} Known are {', '.join(source_names())}")


def check_columns(schema: pa.Schema) -> pa.Schema:
    """The schema itself, if every item can have these metadata columns.

    Raises:
        UsageError: a name occurs twice or belongs to the items themselves.
    """
    taken = sorted(name for name in set(schema.names) if name in ITEM_COLUMNS or schema.names.count(name) > 1)
    if taken:
        raise UsageError(
            f"metadata columns {', '.join(taken)} would occur twice in the items table; choose other names"
        )
    return schema
