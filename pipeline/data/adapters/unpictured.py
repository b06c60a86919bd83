"""Items without pictures, for embeddings that were made elsewhere: a table of ids and labels, or the embeddings' own ids.

    id,label,split
    a17,cat,train

Every further column of plain values becomes a column of the items. There is nothing to look at, so that pages show ids.
"""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
from pydantic import Field

from deponij.pipeline.data.adapters.file_names import numbered
from deponij.pipeline.data.adapters.parquet_columns import columns_of_table
from deponij.pipeline.data.adapters.registry import Progress, SourceParams, check_columns, register_source
from deponij.pipeline.data.adapters.table_columns import LABELS, PARTS, column_called
from deponij.pipeline.data.item import Item, MetadataValue
from deponij.pipeline.data.parallel import Workers
from deponij.pipeline.data.parts import Treatment, places_of_values, refuse_unknown
from deponij.pipeline.data.try_out import first_in_turn, told_part
from deponij.pipeline.given.files import read_given
from deponij.pipeline.given.tables import id_column
from deponij.pipeline.listings import read_listing
from deponij.store.errors import DataError
from deponij.store.keys import key_of_name


class UnpicturedParams(SourceParams):
    """Where the ids are.

    Attributes:
        table: CSV, TSV or Parquet with a column of ids; or a file of embeddings (`deponij.pipeline.given`).
        ids: the column of ids; of embeddings also a file of them. By default the column that is usually called so.
        has_vectors: the table is a file of embeddings.
        label_column, part_column: by default the columns that are usually called so.
        encoding: of a CSV file.
        treat: what values of the part column are whose names leave it open.
    """

    table: Path
    ids: str | None = None
    has_vectors: bool = False
    label_column: str | None = None
    part_column: str | None = None
    encoding: str = Field(default="utf-8", min_length=1)
    treat: dict[str, Treatment] = Field(default_factory=dict)


@register_source("unpictured")
class UnpicturedSource:
    """A table of ids, read."""

    Params = UnpicturedParams

    def __init__(self, params: UnpicturedParams) -> None:
        """Read the table.

        Raises:
            DataError: there is no such table, or it is damaged.
            UsageError: a column that it has not.
        """
        table, self._ids = _table(params)
        label = column_called(table, params.label_column, LABELS, "labels", params.table)
        part = column_called(table, params.part_column, PARTS, "parts", params.table)
        values = (
            [""] * len(self._ids) if part is None else [str(one or "") for one in table[part].to_pylist()]
        )
        refuse_unknown(params.treat, {(value,) for value in values if value})
        places = places_of_values(values, params.treat, str(part))
        left = [name for name in table.column_names if name != part or not places]
        self._columns = columns_of_table(table.select(left).schema, "", label)
        self._table = table
        self.columns = self._columns.of_file[0]
        self.metadata_schema = check_columns(pa.schema([(one.name, one.type) for one in self.columns]))
        found = [places.get(value) for value in values]
        self._kept = [row for row, place in enumerate(found) if place is None or not place.is_skipped]
        self._given = [None if place is None else place.given for place in found]
        labels = [None] * len(self._ids) if label is None else table[label].to_pylist()
        n_all = len(self._kept)
        groups = [(self._given[row], str(labels[row])) for row in self._kept]
        self._kept = [self._kept[place] for place in first_in_turn(groups, params.limit)]
        self._part = told_part(len(self._kept), n_all, "one of each label in turn, by row")

    @property
    def n_items(self) -> int:
        """One item per row that is not left out."""
        return len(self._kept)

    @property
    def notes(self) -> tuple[str, ...]:
        """That nothing can be looked at; whether there are labels, and what became of columns."""
        return (
            *self._part,
            f"items without pictures: {self.n_items:,}; pages show their ids",
            *self._columns.notes,
        )

    def items(self, *, workers: Workers = 1, progress: Progress | None = None) -> Iterator[Item]:
        """One item per row, in order; one whose values do not fit its columns carries that as its failure."""
        values = [(one, self._table[one.source].to_pylist()) for one in self.columns]
        seen: dict[str, int] = {}
        taken = set(self._ids)
        for row in self._kept:
            own, failure = self._ids[row], None
            name = own
            if not name:
                name, failure = numbered("row ", row + 1, taken), f"row {row + 1} has no id"
            elif name in seen:
                failure = (
                    f"row {row + 1} has the same id as row {seen[name] + 1}; one row an item is expected"
                )
                name = numbered(f"{name}#", row + 1, taken)
            seen.setdefault(own, row)
            metadata: dict[str, MetadataValue] = {}
            for column, of_rows in values:
                try:
                    metadata[column.name] = column.value(of_rows[row])
                except DataError as error:
                    metadata[column.name], failure = None, str(error)
            key = key_of_name(name) if failure is None else None
            yield Item(name, name, key=key, failure=failure, given=self._given[row], metadata=metadata)
            if progress is not None:
                progress(1)


def _table(params: UnpicturedParams) -> tuple[pa.Table, list[str]]:
    """The columns beside the ids, and the ids; empty where one is missing."""
    if params.has_vectors:
        found = read_given(params.table, params.ids)
        return found.columns, list(found.ids)
    table = read_listing(params.table, params.encoding)
    if not table.num_rows:
        raise DataError(f"{params.table} has no rows")
    column = id_column(table.column_names, params.ids, str(params.table))
    ids = ["" if one is None else str(one).strip() for one in table[column].to_pylist()]
    return table.drop_columns([column]), ids
