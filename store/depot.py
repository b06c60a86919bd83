"""The depot: an append-only cache of feature rows under identities, shared by everything.

`FeatureStore` finds, reads and adds rows. Checking, moving and tidying live in `store.upkeep`.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

from store import shard
from store.errors import StoreError
from store.folders import Folder, LocalFolder, open_folder
from store.hdf5 import Array
from store.identity import Identity
from store.keys import KEY_CHARS
from store.shard import Provenance, Sidecar
from store.writers import LOCKS, ORPHAN_AGE_S, WriterLock, dead_tokens, forget, living_tokens

FORMAT_FILE = "format.json"
SHARD_BYTES = 64 << 20
SHARD_ROWS = 1024
_KEY_DTYPE = f"S{KEY_CHARS}"


class FeatureStore:
    """Feature rows by key and identity.

    Args:
        location: a folder, or any fsspec URL.
        create: make the depot where there is none.

    Raises:
        StoreError: there is no depot, the folder holds something else, or its format is newer.
    """

    def __init__(self, location: str | Path, *, create: bool = False) -> None:
        self.folder: Folder = open_folder(location)
        self.location = self.folder.location
        check_format(self.folder, create=create)
        self._sidecars: dict[str, Sidecar] = {}
        self._indexes: dict[str, _Index] = {}
        self.damaged: dict[str, str] = {}
        self.refresh()

    @property
    def local_path(self) -> Path | None:
        """The folder on this machine; None for an object store."""
        return self.folder.path if isinstance(self.folder, LocalFolder) else None

    def refresh(self) -> None:
        """See what other writers have committed or tidied away since. Reads new sidecars only."""
        names = {n[: -len(".json")] for n in self.folder.names() if _is_sidecar(n)}
        fresh = [name for name in sorted(names) if name not in self._sidecars and name not in self.damaged]
        for file_name, data in self.folder.read_many(f"{name}.json" for name in fresh).items():
            name = file_name[: -len(".json")]
            try:
                sidecar = Sidecar.from_bytes(name, data)
                if name.split("/")[0] != sidecar.fingerprint:
                    raise StoreError(f"sidecar {name}.json lies in the folder of another identity")
                self._sidecars[name] = sidecar
            except StoreError as error:
                self.damaged[name] = str(error)
        gone = set(self._sidecars) - names
        for name in gone:
            del self._sidecars[name]
        if fresh or gone:
            self._indexes.clear()

    @property
    def sidecars(self) -> list[Sidecar]:
        """All committed shards, by name."""
        return [self._sidecars[name] for name in sorted(self._sidecars)]

    def identities(self) -> dict[str, Identity]:
        """Fingerprint -> identity, of everything that has rows here."""
        return {sidecar.fingerprint: sidecar.identity for sidecar in self.sidecars}

    def keys(self, identity: Identity) -> list[str]:
        """The keys known under an identity, sorted, each once."""
        return [key.decode() for key in self._index(identity.fingerprint).keys]

    def missing(self, identity: Identity, keys: Iterable[str]) -> list[str]:
        """Those of `keys` that have no row, in order, each once."""
        unique = list(dict.fromkeys(keys))
        found = self._index(identity.fingerprint).find(unique)
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
        listed = "\n".join(f"  {c.fingerprint}  {c.backbone} {c.kind} {c.precision}" for c in candidates)
        raise StoreError(f"{len(candidates)} identities have these keys; say which one:\n{listed}")

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
        try:
            return self._read(list(keys), identity, names)
        except FileNotFoundError:
            # A shard was compacted away between the look-up and the reading.
            self.refresh()
            return self._read(list(keys), identity, names)

    def _read(self, keys: list[str], identity: Identity, names: Sequence[str] | None) -> dict[str, Array]:
        index = self._index(identity.fingerprint)
        places = index.find(keys)
        if (places < 0).any():
            absent = [key for key, place in zip(keys, places, strict=True) if place < 0]
            raise StoreError(
                f"{len(absent)} of {len(keys)} keys have no row under {identity.fingerprint} "
                f"({identity.backbone}, {identity.kind}) in {self.location}, the first: {absent[0]}; "
                "run `deponij extract` to compute them"
            )
        shards, rows = index.shards[places], index.rows[places]
        arrays: dict[str, Array] = {}
        for number in np.unique(shards):
            sidecar = index.sidecars[number]
            where = np.flatnonzero(shards == number)
            for name, values in shard.read(
                self.folder, sidecar, rows[where], list(names or sidecar.arrays)
            ).items():
                whole = arrays.setdefault(name, np.empty((len(keys), *values.shape[1:]), values.dtype))
                if whole.shape[1:] != values.shape[1:]:
                    raise StoreError(
                        f"rows of {name} differ in shape ({whole.shape[1:]} and {values.shape[1:]}): "
                        "read pictures of one size at a time"
                    )
                whole[where] = values
        return arrays

    def writer(
        self,
        identity: Identity,
        provenance: Provenance,
        *,
        shard_rows: int = SHARD_ROWS,
        on_event: Callable[[str], None] | None = None,
    ) -> "Writer":
        """A context in which rows are added; see `Writer`."""
        return Writer(self, identity, provenance, shard_rows, on_event)

    def sweep(self) -> list[str]:
        """Remove what dead writers left uncommitted; returns the names removed."""
        names = self.folder.names()
        orphans = [n for n in names if _uncommitted(n, set(names))]
        living = set() if self.local_path is None else living_tokens(self.local_path)
        removed = []
        for name in orphans:
            token = name.split("/")[-1].rsplit("-", 1)[0]
            has_lock = self.local_path is not None and "/" in name
            old_enough = has_lock or self.folder.age_s(name) > ORPHAN_AGE_S
            if token in living or not old_enough or self._committed_meanwhile(name):
                continue
            self.folder.delete(name)
            removed.append(name)
        if self.local_path is not None:
            for token in dead_tokens(self.local_path):
                forget(self.local_path, token)
        return removed

    def _committed_meanwhile(self, name: str) -> bool:
        stem = name.removesuffix(".part").removesuffix(".h5").removesuffix(".json")
        return not name.endswith(".part") and f"{stem}.json" in self.folder.names()

    def _index(self, fingerprint: str) -> "_Index":
        if fingerprint not in self._indexes:
            chosen = [s for s in self.sidecars if s.fingerprint == fingerprint]
            self._indexes[fingerprint] = _Index.build(chosen)
        return self._indexes[fingerprint]

    def _known_as(self) -> str:
        known = [f"{i.backbone} {i.kind} ({f})" for f, i in self.identities().items()]
        return "it knows " + ", ".join(known) if known else "it is empty"

    def add_sidecar(self, sidecar: Sidecar) -> None:
        """Take a shard that this process has just committed into the index."""
        self._sidecars[sidecar.name] = sidecar
        self._indexes.pop(sidecar.fingerprint, None)


@dataclass(frozen=True)
class _Index:
    """Where each key of one identity lies; of several copies the first shard by name counts."""

    sidecars: list[Sidecar]
    keys: npt.NDArray[np.bytes_]
    shards: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]

    @classmethod
    def build(cls, sidecars: list[Sidecar]) -> Self:
        everything = np.array([k for s in sidecars for k in s.keys], dtype=_KEY_DTYPE)
        keys, first = np.unique(everything, return_index=True)
        shards = np.repeat(np.arange(len(sidecars)), [len(s.keys) for s in sidecars])
        rows = np.concatenate([np.arange(len(s.keys)) for s in sidecars] or [np.empty(0, np.int64)])
        return cls(sidecars, keys, shards[first].astype(np.int64), rows[first].astype(np.int64))

    def find(self, keys: Sequence[str]) -> npt.NDArray[np.int64]:
        """Position of each key in this index, -1 where it is unknown, int64 [m]."""
        wanted = np.array(list(keys), dtype=_KEY_DTYPE)
        if len(self.keys) == 0 or len(wanted) == 0:
            return np.full(len(wanted), -1, np.int64)
        places = np.searchsorted(self.keys, wanted).clip(max=len(self.keys) - 1)
        return np.where(self.keys[places] == wanted, places, -1).astype(np.int64)


@dataclass
class Writer:
    """Adds rows; each full shard is committed at once, the rest on a clean exit.

    Rows of one `add` never part: a shard ends between two batches, so that a run that goes on after
    a kill meets the same batches.
    """

    store: FeatureStore
    identity: Identity
    provenance: Provenance
    shard_rows: int
    on_event: Callable[[str], None] | None
    n_rows: int = 0
    _lock: WriterLock | None = None
    _number: int = 0
    _keys: list[str] = field(default_factory=list)
    _batches: list[dict[str, Array]] = field(default_factory=list)

    def __enter__(self) -> Self:
        self.store.sweep()
        self._lock = WriterLock(self.store.local_path).__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            # What was computed before an error is good: keep it.
            self.flush()
        finally:
            if self._lock is not None:
                self._lock.__exit__(kind, error, trace)

    def add(self, keys: Sequence[str], arrays: Mapping[str, Array]) -> None:
        """Add one batch.

        Args:
            keys: n distinct keys, not yet added by this writer.
            arrays: name -> [n, …] of the identity's stored dtype.

        Raises:
            StoreError: lengths or dtypes do not fit, or a value is not finite.
        """
        for name, values in arrays.items():
            if len(values) != len(keys):
                raise StoreError(f"{len(keys)} keys, but {len(values)} rows of {name}")
            if values.dtype != np.dtype(self.identity.stored):
                raise StoreError(f"{name} is {values.dtype}; the identity stores {self.identity.stored}")
            if not np.isfinite(values).all():
                bad = [k for k, row in zip(keys, values, strict=True) if not np.isfinite(row).all()]
                raise StoreError(
                    f"{len(bad)} rows of {name} are not finite in {self.identity.stored} (the first key: "
                    f"{bad[0]}); store float32 or compute in fp32"
                )
        if not keys:
            return
        shapes = {name: values.shape[1:] for name, values in arrays.items()}
        if self._batches and shapes != {n: v.shape[1:] for n, v in self._batches[0].items()}:
            self.flush()
        self._keys += keys
        self._batches.append(dict(arrays))
        pending_bytes = sum(v.nbytes for batch in self._batches for v in batch.values())
        if len(self._keys) >= self.shard_rows or pending_bytes >= SHARD_BYTES:
            self.flush()

    def flush(self) -> None:
        """Commit what is pending as one shard."""
        if not self._keys or self._lock is None:
            return
        arrays = {name: np.concatenate([b[name] for b in self._batches]) for name in self._batches[0]}
        name = f"{self.identity.fingerprint}/{self._lock.token}-{self._number:06d}"
        sidecar = shard.commit(self.store.folder, name, self.identity, self._keys, arrays, self.provenance)
        self.store.add_sidecar(sidecar)
        self.n_rows += len(self._keys)
        self._number += 1
        self._keys, self._batches = [], []
        if self.on_event is not None:
            self.on_event(name)


def check_format(folder: Folder, *, create: bool) -> None:
    """See that a folder is a depot of a format that this code reads; make it one if asked to.

    Raises:
        StoreError: no depot, something else, damaged, or another format.
    """
    try:
        marker = json.loads(folder.read(FORMAT_FILE))
        version = marker["version"] if marker["format"] == "deponij-depot" else None
    except FileNotFoundError:
        _begin(folder, create=create)
        return
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{folder.location}/{FORMAT_FILE} is damaged: {error!r}") from error
    if version != shard.FORMAT:
        raise StoreError(
            f"the depot {folder.location} has format {version}, this Deponij reads {shard.FORMAT}; "
            "an older one is brought up by `deponij depot migrate`, a newer one needs a newer Deponij"
        )


def _begin(folder: Folder, *, create: bool) -> None:
    if not create:
        raise StoreError(f"there is no depot at {folder.location}; `deponij extract` makes one")
    others = [n for n in folder.names() if not n.startswith((LOCKS + "/", FORMAT_FILE))]
    if others:
        raise StoreError(f"{folder.location} is not empty and no depot (it holds {others[0]}); name another folder")
    marker = {"format": "deponij-depot", "version": shard.FORMAT}
    folder.write(FORMAT_FILE, json.dumps(marker).encode())


def _is_sidecar(name: str) -> bool:
    return name.endswith(".json") and "/" in name and not name.startswith(LOCKS + "/")


def _uncommitted(name: str, names: set[str]) -> bool:
    if "/" not in name or name.startswith(LOCKS + "/"):
        return name.endswith(".part")
    return name.endswith(".part") or (name.endswith(".h5") and f"{name[:-3]}.json" not in names)
