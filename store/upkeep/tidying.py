"""Tidying a depot: many small shards into few, another depot's rows into this one, rows nobody needs out.

One rule keeps all of it safe at every step: what replaces a shard is committed before the shard is
taken away, and one process at a time takes shards away. Readers that held the old shard look it up
anew; a kill in between leaves rows that are there twice, which the next `compact` settles.
How that is seen to, also in an object store, is told in `deponij.store.presence`.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

import numpy as np

from deponij.store import shard
from deponij.store.depot import FeatureStore
from deponij.store.errors import StoreError
from deponij.store.file_names import stands_in_for
from deponij.store.hdf5 import Array
from deponij.store.identity import Identity
from deponij.store.presence import WriterLock, burying, tidiers_taken_over, tidying
from deponij.store.shard import Sidecar
from deponij.store.upkeep.progress import Progress, told
from deponij.store.upkeep.rewriting import Commits, Part, read_part
from deponij.store.upkeep.whole_index import Index
from deponij.store.writer import SHARD_BYTES


@dataclass
class TidyReport:
    """What `compact` did.

    Attributes:
        n_shards_before, n_shards_after: in the whole depot.
        n_double: double rows dropped.
        damaged: shards that were left as they are, because they cannot be read.
    """

    n_shards_before: int = 0
    n_shards_after: int = 0
    n_double: int = 0
    damaged: dict[str, str] = field(default_factory=dict)


@dataclass
class MergeReport:
    """What `merge` did.

    Attributes:
        n_rows: rows taken over, by fingerprint.
        damaged: shards of the other depot that cannot be read; their rows were not taken over.
    """

    n_rows: dict[str, int] = field(default_factory=dict)
    damaged: dict[str, str] = field(default_factory=dict)


@dataclass
class GcLine:
    """What goes and what stays under one identity; bytes in proportion to rows."""

    identity: Identity
    n_rows_kept: int
    n_rows_gone: int
    n_bytes_kept: int
    n_bytes_gone: int


@dataclass
class GcReport:
    """What `gc` did, or would do.

    Attributes:
        lines: by fingerprint.
        in_use: shards of living writers; they were left alone.
        damaged: shards that should have been rewritten and cannot be read; they were left alone.
    """

    dry_run: bool
    lines: dict[str, GcLine] = field(default_factory=dict)
    in_use: list[str] = field(default_factory=list)
    damaged: dict[str, str] = field(default_factory=dict)


def compact(
    store: FeatureStore, *, target_bytes: int = SHARD_BYTES, progress: Progress | None = None
) -> TidyReport:
    """Make few shards of about `target_bytes` of many small ones, and drop rows that are there twice.

    Args:
        progress: called with (shards replaced, shards to replace).

    Raises:
        StoreError: another process is tidying the depot, or it cannot be written.
    """
    with WriterLock(store.folder) as lock, tidying(store.folder, lock.token):
        store.sweep()
        store.refresh()
        report = TidyReport(n_shards_before=store.n_shards)
        commits = Commits(store, lock)
        others = _of_others(store)
        groups = [
            group
            for identity in store.identities().values()
            for group in _groups(store, identity, target_bytes, others, report)
        ]
        for group in told(groups, progress, len):
            _replace(commits, group, report)
        store.refresh()
        report.n_shards_after = store.n_shards
    return report


def _of_others(store: FeatureStore) -> set[str]:
    """Shards that are left alone, as if they were not there.

    Stand-ins of living writers, which are about to put a full shard in their place; and what a tidier that was taken
    over has put in the place of others, which it may still be about to take away.
    """
    living, taken_over = _living(store), tidiers_taken_over(store.folder)
    return {
        name
        for name in store.shard_names()
        if _is_of(name, taken_over) or (stands_in_for(name) is not None and _is_of(name, living))
    }


def _groups(
    store: FeatureStore, identity: Identity, target_bytes: int, others: Collection[str], report: TidyReport
) -> list[list[Part]]:
    """Groups of shards of which each becomes one shard (or none, where all its rows are doubles)."""
    index = _sound_index(store, identity, others, report)
    by_layout: dict[object, list[Part]] = {}
    doubles: list[Part] = []
    for number, sidecar in enumerate(index.sidecars):
        part = Part(sidecar, index.owned(number))
        report.n_double += len(sidecar.keys) - len(part.rows)
        if len(part.rows) == 0:
            doubles.append(part)
        elif not part.is_whole or part.n_bytes < target_bytes:
            by_layout.setdefault(sidecar.layout, []).append(part)
    groups = [group for parts in by_layout.values() for group in _packed(parts, target_bytes)]
    return [group for group in groups if len(group) > 1 or not group[0].is_whole] + [[one] for one in doubles]


def _packed(parts: list[Part], target_bytes: int) -> list[list[Part]]:
    groups: list[list[Part]] = [[]]
    n_bytes = 0
    for part in parts:
        if groups[-1] and n_bytes + part.n_bytes > target_bytes * 3 // 2:
            groups.append([])
            n_bytes = 0
        groups[-1].append(part)
        n_bytes += part.n_bytes
        if n_bytes >= target_bytes:
            groups.append([])
            n_bytes = 0
    return [group for group in groups if group]


def _sound_index(
    store: FeatureStore, identity: Identity, others: Collection[str], report: TidyReport
) -> Index:
    """An index without damaged shards, so that no double is dropped in favour of one that cannot be read.

    Nor with those of `others`.
    """
    names = [name for name in store.shard_names(identity) if name not in others]
    sidecars = list(store.read_sidecars(names))
    while True:
        chosen = [s for s in sidecars if s.name not in report.damaged]
        index = Index.build(chosen)
        relied_on: set[int] = set()
        for number, sidecar in enumerate(index.sidecars):
            doubles = np.setdiff1d(np.arange(len(sidecar.keys)), index.owned(number))
            if len(doubles):
                places = index.find([sidecar.keys[row] for row in doubles])
                relied_on |= set(index.shards[places].tolist())
        faults = {index.sidecars[n].name: shard.verify(store.folder, index.sidecars[n]) for n in relied_on}
        damaged = {name: fault for name, fault in faults.items() if fault is not None}
        if not damaged:
            return index
        report.damaged |= damaged


def _replace(commits: "Commits", group: list[Part], report: TidyReport) -> None:
    readable: list[tuple[Part, dict[str, Array]]] = []
    for part in group:
        try:
            readable.append((part, read_part(commits.store, part)))
        except StoreError as error:
            report.damaged[part.sidecar.name] = str(error)
    if len(readable) == 1 and readable[0][0].is_whole:
        return
    commits.add(readable)
    for part, _ in readable:
        commits.retire(part.sidecar.name)


def merge(store: FeatureStore, other: FeatureStore, *, progress: Progress | None = None) -> MergeReport:
    """Take over the other depot's rows that are not known here, with their provenance.

    Each shard is committed by itself: after a kill the next run goes on, and a run with nothing new
    writes nothing.

    Args:
        progress: called with (shards looked at, shards of the other depot).

    Raises:
        StoreError: this depot cannot be written.
    """
    store.refresh()
    report = MergeReport()
    store.sweep()
    known = {fingerprint: set(store.keys(i)) for fingerprint, i in store.identities().items()}
    with WriterLock(store.folder) as lock:
        commits = Commits(store, lock)
        has_changed = True
        while has_changed:
            other.refresh()
            has_changed = _take_over(commits, other, known, report, progress)
    return report


def _take_over(
    commits: Commits,
    other: FeatureStore,
    known: dict[str, set[str]],
    report: MergeReport,
    progress: Progress | None,
) -> bool:
    """Commit what the other depot's shards have beyond `known`; whether one was tidied away meanwhile."""
    names = other.shard_names()
    sidecars = list(other.read_sidecars(names))
    read = {sidecar.name for sidecar in sidecars}
    has_changed = not all(other.is_committed(name) for name in names if name not in read)
    for sidecar in told(sidecars, progress):
        mine = known.setdefault(sidecar.fingerprint, set())
        part = Part.of(sidecar, mine, known=False)
        if len(part.rows) == 0 or sidecar.name in report.damaged:
            continue
        try:
            arrays = read_part(other, part)
        except StoreError as error:
            if other.is_committed(sidecar.name):
                report.damaged[sidecar.name] = str(error)
            else:  # its rows lie in another shard now
                has_changed = True
            continue
        commits.add([(part, arrays)])
        mine.update(sidecar.keys)
        report.n_rows[sidecar.fingerprint] = report.n_rows.get(sidecar.fingerprint, 0) + len(part.rows)
    return has_changed


