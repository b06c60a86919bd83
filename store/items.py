"""Items on disk: a folder of Parquet shards with encoded pictures in the Hugging Face image layout.

    ITEMS/items-00000.parquet …   one row an item: item_id, key, image {bytes, path}, …, metadata
    ITEMS/_items.json             names and guards them (`deponij.store.manifest`)

pandas, DuckDB and `datasets` read them. Failed items are rows too, with a reason and neither key nor picture. Items may
be made without pictures at all, for embeddings that were made elsewhere: then they have a key and no picture. Whole
pictures that lie as files may be named instead of held: then `image.bytes` is null, `image.path` is the file, and a
further column tells its size and hash (`deponij.store.references`).
"""

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from deponij.store.atomic import PART, open_part, publish_folder, refuse_foreign
from deponij.store.compact import Places, Seen, Texts
from deponij.store.errors import StoreError, explained
from deponij.store.keys import DECODERS
from deponij.store.locks import release
from deponij.store.manifest import MANIFEST, check_manifest, decoders_of, write_manifest
from deponij.store.references import COLUMN, FIELD, FileReference
from deponij.store.texts import is_storable, plain_reason
from deponij.store.what_is import instead

SHARD_BYTES = 128 << 20
GROUP_BYTES = 8 << 20
# Of the Parquet schema's metadata.
_ONLY_PART = b"deponij_part"
_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
CORE = pa.schema(
    [
        ("item_id", pa.string()),
        ("key", pa.string()),
        ("image", _IMAGE),
        ("image_id", pa.string()),
        ("width_px", pa.int32()),
        ("height_px", pa.int32()),
        ("phash", pa.string()),
        ("failure", pa.string()),
        ("given", pa.string()),
    ]
)
_NEEDED = ("item_id", "key", "image", "failure")
_PATTERN = "items-*.parquet"
# What pyarrow raises over damaged pages and footers.
_DAMAGE = (pa.ArrowException, OSError, ValueError, IndexError)


