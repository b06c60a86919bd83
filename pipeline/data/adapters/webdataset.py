"""Tar shards of the webdataset kind, as items that keep the pictures' original bytes.

    shard-000000.tar:   000000.jpg  000000.cls  000000.json    000001.jpg  000001.cls  …

Members that follow each other and have the same name up to its first dot are a sample. Of its fields are read the picture,
`cls` (a number or a name), `txt` (a caption) and `json` (plain values become columns). Shards are streamed and nothing
is ever unpacked into files; pickles and tensors are passed over.
"""

import gzip
import itertools
import json
import re
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

import pyarrow as pa
from pydantic import Field

from deponij.pipeline.data.adapters.file_names import distinct_names, numbered
from deponij.pipeline.data.adapters.registry import (
    Progress,
    SourceParams,
    check_columns,
    is_taken,
    register_source,
)
from deponij.pipeline.data.adapters.whole import each_picture, whole_picture
from deponij.pipeline.data.inside import MAX_PICTURE_BYTES, Links, path_inside, regular_file
from deponij.pipeline.data.item import Item, MetadataValue, ToAct
from deponij.pipeline.data.parallel import Workers
from deponij.pipeline.data.parts import Treatment, parts_of_files, refuse_unknown
from deponij.pipeline.data.try_out import told_part
from deponij.store.errors import DataError, UsageError
from deponij.store.texts import is_storable, one_line

PICTURES = ("jpg", "jpeg", "png", "webp", "avif", "gif", "bmp", "tif", "tiff", "ppm", "pgm")
SHARDS = ("*.tar", "*.tar.gz", "*.tgz")
LABELS = ("label", "class", "category", "cls")
# A field is held in memory, and a sample's JSON is small.
MAX_FIELD_BYTES = 4 << 20
# Of the headers of one member, long names and the like included.
MAX_HEADER_BYTES = 1 << 20
_BLOCK = 512
_BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")
_DAMAGE = (tarfile.TarError, OSError, EOFError, zlib.error, ValueError, OverflowError, RecursionError)
_SKIPPED = re.compile(r"(^|/)(\._|\.DS_Store$|__MACOSX/)")


class WebdatasetParams(SourceParams):
    """Which shards, and what their fields mean.

    Attributes:
        shards: files, folders of them, patterns with `*`, or with numbers in braces, as `data-{000000..000123}.tar`.
        limit: the first samples in the order of the shards, whatever their labels: no more is read of them.
        label_field: of the samples' JSON; by default `cls`, else the field of the JSON that is called like a label.
        treat: what shards or their folders are whose names leave it open: `train`, `val`, `test`, `class` (no part),
            or `skip` to leave them out.
        links_into: folders that symbolic links in a folder of shards may lead into; DVC's cache is one by itself.
    """

    shards: tuple[Path, ...] = Field(min_length=1)
    label_field: str | None = None
    treat: dict[str, Treatment] = Field(default_factory=dict)
    links_into: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class _Shard:
    path: Path
    name: str
    given: str | None


@dataclass
class _Sample:
    """What is read of a sample: its picture, and the fields that say something of it."""

    key: str
    picture: bytes | None = None
    failure: str | None = None
    fields: dict[str, bytes] = field(default_factory=dict)
    n_pictures: int = 0


# An item's id, content, failure, given part and metadata, before its picture is decoded.
_Row = tuple[str, bytes | None, str | None, str | None, dict[str, MetadataValue]]


