"""Tar shards as `webdataset` writes them, as items that keep the pictures' original bytes.

    train-000000.tar: 0001.jpg 0001.cls 0001.txt   0002.png 0002.json   …

An item is a sample; its label is the text of its `.cls` (a name or a number), else a field of its `.json`; its `.txt` is
a caption. Shards are read in one pass, in order. Reading a tar file lives in `deponij.pipeline.data.tars`.
"""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import Field

from deponij.pipeline.data.adapters.registry import Progress, SourceParams, register_source
from deponij.pipeline.data.adapters.shard_names import shard_names
from deponij.pipeline.data.adapters.whole import each_picture, whole_picture
from deponij.pipeline.data.item import Item, MetadataValue, ToAct
from deponij.pipeline.data.parts import Treatment, parts_of_files, refuse_unknown
from deponij.pipeline.data.tars import Sample, expanded, samples
from deponij.pipeline.data.try_out import told_part
from deponij.store.errors import DataError, UsageError

ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
_LABEL_FIELD = "label"
_COLUMNS = pa.schema([("label", pa.string()), ("caption", pa.string()), ("shard", pa.string())])


class TarParams(SourceParams):
    """Which shards.

    Attributes:
        shards: tar files, folders of them, or patterns such as `train-{000000..000099}.tar`, in the order of the items.
        label_field: of the `.json` of samples without a `.cls`; fields within fields have dots between them. By default
            `label`, where there is one.
        treat: what shards and their folders are whose names leave it open: `train`, `val`, `test`, `class` (no part), or
            `skip`.
    """

    shards: tuple[str, ...] = Field(min_length=1)
    label_field: str | None = None
    treat: dict[str, Treatment] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Shard:
    path: Path
    name: str
    given: str | None
    n_items: int


# An item's id, content, failure, given part and metadata, before its picture is decoded.
_Row = tuple[str, bytes | None, str | None, str | None, dict[str, MetadataValue]]


