"""The depot: an append-only cache of feature rows under identities, shared by everything.

    format.json                     what this folder is, and its format's version
    <fingerprint>/<shard>.h5|json   rows and their commit (`deponij.store.shard`); <shard>-<k> stand in for it
    writers/<token>.lock            held by each living writer; empty (or .lease: `deponij.store.presence`)
    damaged/…                       what `verify` set aside

`FeatureStore` finds, reads and adds rows. Checking, moving and tidying live in `deponij.store.upkeep.inspection`.
"""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from deponij.store import shard
from deponij.store.atomic import PART
from deponij.store.errors import StoreError, explained
from deponij.store.folders import Folder, LocalFolder, open_folder
from deponij.store.hdf5 import Array
from deponij.store.identity import FINGERPRINT_CHARS, Identity
from deponij.store.presence import LOCKS, WriterLock, burying
from deponij.store.shard import Index, Provenance, Rows, Sidecar
from deponij.store.writer import SHARD_ROWS, UNSAVED_S, Writer

FORMAT_FILE = "format.json"
FORMAT_NAME = "deponij-depot"
DAMAGED = "damaged"
# Each time shards may have been tidied away between look-up and reading; more often is no accident.
_READ_ATTEMPTS = 5
_LISTINGS = 5
_TOKEN = r"(?P<token>[A-Za-z0-9-]+\.\d+\.[0-9a-f]{8})"
_OWNED = re.compile(
    rf"[0-9a-f]{{{FINGERPRINT_CHARS}}}/{_TOKEN}-\d{{6}}(-\d+)?\.(h5|json)(\.\d+)?({re.escape(PART)})?$"
)
_STAND_IN = re.compile(rf"(?P<shard>.+/{_TOKEN}-\d{{6}})-\d+$")
# A depot's marker in the making, or a lease in a local folder.
_MARKER_PART = re.compile(rf"{LOCKS}/{_TOKEN}(\.lease\.\d+)?{re.escape(PART)}$")