def gc(
    store: FeatureStore,
    keep: Mapping[str, Collection[str]] | Collection[str],
    *,
    dry_run: bool = True,
    keep_identities: Collection[str] | None = None,
    progress: Progress | None = None,
) -> GcReport:
    """Take away the rows that nobody needs.

    Args:
        keep: the keys to keep, either by fingerprint (an identity that is not named goes whole) or one
            collection of keys that counts for every identity.
        dry_run: only say what would go.
        keep_identities: fingerprints; rows of other identities go whatever their keys. By default no
            identity is excluded.
        progress: called with (shards looked at, shards in all).

    Raises:
        StoreError: a fingerprint in `keep_identities` is unknown here, another process is tidying the
            depot, or it cannot be written.
    """
    named = {key: set(keys) for key, keys in keep.items()} if isinstance(keep, Mapping) else None
    everywhere = set() if isinstance(keep, Mapping) else set(keep)

    def staying(sidecar: Sidecar) -> Part:
        if keep_identities is not None and sidecar.fingerprint not in keep_identities:
            return Part.of(sidecar, ())
        return Part.of(sidecar, everywhere if named is None else named.get(sidecar.fingerprint, ()))

    return _collected(store, staying, keep_identities or (), dry_run, progress)


def drop(
    store: FeatureStore, keys: Collection[str], *, dry_run: bool = True, progress: Progress | None = None
) -> GcReport:
    """Take away the rows of these keys, under whatever identity, and no others, whoever commits some meanwhile.

    Args:
        dry_run, progress: as in `gc`.

    Raises:
        StoreError: another process is tidying the depot, or it cannot be written.
    """
    gone = set(keys)
    return _collected(store, lambda sidecar: Part.of(sidecar, gone, known=False), (), dry_run, progress)


