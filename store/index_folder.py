"""A search index on disk: a plain FAISS file, a table of what its rows are, and a sidecar written last.

    INDEX/vectors-<digest>.faiss    read by `faiss.read_index`
    INDEX/rows-<digest>.parquet     `vector_row` (the number in the FAISS file), item_id, key, metadata; rows that
                                    are not in it are deleted
    INDEX/index.json                names both files with size and SHA-256; what they were made from and how

An update writes new files aside and replaces the sidecar; whoever has the old ones open keeps them. Opening checks
the sidecar, the files' sizes and their first bytes; `vectors_check` reads all vectors, at once where they are few
(`EAGER_BYTES`) and else before they are first searched; the table's seal is checked when it is read. `damage` reads
everything. Searching is `deponij.pipeline.retrieval`.
"""

import hashlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self, get_origin, get_type_hints

import pyarrow as pa

from deponij.store.atomic import (
    PART,
    flush,
    make_folder,
    publish,
    read_table,
    refuse_foreign,
    write_bytes,
    write_table,
)
from deponij.store.errors import StoreError, explained
from deponij.store.identity import Identity
from deponij.store.locks import holding
from deponij.store.sealed import sealed, unsealed
from deponij.store.what_is import instead

FORMAT = 1
CARD = "index.json"
ROW = "vector_row"
EAGER_BYTES = 256 << 20
_COLUMNS = {ROW: pa.int64(), "item_id": pa.string(), "key": pa.string()}
_HEAD_BYTES = 64 << 10
_OPENINGS = 5


