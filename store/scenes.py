"""Scenes on disk: whole pictures, their label maps, and which part each is of.

    SCENES/items/           the pictures, as items (`deponij.store.items`); those that were left out carry the reason
    SCENES/labels.parquet   item_id, image {bytes, path}: a PNG with a palette (`deponij.store.label_maps`)
    SCENES/parts.parquet    item_id, part (train, val, test or null), group: what is no independent picture
    SCENES/scenes.json      the classes, in the order of their numbers

Rows are joined by id. The folder appears whole; each file carries its checksum.
"""

import json
import mmap
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from deponij.store.atomic import read_texts, refuse_foreign, replacing_folder, write_table
from deponij.store.errors import DataError, StoreError, explained
from deponij.store.items import Items, ItemWriter
from deponij.store.label_maps import (
    VOID,
    Labels,
    SceneClass,
    check_classes,
    decode_labels,
    encode_labels,
)
from deponij.store.sealed import check_table, read_sealed, seal_table, sealed, sha256_of
from deponij.store.what_is import instead

__all__ = ["VOID", "SceneClass", "SceneRow", "Scenes", "write_scenes"]

FORMAT = 1
PARTS = ("train", "val", "test")
_ITEMS, _LABELS, _PARTS, _CLASSES = "items", "labels.parquet", "parts.parquet", "scenes.json"
_REMEDY = "make the scenes again (`deponij scenes`)"
# Small, so that one label map is had without reading many.
_GROUP_BYTES = 1 << 20
_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_LABEL_SCHEMA = pa.schema([("item_id", pa.string()), ("image", _IMAGE)]).with_metadata(
    {
        b"huggingface": json.dumps(
            {
                "info": {
                    "features": {
                        "item_id": {"dtype": "string", "_type": "Value"},
                        "image": {"_type": "Image"},
                    }
                }
            }
        ).encode()
    }
)
_DAMAGE = (pa.ArrowException, OSError, ValueError, IndexError)


@dataclass(frozen=True, slots=True)
class SceneRow:
    """One picture with its label map, or the reason why it is left out.

    Attributes:
        core: columns of every item but the picture (`deponij.store.items.CORE`): item_id, key, width_px, height_px, ….
        content: the encoded picture; None where it is left out.
        labels: [height_px, width_px] class numbers; None where it is left out.
        group: what it belongs together with, as a sequence's frames do; None: it stands alone.
        metadata: further columns.
    """

    core: Mapping[str, Any]
    content: bytes | None
    labels: Labels | None
    group: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


def write_scenes(
    folder: Path,
    classes: Sequence[SceneClass],
    rows: Iterable[SceneRow],
    *,
    metadata_schema: pa.Schema | None = None,
    parts: Callable[[], Mapping[str, str | None]] | None = None,
    part: str | None = None,
) -> None:
    """Write a folder of scenes from a stream of rows; an earlier one is replaced in one step.

    Args:
        classes: in the order of their numbers.
        metadata_schema: of the items' further columns.
        parts: asked when all rows are through, for the part of each item id; by default the column `given`.
        part: as of `ItemWriter`.

    Raises:
        DataError: the classes or a label map are no such thing, or a label map has another size than its picture.
        StoreError: the folder holds something else, an id repeats, or the disk is full.
    """
    check_classes(classes)
    known = {_ITEMS, _LABELS, _PARTS, _CLASSES}
    refuse_foreign(folder, lambda path: path.name in known, "scenes")
    placed: dict[str, tuple[str | None, str]] = {}
    with replacing_folder(folder) as new:
        with (
            ItemWriter(new / _ITEMS, metadata_schema or pa.schema([]), part=part) as writer,
            closing(_LabelWriter(new / _LABELS)) as label_writer,
        ):
            for row in rows:
                item_id = row.core["item_id"]
                _check_row(row)
                writer.add(content=row.content, metadata=row.metadata, **row.core)
                if row.labels is not None:
                    label_writer.add(item_id, encode_labels(row.labels, classes))
                    placed[item_id] = (row.core.get("given"), row.group or item_id)
        seal_table(new / _LABELS)
        found = parts() if parts is not None else {item_id: given for item_id, (given, _) in placed.items()}
        write_table(new / _PARTS, _parts_table(placed, found))
        body = {"format": FORMAT, "void": VOID, "classes": [asdict(one) for one in classes]}
        (new / _CLASSES).write_bytes(sealed(body))