@register_source("webdataset")
class WebdatasetSource:
    """Shards, whose samples have been counted."""

    Params = WebdatasetParams

    def __init__(self, params: WebdatasetParams) -> None:
        """Read names and small fields of all samples; pictures are passed over.

        Raises:
            DataError: a shard is missing or no tar file at all, or there is no sample; or it is open which part a
                shard is.
            UsageError: a shard named twice, all are left out, or a label field that no sample has.
        """
        paths = _expanded(params.shards, params.links_into)
        parts = dict(zip(paths, parts_of_files(paths, params.treat), strict=True))
        refuse_unknown(params.treat, [one for path in paths for one in (path.parts, (path.stem,))])
        kept = [path for path, part in parts.items() if part != "skip"]
        if not kept:
            raise UsageError("all shards are to be left out (treat: skip); leave one to read")
        self.shards = [
            _Shard(path, name, parts[path]) for path, name in zip(kept, distinct_names(kept), strict=True)
        ]
        seen = _Columns(params.label_field)
        self._limit = params.limit
        self.n_items = 0
        for shard in self.shards:
            if self._left(self.n_items) != 0:
                self.n_items += self._scanned(shard, seen, self._left(self.n_items))
        self._columns = seen.settled()
        self.metadata_schema = check_columns(self._columns.schema)
        if not self.n_items:
            raise DataError(f"no samples in {', '.join(str(one.path) for one in self.shards)}")

    @property
    def notes(self) -> tuple[str, ...]:
        """Fields that are passed over, samples with several pictures, and where labels come from."""
        if self._limit is None or self.n_items < self._limit:
            return self._columns.notes
        told = told_part(self.n_items, None, "the first in the order of the shards, whatever their labels")
        return (*told, *self._columns.notes)

    def items(self, *, workers: Workers = 1, progress: Progress | None = None) -> Iterator[Item]:
        """One item per sample, shard by shard; what does not decode, and the rest of a damaged shard, are failures."""
        return each_picture(_item, self._rows(), workers, progress, _size)

    def _left(self, n: int) -> int | None:
        """How many more samples are wanted after so many; None for all."""
        return None if self._limit is None else max(0, self._limit - n)

    def _scanned(self, shard: _Shard, columns: "_Columns", most: int | None) -> int:
        n_samples = 0
        for sample in itertools.islice(_samples(shard.path, with_pictures=False), most):
            n_samples += 1
            columns.see(sample)
        return n_samples

    def _rows(self) -> Iterator[_Row]:
        n = 0
        for shard in self.shards:
            if self._left(n) == 0:
                return
            seen: Counter[str] = Counter()
            taken: set[str] = set()
            for sample in itertools.islice(_samples(shard.path, with_pictures=True), self._left(n)):
                n += 1
                seen[sample.key] += 1
                name = sample.key
                if name in taken:
                    name = numbered(f"{name}#", max(2, seen[name]), taken)
                taken.add(name)
                metadata, failure = self._columns.values(sample)
                failure = sample.failure or failure
                if seen[sample.key] > 1:
                    failure = failure or f"the shard has several samples of the name {sample.key!r}"
                if sample.picture is None and failure is None:
                    told = ", ".join(sorted(sample.fields)) or "none that is read"
                    failure = f"the sample has no picture; its fields: {told}"
                yield (
                    f"{shard.name}/{name}",
                    None if failure else sample.picture,
                    failure,
                    shard.given,
                    metadata,
                )


def _item(row: _Row) -> Item:
    return whole_picture(*row)


def _size(row: _Row) -> int:
    return len(row[1] or b"")


class _Columns:
    """What samples say beside their pictures, as columns: seen first, then settled."""

    def __init__(self, label_field: str | None) -> None:
        self._asked = label_field
        self._types: dict[str, set[type]] = {}
        self._passed: Counter[str] = Counter()
        self._n_several = 0
        self._has: Counter[str] = Counter()
        self._label: str | None = None
        self._taken: list[str] = []
        self.schema = pa.schema([])

    def see(self, sample: _Sample) -> None:
        """Of a sample, whose pictures were not read."""
        self._n_several += sample.n_pictures > 1
        for name in sample.fields:
            self._has[name] += 1
        try:
            values = _json(sample)
        except DataError:
            return  # told with its item
        for name, value in values.items():
            if isinstance(value, str | bool | int | float) and is_storable(name):
                self._types.setdefault(name, set()).add(str if _is_long(value) else type(value))
            elif value is not None:
                self._passed[one_line(name)] += 1

    def settled(self) -> "_Columns":
        """The columns that all samples have.

        Raises:
            UsageError: the label field that was asked for is none.
        """
        names = sorted(self._types)
        if self._asked is not None and self._asked not in names:
            raise UsageError(
                f"no sample's JSON has a plain field {self._asked!r} (label_field); there are {', '.join(names) or 'none'}"
            )
        in_json = self._asked or next((name for name in LABELS if name in names), None)
        self._label = in_json if self._asked or not self._has["cls"] else None
        columns: list[tuple[str, Any]] = [("label", pa.string())] if self._label or self._has["cls"] else []
        if self._has["txt"]:
            columns.append(("caption", pa.string()))
        there = {name for name, _ in columns}
        for name in names:
            if name == self._label:
                continue
            if name in there or is_taken(name):
                self._taken.append(name)
            else:
                columns.append((name, _type(self._types[name])))
        self.schema = pa.schema(columns)
        return self

    @property
    def notes(self) -> tuple[str, ...]:
        notes = []
        if self._label:
            notes.append(f"labels are the field `{self._label}` of the samples' JSON")
        if self._passed:
            notes.append(
                f"fields of the JSON that are no plain values, passed over: {', '.join(sorted(self._passed))}"
            )
        if self._taken:
            notes.append(f"fields of the JSON whose names are taken, passed over: {', '.join(self._taken)}")
        if self._n_several:
            notes.append(
                ToAct(f"samples with several pictures, of which the first is taken: {self._n_several:,}")
            )
        return tuple(notes)

    def values(self, sample: _Sample) -> tuple[dict[str, MetadataValue], str | None]:
        """A sample's metadata, and why some of it cannot be had."""
        metadata: dict[str, MetadataValue] = dict.fromkeys(self.schema.names)
        try:
            found = _json(sample)
            if self._label:
                label = found.get(self._label)
                metadata["label"] = None if label is None else str(label)
            elif "cls" in sample.fields:
                metadata["label"] = _text(sample, "cls") or None
            if "txt" in sample.fields:
                metadata["caption"] = _text(sample, "txt") or None
        except DataError as error:
            return metadata, str(error)
        for name in self.schema.names:
            value = found.get(name)
            if name not in ("label", "caption") and value is not None:
                metadata[name] = _as(self.schema.field(name).type, value)
        strange = [name for name, one in metadata.items() if isinstance(one, str) and not is_storable(one)]
        if not strange:
            return metadata, None
        why = f"the sample's {', '.join(strange)} holds characters that no table can (NUL, half a pair)"
        return metadata | dict.fromkeys(strange), why


