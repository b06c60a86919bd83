"""Looking after a depot: what is in it, whether it is whole, what is set aside.

Making few shards of many, bringing depots together and collecting lie in `deponij.store.upkeep.tidying`, bringing
an older format up in `deponij.store.upkeep.migration`; all of them can be had from here. Every function is safe
beside writers and readers, may be killed at any moment and be run again.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from deponij.store import shard
from deponij.store.depot import DAMAGED, FeatureStore, is_foreign
from deponij.store.identity import Identity
from deponij.store.presence import tidying
from deponij.store.shard import Provenance, Sidecar
from deponij.store.upkeep.migration import MIGRATIONS, migrate
from deponij.store.upkeep.progress import Progress, told
from deponij.store.upkeep.rewriting import sources
from deponij.store.upkeep.tidying import GcReport, MergeReport, TidyReport, compact, gc, merge

__all__ = [
    "MIGRATIONS",
    "DepotInfo",
    "GcReport",
    "IdentityInfo",
    "MergeReport",
    "TidyReport",
    "VerifyReport",
    "compact",
    "gc",
    "info",
    "merge",
    "migrate",
    "verify",
]


@dataclass(frozen=True)
class IdentityInfo:
    """What a depot holds under one identity.

    Attributes:
        n_rows: distinct keys.
        n_double: further rows of known keys; `compact` drops them.
        n_bytes: of the shards.
        arrays: array name -> row shapes that occur.
        provenance: fact -> value -> number of rows that came so.
    """

    identity: Identity
    fingerprint: str
    n_rows: int
    n_double: int
    n_shards: int
    n_bytes: int
    arrays: dict[str, list[tuple[int, ...]]]
    provenance: dict[str, dict[str, int]]


@dataclass(frozen=True)
class DepotInfo:
    """What a depot holds.

    Attributes:
        n_rows, n_bytes: over all identities.
        damaged: shard -> what is wrong with its sidecar.
        orphans: uncommitted files, of living or dead writers.
        set_aside: files in `damaged/`.
    """

    location: str
    format: int
    n_rows: int
    n_bytes: int
    identities: list[IdentityInfo]
    damaged: dict[str, str]
    orphans: list[str]
    set_aside: list[str]


@dataclass(frozen=True)
class VerifyReport:
    """What a check found.

    Attributes:
        n_shards, n_rows, n_bytes: what was checked and is whole.
        damaged: shard -> what is wrong with its file or its sidecar.
        n_rows_lost: rows of damaged shards that no whole shard holds too, as far as sidecars tell.
        orphans: uncommitted files, of living or dead writers; `repair` sweeps those of the dead.
        foreign: files that are none of the depot's.
        repaired: damaged shards that were set aside.
    """

    n_shards: int
    n_rows: int
    n_bytes: int
    damaged: dict[str, str]
    n_rows_lost: int
    orphans: list[str]
    foreign: list[str]
    repaired: list[str]

    @property
    def is_whole(self) -> bool:
        """Whether nothing damaged is left in place."""
        return set(self.damaged) <= set(self.repaired)


def info(store: FeatureStore) -> DepotInfo:
    """Rows, bytes, shards and provenance by identity, from the sidecars alone."""
    store.refresh()
    names = store.folder.names()
    found = [_describe(store, fingerprint, i) for fingerprint, i in sorted(store.identities().items())]
    return DepotInfo(
        location=store.location,
        format=shard.FORMAT,
        n_rows=sum(one.n_rows for one in found),
        n_bytes=sum(one.n_bytes for one in found),
        identities=found,
        damaged=dict(store.damaged),
        orphans=store.orphans(names),
        set_aside=[name for name in names if name.startswith(DAMAGED + "/")],
    )


def _describe(store: FeatureStore, fingerprint: str, identity: Identity) -> IdentityInfo:
    index = store.index(fingerprint)
    arrays: dict[str, set[tuple[int, ...]]] = {}
    provenance: dict[str, Counter[str]] = {}
    for sidecar in index.sidecars:
        for name, shape in sidecar.arrays.items():
            arrays.setdefault(name, set()).add(shape)
        for source in sources(sidecar):
            for fact, value in _flat(source["provenance"]).items():
                provenance.setdefault(fact, Counter())[value] += source["n_rows"]
    n_all = sum(len(sidecar.keys) for sidecar in index.sidecars)
    return IdentityInfo(
        identity=identity,
        fingerprint=fingerprint,
        n_rows=len(index.keys),
        n_double=n_all - len(index.keys),
        n_shards=len(index.sidecars),
        n_bytes=sum(sidecar.size_bytes for sidecar in index.sidecars),
        arrays={name: sorted(shapes) for name, shapes in sorted(arrays.items())},
        provenance={fact: dict(counts.most_common()) for fact, counts in sorted(provenance.items())},
    )


def _flat(provenance: Provenance, prefix: str = "") -> dict[str, str]:
    """Nested facts as `versions.torch` -> text."""
    facts: dict[str, str] = {}
    for name, value in provenance.items():
        if isinstance(value, Mapping):
            facts |= _flat(value, f"{prefix}{name}.")
        else:
            facts[prefix + name] = str(value)
    return facts


def verify(store: FeatureStore, *, repair: bool = False, progress: Progress | None = None) -> VerifyReport:
    """Read every byte: sizes, SHA-256, chunk and row checksums, sidecars, orphans.

    Args:
        repair: move damaged shards and sidecars into `damaged/`, so that their rows count as unknown
            and the next extraction computes them again. Nothing that was committed is deleted.
        progress: called with (shards done, shards in all).

    Raises:
        StoreError: another process is tidying the depot, or it cannot be written (`repair` only).
    """
    if repair:
        with tidying(store.folder):
            store.sweep()
            return _verify(store, True, progress)
    return _verify(store, False, progress)


def _verify(store: FeatureStore, repair: bool, progress: Progress | None) -> VerifyReport:
    store.refresh()
    sidecars = store.sidecars
    damaged: dict[str, str] = {}
    whole: list[Sidecar] = []
    for sidecar in told(sidecars, progress):
        fault = shard.verify(store.folder, sidecar)
        if fault is None:
            whole.append(sidecar)
        elif store.is_committed(sidecar.name):
            damaged[sidecar.name] = fault
    known = {(sidecar.fingerprint, key) for sidecar in whole for key in sidecar.keys}
    lost = {(s.fingerprint, key) for s in sidecars if s.name in damaged for key in s.keys} - known
    damaged |= store.damaged
    if repair:
        for name in damaged:
            _set_aside(store, name)
        store.refresh()
    names = store.folder.names()
    return VerifyReport(
        n_shards=len(whole),
        n_rows=len(known),
        n_bytes=sum(sidecar.size_bytes for sidecar in whole),
        damaged=damaged,
        n_rows_lost=len(lost),
        orphans=store.orphans(names),
        foreign=[name for name in names if is_foreign(name)],
        repaired=sorted(damaged) if repair else [],
    )


def _set_aside(store: FeatureStore, name: str) -> None:
    """Copies first, then the originals go, sidecar first: a kill in between loses neither."""
    for ending in (".h5", ".json"):
        try:
            store.folder.copy(name + ending, f"{DAMAGED}/{name}{ending}")
        except FileNotFoundError:
            continue
    shard.retire(store.folder, name)