class Scenes:
    """A folder of scenes, seen to be as it was written. Label maps are read when they are asked for.

    Attributes:
        items: whole pictures, with keys and ids; those that were left out too, as failures.
        classes: in the order of their numbers.
        parts: item id -> `train`, `val` or `test`, of those that are in one, in the items' order.

    Raises:
        StoreError: there are none, a file is damaged, or they do not belong together.
    """

    def __init__(self, folder: Path) -> None:
        self.path = Path(folder)
        if not (self.path / _CLASSES).is_file():
            raise StoreError(
                f"there are no scenes at {self.path}; `deponij scenes` makes them{instead(self.path)}"
            )
        self.classes = _classes(self.path / _CLASSES)
        self.items = Items(self.path / _ITEMS)
        ids, parts, groups = read_texts(self.path / _PARTS, ["item_id", "part", "group"])
        self._groups = {str(i): str(group) for i, group in zip(ids, groups, strict=True)}
        self.parts = {str(i): part for i, part in zip(ids, parts, strict=True) if part is not None}
        self._check_labels()
        sound = [i for i, key in zip(self.items.ids, self.items.keys, strict=True) if key is not None]
        if not ids == sound == self._label_ids or None in groups or set(self.parts.values()) - set(PARTS):
            raise StoreError(f"{self.path} is damaged: its files are of other pictures; {_REMEDY}")
        self._held: tuple[int, pa.ChunkedArray] | None = None

    @cached_property
    def digest(self) -> str:
        """What stands for all label maps, parts and classes: SHA-256 of their seals."""
        sealed_files = [self.path / name for name in (_LABELS, _PARTS, _CLASSES)]
        return sha256_of(b"".join(sha256_of(one.read_bytes()).encode() for one in sealed_files))

    def ids(self, part: str) -> list[str]:
        """Item ids of a part, in the items' order."""
        return [item_id for item_id, of in self.parts.items() if of == part]

    def group_of(self, item_id: str) -> str:
        """What a picture belongs together with (a sequence, a photograph); its own id where nothing is known.

        Raises:
            StoreError: there is no such scene.
        """
        self._place(item_id)
        return self._groups[item_id]

    def label_map(self, item_id: str) -> Labels:
        """[h, w] uint8: class numbers 0 … C-1, `VOID` where nothing is said; of the upright picture's size.

        Raises:
            StoreError: there is no such scene, or the file is damaged.
        """
        group, row = self._place(item_id)
        held = self._held
        if held is None or held[0] != group:
            held = self._held = (group, self._read_group(group))
        data = held[1][row].as_py()
        return decode_labels(
            data, len(self.classes), f"the label map of {item_id!r} in {self.path / _LABELS}"
        )

    @cached_property
    def _label_file(self) -> pq.ParquetFile:
        path = self.path / _LABELS
        try:
            file = pq.ParquetFile(path, page_checksum_verification=True)
        except _DAMAGE as error:
            raise StoreError(f"{path} is damaged: {error}; {_REMEDY}") from error
        if not file.schema_arrow.equals(_LABEL_SCHEMA):
            raise StoreError(f"{path} is of another version: it holds {file.schema_arrow.names}; {_REMEDY}")
        return file

    @cached_property
    def _label_ids(self) -> list[str]:
        try:
            ids: list[str] = self._label_file.read(columns=["item_id"]).column(0).to_pylist()
        except _DAMAGE as error:
            raise StoreError(f"{self.path / _LABELS} is damaged: {error}; {_REMEDY}") from error
        return ids

    @cached_property
    def _places(self) -> dict[str, tuple[int, int]]:
        """Of each item the row group of its label map, and its row there."""
        ids, metadata = iter(self._label_ids), self._label_file.metadata
        return {
            next(ids): (group, row)
            for group in range(metadata.num_row_groups)
            for row in range(metadata.row_group(group).num_rows)
        }

    def _place(self, item_id: str) -> tuple[int, int]:
        if item_id not in self._places:
            why = "; it was left out, the items say why" if item_id in self.items.places else ""
            raise StoreError(f"there is no scene {item_id!r} in {self.path}{why}")
        return self._places[item_id]

    def _read_group(self, group: int) -> pa.ChunkedArray:
        try:
            column = self._label_file.read_row_group(group, columns=["image.bytes"]).column(0)
            return column.combine_chunks().field("bytes")
        except _DAMAGE as error:
            raise StoreError(f"{self.path / _LABELS} is damaged: {error}; {_REMEDY}") from error

    def _check_labels(self) -> None:
        """Hold the seal of the label maps against all their bytes, without having them in memory at once."""
        path = self.path / _LABELS
        with explained(f"cannot read {path}"), path.open("rb") as file:
            try:
                with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                    check_table(content, path)
            except ValueError as error:
                raise StoreError(f"{path} is damaged: it is empty; {_REMEDY}") from error


