"""Taking single items out of what is on disk: out of items, views, split tables and depots.

Each of these is written anew aside and replaced as a whole, so that a kill leaves the old or the new, and doing it twice
is doing it once. What they were computed into (heads, indexes, pages) is not the business of this module.
"""

from collections.abc import Collection
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deponij.store import hdf5
from deponij.store.atomic import read_table, write_table
from deponij.store.depot import FeatureStore
from deponij.store.errors import StoreError
from deponij.store.items import CORE, Items, ItemWriter
from deponij.store.references import COLUMN, FileReference
from deponij.store.shard import row_checksums
from deponij.store.upkeep.tidying import GcReport, drop
from deponij.store.view import View, write_view

_BATCH = 1024


def drop_items(path: Path, ids: Collection[str]) -> int:
    """Write items anew without these; how many went.

    Raises:
        StoreError: they are damaged or of another version, nothing would be left, or they cannot be written.
    """
    items = Items(path)
    gone = set(ids) & set(items.ids)
    if not gone:
        return 0
    if len(gone) == len(items):
        raise StoreError(f"{path} holds nothing else; delete the run's folder instead")
    items.require_current()
    core = set(CORE.names) - {"image"}
    by_reference, part = items.by_reference, items.part
    with ItemWriter(path, items.metadata_schema, by_reference=by_reference, part=part) as writer:
        for row in items.rows(_BATCH):
            if row["item_id"] not in gone:
                reference = FileReference.of_row(row)
                image = row.pop("image")
                row.pop(COLUMN, None)
                writer.add(
                    content=None if image is None else image["bytes"],
                    reference=reference,
                    metadata={name: value for name, value in row.items() if name not in core},
                    **{name: row[name] for name in core},
                )
    return len(gone)


def drop_from_view(path: Path, ids: Collection[str]) -> int:
    """Write a view anew without these items, failed ones too; how many went.

    Raises:
        StoreError: it is damaged, or cannot be written.
    """
    view, gone = View(path), set(ids)
    rows = np.array([row for row, one in enumerate(view.ids.tolist()) if one not in gone], np.int64)
    failures = [pair for pair in view.failures if pair[0] not in gone]
    n_gone = len(view) - len(rows) + len(view.failures) - len(failures)
    if not n_gone:
        return 0
    with hdf5.reading(path, str(path)) as file:
        arrays = {name: hdf5.read_rows(file["arrays"][name], rows) for name in view.array_names}
    if arrays and (row_checksums(arrays, len(rows)) != view.checksums[rows]).any():
        raise StoreError(f"{path} is damaged: rows are not those it was made from; extract again")
    write_view(
        path,
        identity=view.identity,
        backbone=view.backbone,
        ids=view.ids[rows].tolist(),
        keys=view.keys[rows].tolist(),
        checksums=view.checksums[rows],
        arrays=arrays,
        columns={name: column[rows].tolist() for name, column in view.columns.items()},
        failures=failures,
    )
    return n_gone


def drop_from_table(path: Path, ids: Collection[str]) -> int:
    """Write a table with a column `item_id` anew without these; how many rows went.

    Raises:
        StoreError: it is damaged, or cannot be written.
    """
    table = read_table(path)
    named = pa.array(sorted(ids), table["item_id"].type)
    kept = table.filter(pc.invert(pc.is_in(table["item_id"], value_set=named)))
    n_gone: int = table.num_rows - kept.num_rows
    if n_gone:
        write_table(path, kept)
    return n_gone


def drop_from_depot(store: FeatureStore, keys: Collection[str], *, dry_run: bool = False) -> GcReport:
    """Take every row of these keys out of a depot, under whatever identity; what dead writers left goes too.

    Rows of living writers are left alone and named (`in_use`), shards that cannot be read too (`damaged`).

    Raises:
        StoreError: another process is tidying the depot, or it cannot be written.
    """
    report = drop(store, keys, dry_run=dry_run)
    if not dry_run:
        # The cache of where rows lie names keys of rows that are gone.
        store.distrust()
    return report