def _collected(
    store: FeatureStore,
    staying: Callable[[Sidecar], Part],
    identities: Collection[str],
    dry_run: bool,
    progress: Progress | None,
) -> GcReport:
    """Take away all rows but those that `staying` names of each shard; `identities` must be there."""
    if dry_run:
        return _collect(store, staying, identities, None, progress)
    with WriterLock(store.folder) as lock, tidying(store.folder, lock.token):
        store.sweep()
        return _collect(store, staying, identities, Commits(store, lock), progress)


def _collect(
    store: FeatureStore,
    staying: Callable[[Sidecar], Part],
    identities: Collection[str],
    commits: Commits | None,
    progress: Progress | None,
) -> GcReport:
    store.refresh()
    unknown = sorted(set(identities) - set(store.identities()))
    if unknown:
        raise StoreError(f"the depot has no identity {unknown[0]}; it has {sorted(store.identities())}")
    living = _living(store)
    report = GcReport(dry_run=commits is None)
    sidecars = store.sidecars
    by_keys = {(sidecar.fingerprint, sidecar.keys): sidecar for sidecar in sidecars}
    for sidecar in told(sidecars, progress):
        part = staying(sidecar)
        if not part.is_whole and _is_of(sidecar.name, living):
            report.in_use.append(sidecar.name)
            part = Part(sidecar, np.arange(len(sidecar.keys)))
        if commits is not None and not part.is_whole and not _shrink(commits, part, by_keys, report):
            part = Part(sidecar, np.arange(len(sidecar.keys)))
        _count(report, part)
    if commits is not None:
        store.refresh()
    return report


def _living(store: FeatureStore) -> set[str]:
    with burying(store.folder) as presence:
        return set(presence.living)


def _is_of(name: str, tokens: Collection[str]) -> bool:
    return any(name.split("/")[1].startswith(token + "-") for token in tokens)


def _shrink(
    commits: Commits, part: Part, by_keys: dict[tuple[str, tuple[str, ...]], Sidecar], report: GcReport
) -> bool:
    """Commit the rows that stay, then take the shard away; False where it had to be left alone.

    Args:
        by_keys: all shards by fingerprint and keys. Where a run that was killed has committed just these rows as a shard
            of their own, and that is sound, they need not be committed again.
    """
    if len(part.rows):
        keys = tuple(part.sidecar.keys[row] for row in part.rows)
        alike = by_keys.get((part.sidecar.fingerprint, keys))
        is_rewritten = alike is not None and alike.layout == part.sidecar.layout
        if alike is None or not is_rewritten or shard.verify(commits.store.folder, alike) is not None:
            try:
                arrays = read_part(commits.store, part)
            except StoreError as error:
                report.damaged[part.sidecar.name] = str(error)
                return False
            commits.add([(part, arrays)])
    commits.retire(part.sidecar.name)
    return True


def _count(report: GcReport, part: Part) -> None:
    line = report.lines.setdefault(part.sidecar.fingerprint, GcLine(part.sidecar.identity, 0, 0, 0, 0))
    line.n_rows_kept += len(part.rows)
    line.n_rows_gone += len(part.sidecar.keys) - len(part.rows)
    line.n_bytes_kept += part.n_bytes
    line.n_bytes_gone += part.sidecar.size_bytes - part.n_bytes