class ItemWriter:
    """Writes a folder of items; it appears whole when the `with` block ends without an error.

    Args:
        path: the folder. An earlier items folder there is replaced; anything else is refused.
        metadata_schema: further columns, beside those of `CORE`.
        by_reference: pictures may be named instead of held.
        part: where these are not all of their data set, a line that says so.

    Raises:
        StoreError: `path` holds something else, a column is named twice, or an item id repeats.
    """

    def __init__(
        self, path: Path, metadata_schema: pa.Schema, *, by_reference: bool = False, part: str | None = None
    ) -> None:
        twice = {*CORE.names, COLUMN} & set(metadata_schema.names)
        if twice:
            raise StoreError(
                f"metadata columns may not be named {sorted(twice)}: these are columns of every item"
            )
        refuse_foreign(path, lambda entry: entry.match(_PATTERN) or entry.name == MANIFEST, "items")
        self.path = path
        self.n_items = 0
        self.n_failed = 0
        fields = pa.schema([*CORE, *([FIELD] if by_reference else []), *metadata_schema])
        facts = {b"huggingface": json.dumps(_features(fields)).encode()}
        self._schema = fields.with_metadata(facts if part is None else {**facts, _ONLY_PART: part.encode()})
        self._part = path.with_name(path.name + PART)
        self._held: int | None = None
        self._ids = Seen()
        self._rows: list[Mapping[str, Any]] = []
        self._pending_bytes = 0
        self._shard_bytes = 0
        self._n_shards = 0
        self._file: pq.ParquetWriter | None = None

    def __enter__(self) -> Self:
        with explained(f"cannot write {self.path}"):
            self._part, self._held = open_part(self.path)
        return self

    def add(
        self,
        *,
        content: bytes | None,
        metadata: Mapping[str, Any],
        reference: FileReference | None = None,
        **core: Any,
    ) -> None:
        """Add one item.

        Args:
            content: encoded picture, or None for a failure.
            reference: the picture's file, in the place of its content.
            metadata: values of the metadata columns; absent ones are null, unknown ones an error.
            core: the other columns of `CORE`, by name.

        Raises:
            StoreError: the id repeats or is no valid Unicode, a column was not declared, a value does
                not fit its column, or the disk is full.
        """
        item_id = core["item_id"]
        if not is_storable(item_id):
            raise StoreError(f"item ids must be valid Unicode without NUL, got {item_id!r}; rename the file")
        if not self._ids.add(item_id):
            raise StoreError(f"item id {item_id!r} occurs twice; ids must be unique within a data set")
        if reference is not None and COLUMN not in self._schema.names:
            raise StoreError(
                f"item {item_id!r} only names its picture; open the writer with by_reference=True"
            )
        unknown = sorted(set(metadata) - set(self._schema.names))
        if unknown:
            raise StoreError(f"item {item_id!r} brings columns that were not declared: {unknown}")
        image: dict[str, Any] | None = None if content is None else {"bytes": content, "path": item_id}
        if reference is not None:
            image = {"bytes": None, "path": reference.path}
            core[COLUMN] = {"size_bytes": reference.size_bytes, "digest": reference.digest}
        reason = core.get("failure")
        core["failure"] = None if reason is None else plain_reason(reason)
        self._rows.append({**core, "image": image, **metadata})
        self.n_items += 1
        self.n_failed += core.get("failure") is not None
        self._pending_bytes += len(content or b"")
        if self._pending_bytes >= GROUP_BYTES or len(self._rows) >= 4096:
            self._write_group()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._held is None:
            return
        try:
            if kind is None:
                self._finish()
            else:
                self._abandon()
        except BaseException:
            self._abandon()
            raise
        finally:
            release(self._held)
            self._held = None

    def _finish(self) -> None:
        self._write_group()
        if self._n_shards == 0:
            self._open_shard()
        with explained(f"cannot write {self.path}"):
            self._close_shard()
            self._swap_in()

    def _abandon(self) -> None:
        with suppress(OSError, pa.ArrowException):
            self._close_shard()
        shutil.rmtree(self._part, ignore_errors=True)

    def _write_group(self) -> None:
        if not self._rows:
            return
        try:
            table = pa.Table.from_pylist(self._rows, schema=self._schema)
        except (pa.ArrowException, UnicodeEncodeError) as error:
            first, last = self._rows[0]["item_id"], self._rows[-1]["item_id"]
            raise StoreError(
                f"a value of the items {first!r} to {last!r} does not fit its column: {error}"
            ) from error
        with explained(f"cannot write {self.path}"):
            (self._file or self._open_shard()).write_table(table)
        self._shard_bytes += self._pending_bytes
        self._rows, self._pending_bytes = [], 0
        if self._shard_bytes >= SHARD_BYTES:
            self._close_shard()

    def _open_shard(self) -> pq.ParquetWriter:
        path = self._part / f"items-{self._n_shards:05d}.parquet"
        # Pictures are compressed already; metadata is small.
        self._file = pq.ParquetWriter(path, self._schema, compression="none", write_page_checksum=True)
        self._n_shards += 1
        self._shard_bytes = 0
        return self._file

    def _close_shard(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _swap_in(self) -> None:
        write_manifest(self._part)
        publish_folder(self._part, self.path)


class Items:
    """A folder of items, read by column; pictures are read only when asked for.

    Raises:
        StoreError: there are no items, or a file is damaged.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not any(self.path.glob(_PATTERN)):
            below = f"; in it are {self.path / 'items'}" if any(self.path.glob(f"items/{_PATTERN}")) else ""
            raise StoreError(
                f"there are no items at {self.path}; `deponij crop` or `deponij items` makes them{instead(self.path)}{below}"
            )
        self._parquets = [self._open(file) for file in check_manifest(self.path)]
        self._check_columns()

    def __len__(self) -> int:
        return int(sum(file.metadata.num_rows for file in self._parquets))

    def require_current(self) -> None:
        """Refuse items whose keys or crops may be of pixels that pictures no longer have.

        Raises:
            StoreError: an earlier version of Deponij made them, whose decoding was mended since.
        """
        made_by = decoders_of(self.path)
        changed = sorted(name for name in {*DECODERS, *made_by} if DECODERS.get(name) != made_by.get(name))
        if changed:
            raise StoreError(
                f"items at {self.path} were made by another version of Deponij, which decodes {', '.join(changed)} "
                "pictures otherwise; make them again (features of other pictures stay known)"
            )

    @property
    def metadata_schema(self) -> pa.Schema:
        """The columns beside those of `CORE`."""
        schema = self._parquets[0].schema_arrow
        return pa.schema([field for field in schema if field.name not in (*CORE.names, COLUMN)])

    @property
    def part(self) -> str | None:
        """Where these are not all of their data set, a line that says so."""
        told = (self._parquets[0].schema_arrow.metadata or {}).get(_ONLY_PART)
        return None if told is None else told.decode("utf-8", "replace")

    @property
    def by_reference(self) -> bool:
        """Whether pictures may be named instead of held."""
        return COLUMN in self._parquets[0].schema_arrow.names

    def rows(self, n_at_once: int) -> Iterator[dict[str, Any]]:
        """Every row with its picture, in order; streams.

        Raises:
            StoreError: a page is damaged.
        """
        for file in self._parquets:
            try:
                for batch in file.iter_batches(batch_size=n_at_once):
                    yield from batch.to_pylist()
            except _DAMAGE as error:
                raise StoreError(f"items at {self.path} are damaged: {error}") from error

    @property
    def column_names(self) -> list[str]:
        """All columns but the pictures."""
        return [name for name in self._parquets[0].schema_arrow.names if name not in ("image", COLUMN)]

    def table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Metadata in item order; never the pictures.

        Raises:
            StoreError: a column is unknown (the message lists those there are), or a page is damaged.
        """
        chosen = list(columns) if columns is not None else self.column_names
        unknown = sorted(set(chosen) - set(self.column_names))
        if unknown:
            raise StoreError(f"items have no column {unknown}; they have {self.column_names}")
        try:
            found = pa.concat_tables([file.read(columns=chosen) for file in self._parquets]).select(chosen)
        except _DAMAGE as error:
            raise StoreError(f"items at {self.path} are damaged: {error}") from error
        if found.num_rows != len(self):
            raise StoreError(
                f"items at {self.path} are damaged: {found.num_rows} rows instead of {len(self)}"
            )
        return found

    def column(self, name: str) -> list[Any]:
        """One column as Python values, in item order."""
        values: list[Any] = self.table([name]).column(0).to_pylist()
        return values

    @cached_property
    def ids(self) -> Sequence[str]:
        """Item ids."""
        return Texts(self.table(["item_id"]).column(0))

    @cached_property
    def keys(self) -> Sequence[str | None]:
        """Content keys; None for failed items."""
        return Texts(self.table(["key"]).column(0))

    @property
    def failures(self) -> list[tuple[str, str]]:
        """(item id, reason) of items that could not be made."""
        table = self.table(["item_id", "failure"])
        failed = table.filter(pc.is_valid(table["failure"]))
        return list(zip(failed["item_id"].to_pylist(), failed["failure"].to_pylist(), strict=True))

    @cached_property
    def places(self) -> Mapping[str, int]:
        """Row of each item."""
        return Places(Texts(self.table(["item_id"]).column(0)))

    def strangers(self, ids: Iterable[str], keys: Iterable[str]) -> list[str]:
        """Those of some items that are not here, or have another picture here."""
        pairs = zip(ids, keys, strict=True)
        return [i for i, key in pairs if i not in self.places or self.keys[self.places[i]] != key]

    def contents(self, rows: Sequence[int], *, only_there: bool = False) -> Iterator[tuple[int, bytes]]:
        """(row, encoded picture) of the wanted rows, in ascending row order; streams.

        Args:
            only_there: pass over rows without a picture, as those of items that were made without any.

        Raises:
            StoreError: a row has no picture, its file is gone or has changed, or a page is damaged.
        """
        for row, found in self.found(rows, only_there=only_there):
            if isinstance(found, StoreError):
                raise found
            yield row, found

    def found(
        self, rows: Sequence[int], *, only_there: bool = False
    ) -> Iterator[tuple[int, bytes | StoreError]]:
        """As `contents`; of a picture whose file is gone or has changed, the error that says so.

        Raises:
            StoreError: a row has no picture, or a page is damaged.
        """
        wanted = np.unique(np.asarray(rows, np.int64))
        if len(wanted) and (wanted[0] < 0 or wanted[-1] >= len(self)):
            raise StoreError(f"rows go from 0 to {len(self) - 1}, got {wanted[0]} to {wanted[-1]}")
        start = 0
        for file in self._parquets:
            for group in range(file.num_row_groups):
                stop = start + file.metadata.row_group(group).num_rows
                chosen = wanted[np.searchsorted(wanted, start) : np.searchsorted(wanted, stop)]
                if len(chosen):
                    pictures = self._pictures(file, group)
                    for row in chosen:
                        content = self._content(pictures, int(row - start))
                        if content is None and not only_there:
                            why = (
                                "it failed"
                                if self.keys[row] is None
                                else "these items were made without pictures"
                            )
                            raise StoreError(f"item {self.ids[row]!r} has no picture; {why}")
                        if content is not None:
                            yield int(row), content
                start = stop

    def content(self, item_id: str) -> bytes:
        """One item's encoded picture.

        Raises:
            StoreError: the id is unknown or has no picture.
        """
        if item_id not in self.places:
            raise StoreError(f"there is no item {item_id!r} in {self.path}")
        return next(self.contents([self.places[item_id]]))[1]

    def _content(self, pictures: pa.Table, place: int) -> bytes | StoreError | None:
        """One picture of a row group."""
        content: bytes | None = pictures["bytes"][place].as_py()
        if content is not None or COLUMN not in pictures.column_names:
            return content
        row = {COLUMN: pictures[COLUMN][place].as_py(), "image": {"path": pictures["path"][place].as_py()}}
        reference = FileReference.of_row(row)
        if reference is None:
            return None
        try:
            return reference.read(self.path)
        except StoreError as error:
            return error

    def _pictures(self, file: pq.ParquetFile, group: int) -> pa.Table:
        """The columns `bytes` and, where pictures may be named, `path` and that of `deponij.store.references`."""
        wanted = ["image.bytes", *(["image.path", COLUMN] if self.by_reference else [])]
        try:
            found = file.read_row_group(group, columns=wanted).combine_chunks()
            images = found["image"].combine_chunks()
        except _DAMAGE as error:
            raise StoreError(f"items at {self.path} are damaged: {error}") from error
        if found.num_rows != file.metadata.row_group(group).num_rows:
            raise StoreError(f"items at {self.path} are damaged: pictures are missing from row group {group}")
        columns = {field.name: images.field(field.name) for field in images.type}
        if self.by_reference:
            columns[COLUMN] = found[COLUMN]
        return pa.table(columns)

    def _check_columns(self) -> None:
        """Refuse items of another version: without a column that is needed, or with one of another type."""
        first = self._parquets[0].schema_arrow
        for file in self._parquets:
            schema = file.schema_arrow
            wrong = [name for name in _NEEDED if name not in schema.names]
            known = [one for one in (*CORE, FIELD) if one.name in schema.names]
            wrong += [one.name for one in known if schema.field(one.name) != one]
            if wrong or not schema.equals(first):
                raise StoreError(
                    f"{self.path} holds items of another version: its columns {wrong or schema.names} are missing or of "
                    "another type; make the items again"
                )

    @staticmethod
    def _open(path: Path) -> pq.ParquetFile:
        try:
            return pq.ParquetFile(path, page_checksum_verification=True)
        except _DAMAGE as error:
            raise StoreError(f"{path} is damaged or not a Parquet file: {error}") from error


def _features(schema: pa.Schema) -> dict[str, Any]:
    """The schema as `datasets` wants it, so that `image` is decoded as a picture."""
    features: dict[str, Any] = {}
    for field in schema:
        if field.type == _IMAGE:
            features[field.name] = {"_type": "Image"}
        elif pa.types.is_struct(field.type):
            inside = {one.name: {"dtype": _dtype(one.type), "_type": "Value"} for one in field.type}
            features[field.name] = inside
        elif pa.types.is_list(field.type):
            inner = {"dtype": _dtype(field.type.value_type), "_type": "Value"}
            features[field.name] = {"feature": inner, "_type": "List"}
        else:
            features[field.name] = {"dtype": _dtype(field.type), "_type": "Value"}
    return {"info": {"features": features}}


def _dtype(kind: pa.DataType) -> str:
    names = {pa.float64(): "float64", pa.float32(): "float32", pa.bool_(): "bool"}
    return names.get(kind, str(kind))
