"""Which shards a depot has and where its rows lie, as this process knows it.

At first what the cache on this machine has kept (for depots of many shards), then what a listing of the depot shows
beside it: only sidecars that nobody here has read before are read. Where the stamps of the depot's folders say that
nothing has come or gone since the last listing, opening makes none; `refresh` always does.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from threading import RLock
from typing import TypeVar

import numpy as np

from deponij.store.errors import StoreError
from deponij.store.file_names import DAMAGED, FORMAT_FILE, is_sidecar
from deponij.store.folders import Folder, LocalFolder, Stamps
from deponij.store.identity import Identity
from deponij.store.places.cache import Cache, Known
from deponij.store.places.finding import Found, Places, distinct_keys, find, placed
from deponij.store.places.pages import CacheDamaged
from deponij.store.places.records import asked, texts_of
from deponij.store.places.runs import Level, MemoryRun, in_memory
from deponij.store.presence import LOCKS
from deponij.store.shard import Shard, Sidecar, shard_and_keys

T = TypeVar("T")
# Sidecars of fewer shards are read in less time than it would be worth to keep anything of them.
CACHED_FROM = 64
# New rows in memory (28 bytes each) before they go into the cache.
KEPT_ROWS = 1 << 20
# A folder's stamp says that nothing has changed since a listing if it was this much older than the listing: clocks of
# file systems tick in up to two seconds, and those of servers are not quite ours.
TRUSTED_AGE_S = 10.0
_LISTINGS = 5
_READ_AT_ONCE = 256


class Catalog:
    """The shards of one depot.

    Attributes:
        damaged: shard name -> what is wrong with its sidecar, as of the last `refresh`.
        is_certain: whether all that is known was read from the sidecars by this process.
        uncleared: the folder of the cache, where what was distrusted could not be deleted.
    """

    def __init__(self, folder: Folder) -> None:
        self.damaged: dict[str, str] = {}
        self.is_certain = True
        self.uncleared: Path | None = None
        self._folder = folder
        self._cache = Cache(place_of(folder), marker_of(folder))
        self._identities: dict[str, Identity] = {}
        self._levels: dict[str, list[Level]] = {}
        # Of the last listing, where they can be relied on.
        self._stamps: Stamps | None = None
        self._kept_stamps: Stamps | None = None
        self._keep_at = KEPT_ROWS
        self._lock = RLock()
        self._begin()

    def refresh(self) -> None:
        """See what has been committed or taken away since.

        Raises:
            StoreError: the depot cannot be read.
        """
        self._mended(self._refresh)

    def add(self, sidecar: Sidecar) -> None:
        """Take a shard that this process has just committed."""
        self._mended(lambda: self._add([(sidecar.shard, sidecar.key_bytes)]))

    def discard(self, name: str) -> None:
        """Forget a shard that is about to be taken away."""
        self._mended(lambda: self._discard([name]))

    def set_aside(self, name: str, fault: str) -> None:
        """Take a shard whose sidecar has proved damaged for unknown."""
        with self._lock:
            self.damaged[name] = fault
            self.discard(name)

    def distrust(self) -> None:
        """Believe nothing that was kept, and read all sidecars."""
        self._mended(self._distrust)

    def names(self) -> list[str]:
        """Of all shards, sorted."""
        return self._mended(lambda: sorted(self._names()))

    def first_shard(self, fingerprint: str) -> Shard | None:
        """The first shard of an identity by name; None where there is none."""
        return self._mended(lambda: self._first_shard(fingerprint))

    def identities(self) -> dict[str, Identity]:
        """Fingerprint -> identity, of everything that has a shard."""
        with self._lock:
            return {name: self._identities[name] for name in sorted(self._levels)}

    def n_shards(self) -> int:
        """How many there are."""
        with self._lock:
            return sum(level.n_shards for levels in self._levels.values() for level in levels)

    def missing(self, fingerprint: str, keys: Sequence[str]) -> list[int]:
        """Positions of those keys that have no row, ascending.

        Raises:
            StoreError: something is no key at all.
        """
        found = self._mended(lambda: self._find(fingerprint, keys)[1])
        return np.flatnonzero(found.levels < 0).tolist()

    def places(self, fingerprint: str, keys: Sequence[str]) -> Places:
        """Where the rows of keys lie.

        Raises:
            StoreError: something is no key at all.
        """
        return self._mended(
            lambda: replace(placed(*self._find(fingerprint, keys)), are_certain=self.is_certain)
        )

    def keys(self, fingerprint: str) -> list[str]:
        """All keys that have a row, sorted, each once."""
        return self._mended(
            lambda: [
                text for piece in distinct_keys(self._levels.get(fingerprint, ())) for text in texts_of(piece)
            ]
        )

    def n_keys(self, fingerprint: str) -> int:
        """How many keys have a row."""
        return self._mended(lambda: sum(map(len, distinct_keys(self._levels.get(fingerprint, ())))))

    def _begin(self) -> None:
        if (known := self._cache.load()) is not None:
            self.is_certain = False
            self._take(known)
            self.damaged = dict.fromkeys(known.damaged, "")
        self._mended(self._catch_up)

    def _catch_up(self) -> None:
        if self._stamps is None or self._stamps != self._folder.stamps((LOCKS, DAMAGED)):
            self._refresh()
        else:
            # A sidecar that was damaged may have been mended where it lies, which no stamp tells.
            self._read(list(self.damaged))

    def _take(self, known: Known) -> None:
        self._identities = dict(known.identities)
        self._levels = {name: list(levels) for name, levels in known.levels.items()}
        self._stamps = self._kept_stamps = known.stamps

    def _mended(self, act: Callable[[], T]) -> T:
        """What `act` returns; where the cache proves damaged, after everything was read from the sidecars."""
        with self._lock:
            with suppress(CacheDamaged):
                return act()
            with suppress(CacheDamaged):
                self._distrust()
                return act()
            # A second time it is no accident: this process goes on without.
            self._cache.is_on = False
            self._distrust()
            return act()

    def _distrust(self) -> None:
        # First, so that no file that is deleted is open here.
        self._drop()
        self.uncleared = None if self._cache.forget() else self._cache.path
        # What another process keeps meanwhile may be as wrong.
        self._list_anew()

    def _refresh(self) -> None:
        if not self._cache.is_as_seen():
            if (known := self._cache.load()) is not None:
                self.is_certain = False
                self._take(known)
            elif not (self.is_certain or self._cache.has_seen_any):
                # Somebody has thrown it away, and may have found it wrong.
                self._drop()
        self._list_anew()

    def _drop(self) -> None:
        self._identities, self._levels, self._stamps = {}, {}, None
        self.is_certain = True

    def _list_anew(self) -> None:
        before, begun_ns = self._folder.stamps((LOCKS, DAMAGED)), time.time_ns()
        names, is_settled = self._listed(before, begun_ns)
        known_names = self._names()
        gone, fresh = known_names - names, sorted(names - known_names)
        self._discard(gone)
        self._read(fresh)
        self._stamps = before if is_settled else None
        if fresh or gone or self._stamps != self._kept_stamps:
            self._keep()

    def _listed(self, before: Stamps | None, begun_ns: int) -> tuple[set[str], bool]:
        """Names of all shards, and whether the stamps from before stand for them."""
        names = self._committed()
        if not self._folder.is_local:
            return names, False
        if before is not None and before == self._folder.stamps((LOCKS, DAMAGED)):
            newest_ns = max(max(stamp[1:]) for stamp in before.values())
            if newest_ns < begun_ns - TRUSTED_AGE_S * 1e9:
                return names, True
        # A listing is no snapshot: while shards are compacted it may miss both the old and the new
        # one. Two equal listings miss nothing.
        for _ in range(_LISTINGS):
            earlier, names = names, self._committed()
            if earlier == names:
                break
        return names, False

    def _committed(self) -> set[str]:
        return {name.removesuffix(".json") for name in self._folder.names() if is_sidecar(name)}

    def _names(self) -> set[str]:
        return {name for levels in self._levels.values() for level in levels for name in level.names.tolist()}

    def _first_shard(self, fingerprint: str) -> Shard | None:
        first = [
            (name, level, number)
            for level in self._levels.get(fingerprint, ())
            for name, number in [min(zip(level.names.tolist(), level.numbers.tolist(), strict=True))]
        ]
        if not first:
            return None
        _, level, number = min(first, key=lambda one: one[0])
        return level.run.shards([number])[0]

    def _find(self, fingerprint: str, keys: Sequence[str]) -> tuple[Sequence[Level], Found]:
        levels = self._levels.get(fingerprint, ())
        return levels, find(levels, asked(keys))

    def _read(self, names: Sequence[str]) -> None:
        """Take the shards of these sidecars; `damaged` are those that cannot be read."""
        self.damaged = {}
        for start in range(0, len(names), _READ_AT_ONCE):
            some = names[start : start + _READ_AT_ONCE]
            read = []
            for file_name, data in self._folder.read_many(f"{name}.json" for name in some).items():
                name = file_name.removesuffix(".json")
                try:
                    read.append(shard_and_keys(name, data))
                except StoreError as error:
                    self.damaged[name] = str(error)
            self._add(read)

    def _add(self, shards: Iterable[tuple[Shard, bytes]]) -> None:
        by_fingerprint: dict[str, list[tuple[Shard, bytes]]] = {}
        for shard, keys in shards:
            by_fingerprint.setdefault(shard.fingerprint, []).append((shard, keys))
        for fingerprint, every in by_fingerprint.items():
            levels = self._levels.get(fingerprint, [])
            in_files = [level for level in levels if not isinstance(level.run, MemoryRun)]
            new = [level for level in levels if isinstance(level.run, MemoryRun)]
            new.append(Level(MemoryRun.of(*zip(*every, strict=True))))
            self._identities[fingerprint] = every[0][0].identity
            self._levels[fingerprint] = [*in_files, *in_memory(new)]
            self._stamps = None
        if by_fingerprint and self._n_in_memory() >= self._keep_at:
            self._keep()
            # Where nothing can be kept, not every shard has to find that out.
            self._keep_at = max(KEPT_ROWS, 2 * self._n_in_memory())

    def _n_in_memory(self) -> int:
        return sum(
            level.n_rows
            for levels in self._levels.values()
            for level in levels
            if isinstance(level.run, MemoryRun)
        )

    def _discard(self, names: Iterable[str]) -> None:
        gone = np.array(sorted(names), np.str_)
        if not len(gone):
            return
        self._stamps = None
        levels = {
            fingerprint: [left for level in every if (left := level.without(gone)).n_shards]
            for fingerprint, every in self._levels.items()
        }
        self._levels = {fingerprint: every for fingerprint, every in levels.items() if every}

    def _keep(self) -> None:
        """Into the cache with it, if there is much of it and the cache can be written."""
        if self.n_shards() < CACHED_FROM:
            if self._cache.has_seen_any:
                # Of the time when there was more.
                self._cache.forget()
            return
        known = Known(self._identities, self._levels, tuple(self.damaged), self._stamps)
        if (kept := self._cache.publish(known)) is not None:
            self._take(kept)


def place_of(folder: Folder) -> str:
    """A depot's location, the same for all ways that lead to it."""
    return str(folder.path.resolve()) if isinstance(folder, LocalFolder) else folder.location


def marker_of(folder: Folder) -> str:
    """What stands for a depot's making (see `Cache`)."""
    try:
        return folder.made(FORMAT_FILE)
    except FileNotFoundError:
        return ""
