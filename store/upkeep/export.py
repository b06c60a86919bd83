"""Views for other tools: Parquet, NumPy, and a short description.

Metadata is joined by item id, never by position.
"""

import io
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deponij.store.atomic import replacing, write_table
from deponij.store.errors import StoreError
from deponij.store.hdf5 import Array
from deponij.store.identity import Identity
from deponij.store.items import Items
from deponij.store.view import View

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class ViewInfo:
    """What a view holds.

    Attributes:
        n_rows: items with features.
        n_distinct: distinct keys among them.
        arrays: name -> shape; empty for dense kinds, whose rows lie in a depot.
        columns: further facts about the rows, by name.
        failures: (item id, reason) of items without features.
    """

    path: str
    n_bytes: int
    backbone: str
    fingerprint: str
    identity: Identity
    n_rows: int
    n_distinct: int
    arrays: dict[str, tuple[int, ...]]
    columns: list[str]
    failures: list[tuple[str, str]]


def view_info(path: str | Path) -> ViewInfo:
    """Describe a view without reading its vectors.

    Raises:
        StoreError: absent, damaged or no view.
    """
    view = View(path)
    return ViewInfo(
        path=str(path),
        n_bytes=Path(path).stat().st_size,
        backbone=view.backbone,
        fingerprint=view.fingerprint,
        identity=view.identity,
        n_rows=len(view),
        n_distinct=len(set(view.keys.tolist())),
        arrays=view.shapes,
        columns=sorted(view.columns),
        failures=view.failures,
    )


def export_view(view: View, out: Path, *, items: Items | None = None) -> None:
    """Write a view's vectors in the format that the name's ending says.

    `.parquet`: one row an item with `item_id`, `key`, `embedding` (a list of fixed size; arrays of
    more dimensions are flattened and their shape stands in the field's metadata), the view's own
    columns and, with `items`, all metadata. `.npz`: `ids`, `keys`, `embedding` and the columns; with
    `items` also the metadata that NumPy can hold. `.npy`: the vectors alone, in the order of the view.

    Args:
        items: their metadata is joined by id; every row's item must be among them.

    Raises:
        StoreError: the ending is another, the view is dense, an item is missing, or the file cannot
            be written.
    """
    writer = _WRITERS.get(out.suffix)
    if writer is None:
        raise StoreError(f"cannot export to {out.name}: the ending must be one of {', '.join(_WRITERS)}")
    writer(view, out, items)


def _metadata(view: View, items: Items | None) -> "pa.Table | None":
    """The items' metadata in the order of the view's rows, without columns that the view has itself."""
    if items is None:
        return None
    absent = [item_id for item_id in view.ids.tolist() if item_id not in items.places]
    if absent:
        raise StoreError(
            f"{len(absent)} rows of {view.path} are not among the items of {items.path}, the first: "
            f"{absent[0]!r}; name the items that the view was made from"
        )
    rows = np.array([items.places[item_id] for item_id in view.ids.tolist()], np.int64)
    own = {"item_id", "key", "embedding", "failure", *view.columns}
    return items.table([name for name in items.column_names if name not in own]).take(rows)


def _write_parquet(view: View, out: Path, items: Items | None) -> None:
    import pyarrow as pa

    vectors = view.embedding
    width = int(np.prod(vectors.shape[1:], dtype=np.int64))
    flat = pa.array(np.ascontiguousarray(vectors).reshape(-1))
    arrays = [
        pa.array(view.ids.tolist(), pa.string()),
        pa.array(view.keys.tolist(), pa.string()),
        pa.FixedSizeListArray.from_arrays(flat, width)
        if width
        else pa.nulls(len(view), pa.list_(flat.type, 0)),
    ]
    shape = {"shape": str(list(vectors.shape[1:]))}
    fields = [
        pa.field("item_id", pa.string()),
        pa.field("key", pa.string()),
        pa.field("embedding", arrays[2].type, metadata=shape),
    ]
    for name, values in view.columns.items():
        fields.append(pa.field(name, pa.string()))
        arrays.append(pa.array(values.tolist(), pa.string()))
    metadata = _metadata(view, items)
    if metadata is not None:
        fields += list(metadata.schema)
        arrays += metadata.columns
    facts = {"fingerprint": view.fingerprint, "identity": view.identity.to_json(), "backbone": view.backbone}
    write_table(out, pa.table(arrays, schema=pa.schema(fields, metadata=facts)))


def _write_npz(view: View, out: Path, items: Items | None) -> None:
    arrays: dict[str, Array] = {
        "ids": view.ids,
        "keys": view.keys,
        "embedding": view.embedding,
        **view.columns,
    }
    metadata = _metadata(view, items)
    if metadata is not None:
        arrays |= _holdable({name: metadata[name].to_pylist() for name in metadata.column_names})
    # Written by hand because `np.savez` puts the time of day into the file.
    image = io.BytesIO()
    with zipfile.ZipFile(image, "w") as archive:
        for name, values in arrays.items():
            entry = io.BytesIO()
            np.lib.format.write_array(entry, np.asanyarray(values), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), entry.getvalue())
    with replacing(out) as part:
        part.write_bytes(image.getbuffer())


def _holdable(columns: Mapping[str, list[Any]]) -> dict[str, Array]:
    """Columns as plain arrays: missing texts are empty, missing numbers NaN; lists are left out."""
    arrays: dict[str, Array] = {}
    for name, values in columns.items():
        present = [value for value in values if value is not None]
        if all(isinstance(value, str) for value in present):
            arrays[name] = np.array(["" if value is None else value for value in values], dtype=np.str_)
        elif all(isinstance(value, int | float) for value in present):
            filled = values if len(present) == len(values) else [np.nan if v is None else v for v in values]
            arrays[name] = np.array(filled)
    return arrays


def _write_npy(view: View, out: Path, items: Items | None) -> None:
    if items is not None:
        raise StoreError("a .npy file holds the vectors alone; export to .npz or .parquet for metadata")
    image = io.BytesIO()
    np.save(image, view.embedding, allow_pickle=False)
    with replacing(out) as part:
        part.write_bytes(image.getbuffer())


_WRITERS: dict[str, Callable[[View, Path, Items | None], None]] = {
    ".parquet": _write_parquet,
    ".npz": _write_npz,
    ".npy": _write_npy,
}