class FeatureStore:
    """Feature rows by key and identity.

    Args:
        location: a folder, or any fsspec URL.
        create: make the depot where there is none.

    Attributes:
        damaged: shard name -> what is wrong with its sidecar; such rows count as unknown.

    Raises:
        StoreError: there is no depot, the folder holds something else, or its format is another one.
    """

    def __init__(self, location: str | Path, *, create: bool = False) -> None:
        self.folder: Folder = open_folder(location)
        self.location = self.folder.location
        check_format(self.folder, create=create)
        self._sidecars: dict[str, Sidecar] = {}
        self._indexes: dict[str, Index] = {}
        self.damaged: dict[str, str] = {}
        self.refresh()

    @property
    def local_path(self) -> Path | None:
        """The folder on this machine; None for an object store."""
        return self.folder.path if isinstance(self.folder, LocalFolder) else None

    def refresh(self) -> None:
        """See what other writers have committed or tidied away since. Reads new sidecars only."""
        names = self._committed()
        fresh = sorted(names - set(self._sidecars))
        self.damaged = {}
        for file_name, data in self.folder.read_many(f"{name}.json" for name in fresh).items():
            name = file_name.removesuffix(".json")
            try:
                self._sidecars[name] = Sidecar.from_bytes(name, data)
            except StoreError as error:
                self.damaged[name] = str(error)
        gone = set(self._sidecars) - names
        for name in gone:
            del self._sidecars[name]
        if fresh or gone:
            self._indexes.clear()

    def _committed(self) -> set[str]:
        # A listing is no snapshot: while shards are compacted it may miss both the old and the new
        # one. Two equal listings miss nothing.
        names = {n.removesuffix(".json") for n in self.folder.names() if is_sidecar(n)}
        for _ in range(_LISTINGS if self.folder.is_local else 0):
            before, names = names, {n.removesuffix(".json") for n in self.folder.names() if is_sidecar(n)}
            if before == names:
                break
        return names

    @property
    def sidecars(self) -> list[Sidecar]:
        """All committed shards, by name."""
        return [self._sidecars[name] for name in sorted(self._sidecars)]

    def identities(self) -> dict[str, Identity]:
        """Fingerprint -> identity, of everything that has rows here."""
        return {sidecar.fingerprint: sidecar.identity for sidecar in self.sidecars}

    def keys(self, identity: Identity) -> list[str]:
        """The keys known under an identity, sorted, each once."""
        return [key.decode() for key in self.index(identity.fingerprint).keys]

    def missing(self, identity: Identity, keys: Iterable[str]) -> list[str]:
        """Those of `keys` that have no row, in order, each once."""
        unique = list(dict.fromkeys(keys))
        found = self.index(identity.fingerprint).find(unique)
        return [key for key, place in zip(unique, found, strict=True) if place < 0]

    def resolve(self, keys: Sequence[str]) -> Identity:
        """The one identity under which rows for all `keys` are known.

        Raises:
            StoreError: there is none, or several (listed).
        """
        candidates = [i for i in self.identities().values() if not self.missing(i, keys)]
        if len(candidates) == 1:
            return candidates[0]
        if not candidates:
            raise StoreError(f"no identity in {self.location} has all {len(keys)} keys: {self._known_as()}")
        first = candidates[0]
        listed = [f"  {c.fingerprint}  {c.backbone} {c.kind} {c.precision}" for c in candidates]
        listed[1:] = [
            line + "  (" + "; ".join(first.differences(c)) + ")"
            for line, c in zip(listed[1:], candidates[1:], strict=True)
        ]
        raise StoreError(
            f"{len(candidates)} identities have these keys; say which one:\n" + "\n".join(listed)
        )

    def read(
        self, keys: Sequence[str], identity: Identity | None = None, names: Sequence[str] | None = None
    ) -> dict[str, Array]:
        """Rows in the order of `keys`, repeats allowed.

        Args:
            keys: m keys.
            identity: whose rows; may be left out where only one identity has them all.
            names: arrays to read (`checksums` too); all by default.

        Returns:
            name -> [m, …] in the stored dtype.

        Raises:
            StoreError: a key is unknown, the request is ambiguous (the candidates are listed), rows
                differ in shape, or a file is damaged.
        """
        identity = self.resolve(keys) if identity is None else identity
        failure = ""
        for _ in range(_READ_ATTEMPTS):
            index = self.index(identity.fingerprint)
            places = index.find(keys)
            if (places < 0).any():
                # Others may have committed them since, or tidied at the moment of the look-up.
                self.refresh()
                if absent := self.missing(identity, keys):
                    raise StoreError(self._explain_absence(absent, len(keys), identity))
                index = self.index(identity.fingerprint)
                places = index.find(keys)
            try:
                return self._read(index, places, names)
            except FileNotFoundError as error:
                # A shard was compacted away between the look-up and the reading.
                failure = str(error)
                self.refresh()
        raise StoreError(
            f"a shard of {self.location} has lost its file ({failure}); run `deponij depot verify --repair`, "
            "then `deponij extract` to compute its rows again"
        )

    def _read(self, index: Index, places: Rows, names: Sequence[str] | None) -> dict[str, Array]:
        shards, rows = index.shards[places], index.rows[places]
        order = np.argsort(shards, kind="stable")
        numbers, begins = np.unique(shards[order], return_index=True)
        if not len(numbers) and index.sidecars:
            # Without keys the first shard still tells the arrays' names and shapes.
            numbers, begins = np.zeros(1, np.int64), np.zeros(1, np.int64)
        arrays: dict[str, Array] = {}
        for number, where in zip(numbers.tolist(), np.split(order, begins[1:]), strict=True):
            found = self._read_shard(index.sidecars[number], rows[where], names)
            if len(numbers) == 1:
                return found
            is_run = where[-1] - where[0] == len(where) - 1
            for name, values in found.items():
                whole = arrays.setdefault(name, np.empty((len(places), *values.shape[1:]), values.dtype))
                if whole.shape[1:] != values.shape[1:]:
                    raise StoreError(
                        f"rows of {name} differ in shape ({whole.shape[1:]} and {values.shape[1:]}): "
                        "read pictures of one size at a time"
                    )
                whole[slice(where[0], where[-1] + 1) if is_run else where] = values
        return arrays

    def _read_shard(self, sidecar: Sidecar, rows: Rows, names: Sequence[str] | None) -> dict[str, Array]:
        chosen = list(sidecar.arrays if names is None else names)
        unknown = sorted(set(chosen) - set(sidecar.arrays) - {"checksums"})
        if unknown:
            raise StoreError(
                f"rows of {sidecar.identity.kind} in {self.location} have no array {unknown}; "
                f"they have {[*sidecar.arrays, 'checksums']}"
            )
        return shard.read(self.folder, sidecar, rows, chosen)

    def _explain_absence(self, absent: list[str], n_asked: int, identity: Identity) -> str:
        text = (
            f"{len(absent)} of {n_asked} keys have no row under {identity.fingerprint} ({identity.backbone}, "
            f"{identity.kind}) in {self.location}, the first: {absent[0]}"
        )
        for other in self.identities().values():
            if other != identity and not self.missing(other, absent):
                text += f"; {other.fingerprint} has them, but differs in " + "; ".join(
                    identity.differences(other)
                )
        if self.damaged:
            text += f"; {len(self.damaged)} damaged sidecars are ignored (`deponij depot verify`)"
        return text + "; run `deponij extract` to compute them"

    def writer(
        self,
        identity: Identity,
        provenance: Provenance,
        *,
        shard_rows: int = SHARD_ROWS,
        unsaved_s: float = UNSAVED_S,
        on_event: Callable[[str], None] | None = None,
    ) -> Writer:
        """A context in which rows are added; see `Writer`."""
        return Writer(self, identity, provenance, shard_rows, unsaved_s, on_event)

    def orphans(self, names: Sequence[str] | None = None) -> list[str]:
        """Files that no sidecar commits: what living writers are at work on, and what dead ones left.

        Args:
            names: of the depot's files, where they are known.
        """
        return _orphans(self.folder.names() if names is None else names)

    def sweep(self) -> list[str]:
        """Remove what dead writers left uncommitted; returns the names removed.

        What cannot be removed (a depot that is read-only here) stays for somebody else's sweep.
        """
        self._settle()
        # The order matters: a writer that begins after the listing has nothing in it.
        names = self.folder.names()
        orphans = _orphans(names)
        if not orphans and not self.folder.is_local and not any(n.startswith(f"{LOCKS}/") for n in names):
            return []
        with burying(self.folder, names) as presence:
            return [
                name
                for name in orphans
                if presence.is_dead(_token(name), self.folder.age_s(name)) and self._remove_orphan(name)
            ]

    def _settle(self) -> None:
        """Take away stand-ins that a kill has left beside the shard that holds their rows too."""
        for name in list(self._sidecars):
            full = self._sidecars.get(stands_in_for(name) or "")
            if full is not None and shard.verify(self.folder, full) is None:
                self.retire(name)

    def retire(self, name: str) -> None:
        """Take away a shard whose rows another one holds; where that cannot be done, a later sweep does it."""
        self._sidecars.pop(name, None)
        self._indexes.clear()
        with suppress(StoreError):
            shard.retire(self.folder, name)

    def is_committed(self, name: str) -> bool:
        """Whether a shard is there at this moment; it may have come, or been tidied away, since the last look."""
        try:
            self.folder.size_bytes(f"{name}.json")
        except FileNotFoundError:
            return False
        return True

    def _remove_orphan(self, name: str) -> bool:
        if self.is_committed(name.removesuffix(".h5")):
            return False
        try:
            self.folder.delete(name)
        except StoreError:
            return False
        return True

    def index(self, fingerprint: str) -> Index:
        """Where the rows of one identity lie."""
        if fingerprint not in self._indexes:
            self._indexes[fingerprint] = Index.build(
                [s for s in self.sidecars if s.fingerprint == fingerprint]
            )
        return self._indexes[fingerprint]

    def _known_as(self) -> str:
        known = [f"{i.backbone} {i.kind} ({f})" for f, i in self.identities().items()]
        return "it knows " + ", ".join(known) if known else "it is empty"

    def add_sidecar(self, sidecar: Sidecar) -> None:
        """Take a shard that this process has just committed into the index."""
        self._sidecars[sidecar.name] = sidecar
        self._indexes.pop(sidecar.fingerprint, None)