def _head(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.blake2b(file.read(_HEAD_BYTES), digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True)
class FileFacts:
    """One file of an index; head: BLAKE2b of its first 64 KiB."""

    name: str
    size_bytes: int
    sha256: str
    head: str

    @classmethod
    def of(cls, path: Path) -> Self:
        """Read a file whole."""
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return cls(path.name, path.stat().st_size, digest, _head(path))


@dataclass(frozen=True, slots=True)
class IndexCard:
    """The commit of an index.

    Attributes:
        identity: of the features.
        backbone: the view's name of it.
        kind, settings, effort: type, how it was built and how it searches.
        n_rows: vectors in the FAISS file.
        n_items: those that are not deleted.
        dim: their width.
        params: that the type was chosen by.
        report: what was measured.
    """

    identity: Identity
    backbone: str
    kind: str
    settings: Mapping[str, int]
    effort: Mapping[str, int]
    n_rows: int
    n_items: int
    dim: int
    params: Mapping[str, Any]
    report: Mapping[str, Any]
    vectors: FileFacts
    rows: FileFacts

    @property
    def fingerprint(self) -> str:
        """Of the identity."""
        return self.identity.fingerprint

    def to_bytes(self) -> bytes:
        """The sidecar."""
        return sealed({"format": FORMAT, **asdict(self), "fingerprint": self.fingerprint})

    @classmethod
    def from_bytes(cls, data: bytes, where: Path) -> Self:
        """Parse a sidecar.

        Raises:
            StoreError: damaged, or of another format.
        """
        try:
            body = unsealed(data)
            version = body.pop("format")
            if version != FORMAT:
                raise StoreError(
                    f"{where} has format {version}, this Deponij reads {FORMAT}: make the index again"
                )
            body.pop("fingerprint")
            body["identity"] = Identity.from_dict(body["identity"])
            for name in ("vectors", "rows"):
                body[name] = FileFacts(**_typed(FileFacts, body[name]))
                if Path(body[name].name).name != body[name].name:
                    raise ValueError(f"it names {body[name].name!r}, which is not beside it")
            return cls(**_typed(cls, body))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise StoreError(f"{where} is damaged: {error}; make the index again") from error


def _typed(of: type, values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Fields of a dataclass that a document gave, seen to be all of them and of its types."""
    kinds = {name: get_origin(kind) or kind for name, kind in get_type_hints(of).items()}
    if unlike := sorted(set(kinds) ^ set(values)):
        raise ValueError(f"it has other fields than this version's: {', '.join(unlike)}")
    for name, kind in kinds.items():
        if not isinstance(values[name], kind) or isinstance(values[name], bool):
            raise ValueError(
                f"its field {name!r} is {type(values[name]).__name__} instead of {kind.__name__}"
            )
    return values


class IndexFolder:
    """An index that was opened: its card, and files that fit it.

    Raises:
        StoreError: there is none, or the card or a file is damaged.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        for attempt in range(_OPENINGS):
            self.card = read_card(self.path)
            # Between reading the card and looking at its files these may have been replaced.
            problems = self._at_a_glance()
            if not problems:
                return
            if attempt and read_card(self.path) == self.card:
                break
        raise StoreError(f"{problems[0]}; restore the folder or make the index again")

    @property
    def vectors_path(self) -> Path:
        """The FAISS file."""
        return self.path / self.card.vectors.name

    @property
    def rows_path(self) -> Path:
        """The table."""
        return self.path / self.card.rows.name

    def rows(self, columns: list[str] | None = None) -> pa.Table:
        """The table of live rows, by `vector_row`; its page checksums are checked.

        Raises:
            StoreError: damaged, or a column is unknown.
        """
        table = read_table(self.rows_path, columns)
        for name, kind in _COLUMNS.items():
            if (columns is None or name in columns) and (
                name not in table.column_names or table[name].type != kind or table[name].null_count
            ):
                raise StoreError(f"{self.rows_path} has no column {name!r} of {kind}; make the index again")
        if table.num_rows != self.card.n_items:
            raise StoreError(
                f"{self.rows_path} has {table.num_rows} rows instead of {self.card.n_items}; make the index again"
            )
        return table

    def vectors_check(self) -> Callable[[], None] | None:
        """Hold the vectors against their checksum: now, or, where they are many, by the function that is returned.

        Raises:
            StoreError: they are damaged.
        """
        facts, path = self.card.vectors, self.vectors_path
        # Opened now: an update may take the file away before it is read.
        with explained(f"cannot read {path}"):
            file = path.open("rb")

        def check() -> None:
            with explained(f"cannot read {path}"), file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            if digest != facts.sha256:
                raise StoreError(
                    f"{path} is damaged: its content is not what was written; make the index again"
                )

        if facts.size_bytes > EAGER_BYTES:
            return check
        check()
        return None

    def damage(self) -> list[str]:
        """Everything that is wrong with the files, reading them whole; empty where they are sound."""
        problems = []
        for facts in (self.card.vectors, self.card.rows):
            try:
                now = FileFacts.of(self.path / facts.name)
            except OSError as error:
                problems.append(f"{self.path / facts.name} cannot be read: {error.strerror or error}")
                continue
            if now != facts:
                problems.append(f"{self.path / facts.name} is damaged: its content is not what was written")
        return problems

    def _at_a_glance(self) -> list[str]:
        for facts in (self.card.vectors, self.card.rows):
            path = self.path / facts.name
            try:
                if path.stat().st_size != facts.size_bytes:
                    return [
                        f"{path} is damaged: {path.stat().st_size:,} bytes instead of {facts.size_bytes:,}"
                    ]
                head = _head(path)
            except OSError as error:
                return [f"{path} cannot be read: {error.strerror or error}"]
            if head != facts.head:
                return [f"{path} is damaged: its header is not what was written"]
        return []


def read_card(folder: Path) -> IndexCard:
    """What an index says of itself.

    Raises:
        StoreError: there is none, or it is damaged.
    """
    try:
        with explained(f"cannot read {folder / CARD}", passing=(FileNotFoundError, NotADirectoryError)):
            return IndexCard.from_bytes((folder / CARD).read_bytes(), folder / CARD)
    except (FileNotFoundError, NotADirectoryError):
        # A run has other files of this name.
        cards = sorted((*folder.glob(f"*/{CARD}"), *folder.glob(f"indexes/*/{CARD}")))
        below = ", ".join(str(card.parent) for card in cards if any(card.parent.glob("vectors-*.faiss")))
        hint = f"below it are {below}" if below else f"`deponij index` makes one{instead(folder)}"
        raise StoreError(f"there is no index at {folder}; {hint}") from None


def write_index(
    folder: Path, write_vectors: Callable[[Path], None] | FileFacts, rows: pa.Table, **card: Any
) -> IndexCard:
    """Write an index, or replace one; it is there, whole, when the sidecar is.

    Args:
        write_vectors: writes the FAISS file to a path; or the facts of the one that is there and stays.
        rows: with `vector_row`, item_id, key.
        card: the other attributes of `IndexCard`.

    Raises:
        StoreError: the folder holds something else, cannot be written, or is being written by another process.
    """
    refuse_foreign(folder, _is_ours, "the index")
    with explained(f"cannot write {folder}"):
        make_folder(folder)
        with holding(folder, folder, create=False):
            for stale in folder.glob(f"*{PART}"):
                stale.unlink()
            before = {path.name for path in folder.iterdir()}
            try:
                if isinstance(write_vectors, FileFacts):
                    vectors = write_vectors
                else:
                    vectors = _settled(folder, "vectors", ".faiss", write_vectors)
                table = _settled(folder, "rows", ".parquet", lambda path: write_table(path, rows))
                made = IndexCard(vectors=vectors, rows=table, **card)
                write_bytes(folder / CARD, made.to_bytes())
            except BaseException:
                _forget(folder, before)
                raise
            _forget(folder, {CARD, made.vectors.name, made.rows.name})
            return made


def _settled(folder: Path, stem: str, suffix: str, write: Callable[[Path], None]) -> FileFacts:
    """Write a file aside and give it the name of its content."""
    part = folder / f"{stem}{suffix}.new{PART}"
    try:
        write(part)
        facts = FileFacts.of(part)
        name = f"{stem}-{facts.sha256[:16]}{suffix}"
        publish(part, folder / name)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return replace(facts, name=name)


def _forget(folder: Path, kept: Collection[str]) -> None:
    """Remove an index's files other than these."""
    for path in folder.iterdir():
        if path.name not in kept and _is_ours(path):
            path.unlink(missing_ok=True)
    flush(folder)


def _is_ours(path: Path) -> bool:
    return (
        path.name == CARD
        or path.match("vectors-*.faiss")
        or path.match("rows-*.parquet")
        or path.match(f"*{PART}")
    )