class _LabelWriter:
    """Streams label maps into one Parquet file, in row groups of about `_GROUP_BYTES`."""

    def __init__(self, path: Path) -> None:
        # PNG is compressed already.
        self._file = pq.ParquetWriter(path, _LABEL_SCHEMA, compression="none", write_page_checksum=True)
        self._rows: list[dict[str, Any]] = []
        self._n_bytes = 0

    def add(self, item_id: str, png: bytes) -> None:
        self._rows.append({"item_id": item_id, "image": {"bytes": png, "path": f"{item_id}.png"}})
        self._n_bytes += len(png)
        if self._n_bytes >= _GROUP_BYTES:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._file.close()

    def _flush(self) -> None:
        if self._rows:
            self._file.write_table(pa.Table.from_pylist(self._rows, schema=_LABEL_SCHEMA))
        self._rows, self._n_bytes = [], 0


def _check_row(row: SceneRow) -> None:
    """Refuse what is neither a picture with a label map of its size nor one that was left out."""
    item_id, failure = row.core["item_id"], row.core.get("failure")
    if row.labels is None or row.content is None:
        if failure is None or row.labels is not None or row.content is not None:
            raise DataError(
                f"scene {item_id!r} needs a picture and a label map, or the reason why it is left out"
            )
        return
    size = (row.core.get("height_px"), row.core.get("width_px"))
    if failure is not None or row.labels.shape != size:
        raise DataError(
            f"the label map of {item_id!r} is {row.labels.shape}, its picture {size} (height, width)"
        )


def _parts_table(placed: Mapping[str, tuple[str | None, str]], parts: Mapping[str, str | None]) -> pa.Table:
    unknown = sorted({part for part in parts.values() if part is not None} - set(PARTS))
    if unknown:
        raise DataError(f"parts are {', '.join(PARTS)}, got {', '.join(map(repr, unknown))}")
    return pa.table(
        {
            "item_id": pa.array(list(placed), pa.string()),
            "part": pa.array([parts.get(item_id) for item_id in placed], pa.string()),
            "group": pa.array([group for _, group in placed.values()], pa.string()),
        }
    )


def _classes(path: Path) -> tuple[SceneClass, ...]:
    match read_sealed(path, _REMEDY):
        case {"format": 1, "void": 255, "classes": [*listed], **others} if not others:
            classes = tuple(_class_of(one, path) for one in listed)
        case body:
            raise StoreError(
                f"{path} is of another version: format {body.get('format')}, this Deponij reads {FORMAT}; {_REMEDY}"
            )
    try:
        check_classes(classes)
    except DataError as error:
        raise StoreError(f"{path} is of another version: {error}; {_REMEDY}") from error
    return classes


def _class_of(body: Any, path: Path) -> SceneClass:
    match body:
        case {
            "name": str(name),
            "colour": [int(red), int(green), int(blue)],
            "description": str(description),
            "words": str(words),
            **others,
        } if not others:
            return SceneClass(name, (red, green, blue), description, words)
    raise StoreError(f"{path} is of another version: a class is {body!r}; {_REMEDY}")