@register_source("webdataset")
class TarSource:
    """Tar shards, their samples counted."""

    Params = TarParams
    metadata_schema = _COLUMNS

    def __init__(self, params: TarParams) -> None:
        """Find the shards and count their samples; compressed ones are unpacked in memory for it.

        Raises:
            DataError: a shard does not exist, a folder has none, or none holds a sample.
            UsageError: `treat` of what is not there, or a shard named twice.
        """
        paths = _found(params.shards)
        parts = dict(zip(paths, parts_of_files(paths, params.treat), strict=True))
        kept = [path for path in paths if parts[path] != "skip"]
        refuse_unknown(params.treat, [one for path in paths for one in (path.parts, (path.stem,))])
        if not kept:
            raise UsageError("all shards are to be left out (treat: skip); leave one to read")
        self._label_field = params.label_field
        self._limit = params.limit
        self._n_more = self._n_alone = 0
        self._damaged: list[str] = []
        self._shards: list[_Shard] = []
        left = params.limit
        for path, name in zip(kept, shard_names(kept), strict=True):
            shard = self._counted(path, name, parts[path], left)
            self._shards.append(shard)
            if left is not None:
                left -= shard.n_items
                if left <= 0:
                    break
        self._n_left_out = len(kept) - len(self._shards)
        if not self.n_items:
            raise DataError(f"no samples in {', '.join(map(str, kept[:3]))}")

    @property
    def n_items(self) -> int:
        """One item per sample, and one per shard that breaks off."""
        return sum(one.n_items for one in self._shards)

    @property
    def notes(self) -> tuple[str, ...]:
        """That these are a part; damaged shards; further pictures of samples."""
        notes: list[str] = []
        if self._limit is not None and self.n_items >= self._limit:
            notes += told_part(
                self.n_items, None, "the first in the order of the shards, whatever their classes"
            )
        if self._damaged:
            notes.append(
                ToAct(f"shards that break off: {len(self._damaged):,}, the first: {self._damaged[0]!r}")
            )
        if self._n_more:
            notes.append(f"pictures beyond the first of their sample, left out: {self._n_more:,}")
        return tuple(notes)

    def items(self, *, workers: int = 1, progress: Progress | None = None) -> Iterator[Item]:
        """One item per sample, shard by shard; at the end of one that breaks off a failure that says so."""
        return each_picture(lambda row: whole_picture(*row), self._rows(), workers, progress)

    def _counted(self, path: Path, name: str, given: str | None, limit: int | None) -> _Shard:
        n = 0
        try:
            for sample in samples(path, with_bytes=False):
                n += 1
                self._n_more += sample.n_more
                if n == limit:
                    return _Shard(path, name, given, n)
        except DataError:
            self._damaged.append(name)
            n += 1
        return _Shard(path, name, given, n)

    def _rows(self) -> Iterator[_Row]:
        for shard in self._shards:
            seen: set[str] = set()
            n = 0
            beside: dict[str, MetadataValue] = {"label": None, "caption": None, "shard": shard.name}
            try:
                for sample in samples(shard.path):
                    n += 1
                    yield self._row(shard, sample, seen, beside)
                    if n == shard.n_items:
                        break
            except DataError as error:
                if n < shard.n_items:
                    said = f"after {n:,} samples: {error}"
                    yield f"{shard.name}#(the rest)", None, _spelled(said), shard.given, beside

    def _row(self, shard: _Shard, sample: Sample, seen: set[str], beside: dict[str, MetadataValue]) -> _Row:
        name, failure = f"{shard.name}#{_spelled(sample.key)}", sample.problem
        if not sample.ending and failure is None:
            failure = f"the sample holds no picture, only {', '.join(sorted(sample.endings))}"
        if name in seen:
            failure = "the shard has another sample of this key"
            name = f"{name}~{len(seen)}"
        seen.add(name)
        metadata = dict(beside)
        try:
            metadata["label"] = self._label(sample)
            metadata["caption"] = _text(sample, "txt")
        except DataError as error:
            failure = failure or str(error)
        content = None if failure is not None else sample.picture
        return name, content, None if failure is None else _spelled(failure), shard.given, metadata

    def _label(self, sample: Sample) -> str | None:
        if (said := _text(sample, "cls")) is not None:
            return said
        if "json" not in sample.beside:
            return None
        try:
            value: Any = json.loads(sample.beside["json"])
        except (ValueError, RecursionError) as error:
            raise DataError(f"its .json cannot be read: {error}") from error
        for name in (self._label_field or _LABEL_FIELD).split("."):
            value = value.get(name) if isinstance(value, dict) else None
        if value is None or isinstance(value, str | int | float):
            return None if value is None or value == "" else str(value)
        raise DataError(f"the field {self._label_field or _LABEL_FIELD!r} of its .json is no name or number")


def _text(sample: Sample, ending: str) -> str | None:
    """The text of a member; None for none, or an empty one."""
    if ending not in sample.beside:
        return None
    try:
        return sample.beside[ending].decode("utf-8").strip() or None
    except UnicodeDecodeError as error:
        raise DataError(f"its .{ending} is not in UTF-8: {error}") from error


def _found(patterns: Sequence[str]) -> list[Path]:
    paths: list[Path] = []
    for pattern in patterns:
        for place in map(Path, expanded(pattern)):
            if place.is_dir():
                inside = sorted(one for one in place.iterdir() if one.name.lower().endswith(ENDINGS))
                if not inside:
                    raise DataError(f"no shards in {place}; expected files that end in {', '.join(ENDINGS)}")
                paths += inside
            elif not place.is_file():
                raise DataError(f"shard {place} {'is not a file' if place.exists() else 'does not exist'}")
            else:
                paths.append(place)
    if len({path.resolve() for path in paths}) < len(paths):
        raise UsageError("a shard is named twice; each sample must become one item")
    return paths


def _spelled(text: str) -> str:
    """Names that are not UTF-8, or hold what no table can, with their odd characters spelled out."""
    return os.fsencode(text.replace("\0", "\\x00")).decode("utf-8", "backslashreplace")
