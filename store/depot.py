"""The depot: an append-only cache of feature rows under identities, shared by everything.

    format.json                     what this folder is, and its format's version
    <fingerprint>/<shard>.h5|json   rows and their commit (`deponij.store.shard`); <shard>-<k> stand in for it
    writers/<token>.lock            held by each living writer; empty (or .lease: `deponij.store.presence`)
    damaged/…                       what `verify` set aside

`FeatureStore` finds, reads and adds rows. Checking, moving and tidying live in `deponij.store.upkeep.inspection`.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from deponij.store import shard
from deponij.store.atomic import PART
from deponij.store.errors import StoreError, explained
from deponij.store.file_names import FORMAT_FILE, is_uncommitted, stands_in_for, writer_of
from deponij.store.folders import Folder, LocalFolder, open_folder
from deponij.store.hdf5 import Array
from deponij.store.identity import Identity
from deponij.store.places.catalog import Catalog
from deponij.store.places.finding import Places
from deponij.store.presence import LOCKS, WriterLock, burying
from deponij.store.shard import KEY_DTYPE, Misplaced, Provenance, Rows, Shard, Sidecar
from deponij.store.writer import SHARD_ROWS, UNSAVED_S, Writer

FORMAT_NAME = "deponij-depot"
# Of a row, where shards are tidied away between look-up and reading; and so often that none was, but a file is not there.
_LOOK_UPS = 100
_READ_ATTEMPTS = 5
T = TypeVar("T")
_SIDECARS_AT_ONCE = 256


class FeatureStore:
    """Feature rows by key and identity.

    Args:
        location: a folder, or any fsspec URL.
        create: make the depot where there is none.

    Raises:
        StoreError: there is no depot, the folder holds something else, or its format is another one.
    """

    def __init__(self, location: str | Path, *, create: bool = False) -> None:
        self.folder: Folder = open_folder(location)
        self.location = self.folder.location
        check_format(self.folder, create=create)
        self._catalog = Catalog(self.folder)

    def __reduce__(self) -> tuple[object, ...]:
        return FeatureStore, (self.location,)

    @property
    def local_path(self) -> Path | None:
        """The folder on this machine; None for an object store."""
        return self.folder.path if isinstance(self.folder, LocalFolder) else None

    @property
    def damaged(self) -> dict[str, str]:
        """Shard name -> what is wrong with its sidecar; such rows count as unknown."""
        return self._catalog.damaged

    def refresh(self) -> None:
        """See what other writers have committed or tidied away since: lists the depot, reads new sidecars only."""
        self._catalog.refresh()

    @property
    def n_shards(self) -> int:
        """How many shards are committed."""
        return self._catalog.n_shards()

    def shard_names(self, identity: Identity | None = None) -> list[str]:
        """Names of all committed shards, or of those of one identity, sorted."""
        within = "" if identity is None else f"{identity.fingerprint}/"
        return [name for name in self._catalog.names() if name.startswith(within)]

    def first_shard(self, identity: Identity) -> Shard | None:
        """The first shard of an identity by name; None where there is none."""
        return self._catalog.first_shard(identity.fingerprint)

    @property
    def sidecars(self) -> list[Sidecar]:
        """All committed shards, by name, with all that their sidecars say; they are read for it.

        Those that have been tidied away since the last `refresh` are left out, and so are damaged ones.
        """
        return list(self.read_sidecars(self.shard_names()))

    def read_sidecars(self, names: Sequence[str]) -> Iterator[Sidecar]:
        """The sidecars of some shards, in this order, without those that are gone or damaged (`damaged` has them then)."""
        for start in range(0, len(names), _SIDECARS_AT_ONCE):
            some = names[start : start + _SIDECARS_AT_ONCE]
            found = self.folder.read_many(f"{name}.json" for name in some)
            for name in some:
                data = found.pop(f"{name}.json", None)
                if data is None:
                    continue
                try:
                    sidecar = Sidecar.from_bytes(name, data)
                except StoreError as error:
                    self._catalog.set_aside(name, str(error))
                    continue
                yield sidecar

    def identities(self) -> dict[str, Identity]:
        """Fingerprint -> identity, of everything that has rows here."""
        return self._catalog.identities()

    def keys(self, identity: Identity) -> list[str]:
        """The keys known under an identity, sorted, each once."""
        return self._catalog.keys(identity.fingerprint)

    def n_keys(self, identity: Identity) -> int:
        """How many keys are known under an identity."""
        return self._catalog.n_keys(identity.fingerprint)

    def missing(self, identity: Identity, keys: Iterable[str]) -> list[str]:
        """Those of `keys` that have no row, in order, each once."""
        unique = list(dict.fromkeys(keys))
        return [unique[position] for position in self._catalog.missing(identity.fingerprint, unique)]

    def places(self, identity: Identity, keys: Sequence[str]) -> Places:
        """Where the rows of keys lie; of several copies the one in the first shard by name.

        Raises:
            StoreError: something is no key at all.
        """
        return self._catalog.places(identity.fingerprint, keys)

    def distrust(self) -> None:
        """Believe nothing that this machine has kept about the depot: read all sidecars anew."""
        self._catalog.distrust()

    @property
    def uncleared(self) -> Path | None:
        """Where this machine still keeps keys of the depot that `distrust` could not delete; None where it could."""
        return self._catalog.uncleared

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
        return self.with_places(
            identity,
            keys,
            lambda places: self._read(list(keys), places, identity, names),
            lambda absent: self._explain_absence(absent, len(keys), identity),
        )

    def with_places(
        self,
        identity: Identity,
        keys: Sequence[str],
        read: Callable[[Places], T],
        why_absent: Callable[[list[str]], str],
    ) -> T:
        """What `read` makes of the places of rows; they are looked up anew where shards are tidied away meanwhile.

        Args:
            read: raises FileNotFoundError where a shard's file is gone, `Misplaced` where a row is another key's.
            why_absent: what is told of keys that have no row.

        Raises:
            StoreError: a key is unknown, or a file is lost or damaged.
        """
        failure, n_lost = "", 0
        for _ in range(_LOOK_UPS):
            places = self.places(identity, keys)
            if (places.numbers < 0).any():
                # Others may have committed them since, or tidied at the moment of the look-up.
                self.refresh()
                places = self.places(identity, keys)
                if absent := [keys[position] for position in np.flatnonzero(places.numbers < 0).tolist()]:
                    raise StoreError(why_absent(list(dict.fromkeys(absent))))
            try:
                return read(places)
            except FileNotFoundError as error:
                # A shard was compacted away between the look-up and the reading; if none was, a file is really gone.
                failure = str(error)
                self.refresh()
                n_lost += {one.name for one in places.shards} <= set(self._catalog.names())
                if n_lost == _READ_ATTEMPTS:
                    break
            except Misplaced as error:
                if places.are_certain:
                    # The sidecar itself says so: the shard is damaged.
                    raise
                failure = str(error)
                # Another thread may have done so since the look-up.
                if not self._catalog.is_certain:
                    self.distrust()
        raise StoreError(
            f"a shard of {self.location} has lost its file ({failure}); run `deponij depot verify --repair`, "
            "then `deponij extract` to compute its rows again"
        )

    def _read(
        self, keys: list[str], places: Places, identity: Identity, names: Sequence[str] | None
    ) -> dict[str, Array]:
        wanted = np.array(keys, KEY_DTYPE)
        order = np.argsort(places.numbers, kind="stable")
        numbers, begins = np.unique(places.numbers[order], return_index=True)
        if not len(numbers):
            # Without keys the first shard still tells the arrays' names and shapes.
            first = self.first_shard(identity)
            return {} if first is None else self._read_shard(first, places.rows, names, wanted)
        arrays: dict[str, Array] = {}
        for number, where in zip(numbers.tolist(), np.split(order, begins[1:]), strict=True):
            found = self._read_shard(places.shards[number], places.rows[where], names, wanted[where])
            if len(numbers) == 1:
                return found
            is_run = where[-1] - where[0] == len(where) - 1
            for name, values in found.items():
                whole = arrays.setdefault(name, np.empty((len(keys), *values.shape[1:]), values.dtype))
                if whole.shape[1:] != values.shape[1:]:
                    raise StoreError(
                        f"rows of {name} differ in shape ({whole.shape[1:]} and {values.shape[1:]}): "
                        "read pictures of one size at a time"
                    )
                whole[slice(where[0], where[-1] + 1) if is_run else where] = values
        return arrays

    def _read_shard(
        self, one: Shard, rows: Rows, names: Sequence[str] | None, keys: npt.NDArray[np.bytes_]
    ) -> dict[str, Array]:
        chosen = list(one.arrays if names is None else names)
        unknown = sorted(set(chosen) - set(one.arrays) - {"checksums"})
        if unknown:
            raise StoreError(
                f"rows of {one.identity.kind} in {self.location} have no array {unknown}; "
                f"they have {[*one.arrays, 'checksums']}"
            )
        return shard.read(self.folder, one, rows, chosen, keys=keys)

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
        names = self.folder.names() if names is None else names
        present = set(names)
        return [name for name in names if is_uncommitted(name, present)]

    def sweep(self) -> list[str]:
        """Remove what dead writers left uncommitted; returns the names removed.

        What cannot be removed (a depot that is read-only here) stays for somebody else's sweep.
        """
        self._settle()
        # The order matters: a writer that begins after the listing has nothing in it.
        names = self.folder.names()
        orphans = self.orphans(names)
        if not orphans and not self.folder.is_local and not any(n.startswith(f"{LOCKS}/") for n in names):
            return []
        with burying(self.folder, names) as presence:
            return [
                name
                for name in orphans
                if presence.is_dead(writer_of(name), self.folder.age_s(name)) and self._remove_orphan(name)
            ]

    def _settle(self) -> None:
        """Take away stand-ins that a kill has left beside the shard that holds their rows too."""
        names = self._catalog.names()
        present = set(names)
        for name in names:
            full = stands_in_for(name)
            if full is None or full not in present:
                continue
            for sidecar in self.read_sidecars([full]):
                if shard.verify(self.folder, sidecar) is None:
                    self.retire(name)

    def retire(self, name: str) -> None:
        """Take away a shard whose rows another one holds; where that cannot be done, a later sweep does it."""
        self._catalog.discard(name)
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

    def _known_as(self) -> str:
        known = [f"{i.backbone} {i.kind} ({f})" for f, i in self.identities().items()]
        return "it knows " + ", ".join(known) if known else "it is empty"

    def add_sidecar(self, sidecar: Sidecar) -> None:
        """Take a shard that this process has just committed into the index."""
        self._catalog.add(sidecar)


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