def _json(sample: _Sample) -> dict[str, Any]:
    if "json" not in sample.fields:
        return {}
    try:
        found = json.loads(_text(sample, "json"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"the sample's JSON is damaged: {error}") from error
    if not isinstance(found, dict):
        raise DataError(f"the sample's JSON must be an object, got {type(found).__name__}")
    return found


def _text(sample: _Sample, name: str) -> str:
    try:
        return sample.fields[name].decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise DataError(f"the sample's field {name} is not UTF-8: {error}") from error


def _type(seen: set[type]) -> pa.DataType:
    if seen == {bool}:
        return pa.bool_()
    if seen == {int}:
        return pa.int64()
    return pa.float64() if seen <= {int, float} else pa.string()


def _is_long(value: object) -> bool:
    """Whether it is a whole number beyond 64 bits, as some ids are: as a text it is kept to the last digit."""
    return isinstance(value, int) and not -(2**63) <= value < 2**63


def _as(kind: pa.DataType, value: Any) -> MetadataValue:
    if not isinstance(value, str | bool | int | float):
        return None
    if kind == pa.string():
        return str(value)
    return float(value) if kind == pa.float64() else value


def _samples(path: Path, *, with_pictures: bool) -> Iterator[_Sample]:
    """A shard's samples; where it is damaged a last one says so.

    Raises:
        DataError: it is missing, or no tar file at all.
    """
    n_read, sample = 0, None
    try:
        with _opened(path) as (tar, file):
            for member in _members(tar, file):
                key, ending = _split(member.name)
                if not member.isreg() or not ending or _SKIPPED.search(member.name):
                    continue
                if sample is not None and sample.key != key:
                    yield sample
                    n_read += 1
                    sample = None
                sample = sample or _Sample(key)
                _take(file, member, ending, sample, with_pictures)
            if sample is not None:
                yield sample
                n_read, sample = n_read + 1, None
            _require_end(file, tar.offset)
    except FileNotFoundError as error:
        raise DataError(f"shard {path} does not exist") from error
    except _DAMAGE as error:
        if n_read == 0 and sample is None:
            raise DataError(f"{path} is not a readable tar file: {error}") from error
        why = f"the shard is damaged after {n_read:,} samples, and what follows is lost: {error}"
        # The sample that was at hand is not known to be whole.
        yield _Sample("damaged" if sample is None else sample.key, failure=why)


class _Metered:
    """A tar file of which no more is read than is allowed: the sizes that it states may be any."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.left = MAX_HEADER_BYTES

    def read(self, n_bytes: int) -> bytes:
        if not 0 <= n_bytes <= self.left:
            raise tarfile.ReadError(f"a member has headers of more than {MAX_HEADER_BYTES:,} bytes")
        self.left -= n_bytes
        return self._file.read(n_bytes)

    def seek(self, place: int) -> int:
        return self._file.seek(place)

    def tell(self) -> int:
        return self._file.tell()


@contextmanager
def _opened(path: Path) -> Iterator[tuple[tarfile.TarFile, _Metered]]:
    zipped = path.name.endswith((".gz", ".tgz"))
    with cast(IO[bytes], gzip.open(path)) if zipped else path.open("rb") as file:
        metered = _Metered(file)
        with tarfile.open(fileobj=cast(IO[bytes], metered), mode="r:") as tar:
            yield tar, metered


def _members(tar: tarfile.TarFile, file: _Metered) -> Iterator[tarfile.TarInfo]:
    """One after the other, of which none is kept."""
    while True:
        file.left = MAX_HEADER_BYTES
        member = tar.next()
        if member is None:
            return
        if member.size < 0:
            raise tarfile.ReadError(f"a member of {member.size:,} bytes")
        yield member
        cast(Any, tar).members.clear()


def _require_end(file: _Metered, end: int) -> None:
    """See that the archive has its end mark: `tarfile` takes a cut or a broken header for the end, in silence."""
    file.seek(end)
    while block := file.read(_BLOCK):
        if len(block) == _BLOCK and not any(block):
            return
        raise tarfile.ReadError(f"a broken header at byte {end:,}")
    raise tarfile.ReadError(f"it is cut off at byte {end:,}")


def _take(file: _Metered, member: tarfile.TarInfo, ending: str, sample: _Sample, with_pictures: bool) -> None:
    is_picture = ending in PICTURES
    if not is_picture and ending not in ("cls", "txt", "json"):
        return
    most = MAX_PICTURE_BYTES if is_picture else MAX_FIELD_BYTES
    if member.size > most:
        sample.failure = f"its field {ending} has {member.size:,} bytes; at most {most:,} are read"
        return
    if member.issparse():
        sample.failure = f"its field {ending} is stored with holes (sparse), which is not read"
        return
    sample.n_pictures += is_picture
    if is_picture and (not with_pictures or sample.picture is not None):
        return
    file.left = member.size
    file.seek(member.offset_data)
    data = file.read(member.size)
    if len(data) != member.size:
        raise tarfile.ReadError(f"it is cut off within {member.name!r}")
    if is_picture:
        sample.picture = data
    else:
        sample.fields[ending] = data


def _split(name: str) -> tuple[str, str]:
    """A member's sample and field: its name up to the first dot of its last part, and what follows that dot."""
    folder, _, last = name.removeprefix("./").rpartition("/")
    stem, _, ending = last.partition(".")
    key = f"{folder}/{stem}" if folder else stem
    # Names need not be UTF-8; tables can hold nothing else.
    key = key.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace").replace("\0", "\\0")
    return key, ending.lower()


def _expanded(patterns: Sequence[Path], links_into: Sequence[Path]) -> list[Path]:
    """The files that are named.

    Raises:
        DataError: a pattern or folder that has none, a link that leaves its folder, or something else than a file.
        UsageError: one that is named twice.
    """
    paths: list[Path] = []
    for pattern in patterns:
        found = [regular_file(path) for name in _braces(str(pattern)) for path in _files(name, links_into)]
        if not found:
            raise DataError(f"there are no shards at {pattern} ({', '.join(SHARDS)})")
        paths += found
    twice = [path for path, n in Counter(path.resolve() for path in paths).items() if n > 1]
    if twice:
        raise UsageError(f"the shard {twice[0]} is named twice; each sample must become one item")
    return paths


def _files(name: str, links_into: Sequence[Path]) -> Iterable[Path]:
    path = Path(name).expanduser()
    if path.is_dir():
        found = sorted({one for ending in SHARDS for one in path.glob(ending)})
        root, links = path.resolve(), Links.of(path, links_into)
        for one in found:
            path_inside(root, one.name, links)
        return found
    if any(char in name for char in "*?["):
        return sorted(Path(path.anchor or ".").glob(str(path.relative_to(path.anchor or "."))))
    return [path]


def _braces(pattern: str) -> Iterator[str]:
    match = _BRACES.search(pattern)
    if match is None:
        yield pattern
        return
    first, last = match.groups()
    for number in range(int(first), int(last) + 1):
        yield from _braces(f"{pattern[: match.start()]}{number:0{len(first)}d}{pattern[match.end() :]}")