def read_format(folder: Folder) -> int | None:
    """The version in a depot's marker; None where there is no marker.

    Raises:
        StoreError: the marker is damaged or that of something else.
    """
    try:
        marker = json.loads(folder.read(FORMAT_FILE))
        if marker["format"] != FORMAT_NAME:
            raise ValueError(f"its format is {marker['format']!r}")
        return int(marker["version"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise StoreError(f"{folder.location}/{FORMAT_FILE} is damaged or no depot's: {error!r}") from error


def write_format(folder: Folder, version: int) -> None:
    """Mark a folder as a depot of this version."""
    data = json.dumps({"format": FORMAT_NAME, "version": version}).encode()
    if not isinstance(folder, LocalFolder):
        folder.write(FORMAT_FILE, data)
        return
    # The part carries a token, so that a kill in the middle leaves nothing that could not be swept.
    with WriterLock(folder) as lock, explained(f"cannot write {folder.path / FORMAT_FILE}"):
        part = folder.path / LOCKS / f"{lock.token}{PART}"
        try:
            part.write_bytes(data)
            folder.publish(part, FORMAT_FILE)
        except BaseException:
            part.unlink(missing_ok=True)
            raise


def check_format(folder: Folder, *, create: bool) -> None:
    """See that a folder is a depot of a format that this code reads; make it one if asked to.

    Raises:
        StoreError: no depot, something else, damaged, or another format.
    """
    version = read_format(folder)
    if version is None:
        _begin(folder, create=create)
    elif version > shard.FORMAT:
        raise StoreError(
            f"the depot {folder.location} has format {version}, this Deponij reads {shard.FORMAT}: "
            "install a newer Deponij"
        )
    elif version < shard.FORMAT:
        raise StoreError(
            f"the depot {folder.location} has format {version}, this Deponij reads {shard.FORMAT}: "
            "run `deponij depot migrate`"
        )


def _begin(folder: Folder, *, create: bool) -> None:
    if not create:
        raise StoreError(
            f"there is no depot at {folder.location}; `deponij run` or `deponij extract` makes one"
        )
    others = [name for name in folder.names() if not name.startswith(LOCKS + "/")]
    if others and FORMAT_FILE not in others:
        raise StoreError(
            f"{folder.location} is not empty and no depot (it holds {others[0]}); name another folder"
        )
    write_format(folder, shard.FORMAT)


def is_sidecar(name: str) -> bool:
    """Whether a file's name is that of a commit."""
    return name.endswith(".json") and "/" in name and not name.startswith((LOCKS + "/", DAMAGED + "/"))


def stands_in_for(name: str) -> str | None:
    """The full shard whose place a stand-in (see `deponij.store.writer`) keeps; None for other shards."""
    match = _STAND_IN.match(name)
    return match["shard"] if match else None


def is_foreign(name: str) -> bool:
    """Whether a file is none that a depot has; such files are reported and never touched."""
    if name == FORMAT_FILE or name.startswith((LOCKS + "/", DAMAGED + "/")):
        return False
    return not is_sidecar(name) and _token(name) is None


def _orphans(names: Sequence[str]) -> list[str]:
    present = set(names)
    return [name for name in names if _is_uncommitted(name, present)]


def _is_uncommitted(name: str, names: set[str]) -> bool:
    if name.startswith(DAMAGED + "/") or _token(name) is None:
        return False
    if name.endswith(PART):
        return True
    return name.endswith(".h5") and f"{name.removesuffix('.h5')}.json" not in names


def _token(name: str) -> str | None:
    """The writer's token in `<fingerprint>/<token>-<number>.…` or `writers/<token>.part`; None elsewhere."""
    match = _OWNED.match(name) or _MARKER_PART.match(name)
    return match["token"] if match else None
