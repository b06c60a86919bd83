"""Where rows lie, through the cache and without it: always what the sidecars say, whatever happens to the cache."""

import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from depot_world import CLIP, OTHER, die_at_step, dump, fill, finish, in_child, keys_of, vectors
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from resealing import reseal

from deponij.store import shard
from deponij.store.depot import FeatureStore
from deponij.store.errors import StoreError
from deponij.store.folders import LocalFolder
from deponij.store.places import catalog, records, run_file, runs
from deponij.store.places.finding import find, placed
from deponij.store.places.pages import CacheDamaged
from deponij.store.places.run_file import FileRun, write_run
from deponij.store.places.runs import Level, MemoryRun, Run
from deponij.store.shard import Shard, Sidecar
from deponij.store.upkeep import inspection as upkeep
from deponij.store.upkeep.forgetting import drop_from_depot
from deponij.store.upkeep.whole_index import Index

LATER_NS = int(1e9 * 1000)


@pytest.fixture
def every_depot(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder of the cache, which keeps depots of any size here."""
    monkeypatch.setattr(catalog, "CACHED_FROM", 1)
    monkeypatch.setenv("DEPONIJ_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "depots"


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that is on the disk is old enough for its times to be trusted."""
    real = time.time_ns
    monkeypatch.setattr(catalog.time, "time_ns", lambda: real() + LATER_NS)


def plain(store: FeatureStore) -> dict[str, Index]:
    """The index of each identity as it follows from the sidecars in the folder, in memory and without any cache."""
    found: dict[str, list[Sidecar]] = {}
    for path in sorted(Path(store.location).glob("*/*.json")):
        name = f"{path.parent.name}/{path.stem}"
        found.setdefault(path.parent.name, []).append(Sidecar.from_bytes(name, path.read_bytes()))
    return {fingerprint: Index.build(sidecars) for fingerprint, sidecars in found.items()}


def answers(store: FeatureStore, keys: Sequence[str]) -> dict[str, list[tuple[str, int] | None]]:
    """Fingerprint -> shard and row of each key, as the store says."""
    found = {}
    for fingerprint, identity in store.identities().items():
        places = store.places(identity, keys)
        found[fingerprint] = [
            (places.shards[number].name, row) if number >= 0 else None
            for number, row in zip(places.numbers.tolist(), places.rows.tolist(), strict=True)
        ]
    return found


def expected(indexes: dict[str, Index], keys: Sequence[str]) -> dict[str, list[tuple[str, int] | None]]:
    """The same by the plain index."""
    return {
        fingerprint: [
            (index.sidecars[index.shards[place]].name, int(index.rows[place])) if place >= 0 else None
            for place in index.find(keys).tolist()
        ]
        for fingerprint, index in indexes.items()
    }


def check(store: FeatureStore, keys: Sequence[str]) -> None:
    indexes = plain(store)
    assert answers(store, keys) == expected(indexes, keys)
    for fingerprint, identity in store.identities().items():
        known = [key.decode() for key in indexes[fingerprint].keys]
        assert store.keys(identity) == known
        assert store.n_keys(identity) == len(known)
        first = store.first_shard(identity)
        assert first is not None
        assert first.name == min(sidecar.name for sidecar in indexes[fingerprint].sidecars)


# --- runs -------------------------------------------------------------------------------------


def made_shard(number: int, n_rows: int) -> Shard:
    # Names in another order than numbers.
    name = f"{CLIP.fingerprint}/host.1.0a1b2c3d-{(number * 7919) % 1000003:06d}"
    return Shard(name, CLIP, {"embedding": (6,)}, 10 * number, f"{number:064x}", n_rows)


def sidecar_of(one: Shard, keys: Sequence[str]) -> Sidecar:
    return Sidecar(**vars(one), keys=tuple(keys), provenance={})


def in_file(folder: Path, level: Level) -> FileRun:
    chosen, pieces = runs.joined([level])
    return FileRun(folder, write_run(folder, CLIP.fingerprint, chosen, level.n_rows, pieces), CLIP)


# Few heads, so that many keys share theirs and many are there several times.
KEYS = st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(0, 2)).map(
    lambda parts: f"{parts[0]:016x}{parts[1]:016x}{parts[2]:08x}"
)
SHARDS = st.lists(st.lists(KEYS, min_size=1, max_size=25, unique=True), min_size=1, max_size=12)


@settings(
    deadline=None, max_examples=60, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
@given(
    shards=SHARDS,
    cuts=st.sets(st.integers(0, 11)),
    gone=st.sets(st.integers(0, 11)),
    filed=st.sets(st.integers(0, 11)),
    wanted=st.lists(KEYS, max_size=40),
    piece_rows=st.sampled_from([1, 150, 1 << 18]),
)
def test_runs_of_any_kind_answer_as_the_plain_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shards, cuts, gone, filed, wanted, piece_rows
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(runs, "PIECE_ROWS", piece_rows)
        patch.setattr(run_file, "PIECE_ROWS", piece_rows)
        patch.setattr(run_file, "_WANTED", 7)
        patch.setattr(run_file, "_MANY", 4)
        made = [made_shard(number, len(keys)) for number, keys in enumerate(shards)]
        bounds = [0, *sorted(cut for cut in cuts if 0 < cut < len(made)), len(made)]
        levels = []
        for begin, end in pairwise(bounds):
            keys = [bytes.fromhex("".join(part)) for part in shards[begin:end]]
            run: Run = MemoryRun.of(made[begin:end], keys)
            if begin in filed:
                run = in_file(tmp_path, Level(run))
            left = Level(run).without(np.array([made[n].name for n in gone if n < len(made)] or ["none"]))
            levels.append(left)
        sidecars = [
            sidecar_of(one, keys)
            for number, (one, keys) in enumerate(zip(made, shards, strict=True))
            if number not in gone
        ]
        index = Index.build(sidecars)
        for some in (levels, [Level(in_file(tmp_path, level)) for level in levels if level.n_shards]):
            places = placed(some, find(some, records.asked(wanted)))
            told = [
                (places.shards[number], row) if number >= 0 else None
                for number, row in zip(places.numbers.tolist(), places.rows.tolist(), strict=True)
            ]
            assert told == [
                (index.sidecars[index.shards[place]].shard, int(index.rows[place])) if place >= 0 else None
                for place in index.find(wanted).tolist()
            ]


@pytest.mark.parametrize("whole_pages", [0, 1, 4096])
@pytest.mark.parametrize("kind", ["digests", "counted"])
def test_a_run_of_several_levels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, whole_pages: int
) -> None:
    """Hundred thousand keys have three levels of pages; keys that are no digests share all their heads."""
    monkeypatch.setattr(run_file, "_WHOLE_PAGES", whole_pages)
    n_shards, n_rows = 100, 1024
    rng = np.random.default_rng(5)
    raw = rng.bytes(20 * n_shards * n_rows)
    if kind == "counted":
        numbers = rng.permutation(n_shards * n_rows)
        raw = b"".join(int(number).to_bytes(20, "big") for number in numbers)
    keys = [raw[start : start + 20 * n_rows] for start in range(0, len(raw), 20 * n_rows)]
    run = MemoryRun.of([made_shard(number, n_rows) for number in range(n_shards)], keys)
    written = in_file(tmp_path, Level(run))
    assert len(written._lengths) == 3
    chosen = rng.integers(0, n_shards * n_rows, 3000)
    wanted = [raw[20 * at : 20 * at + 20].hex() for at in chosen] + keys_of(range(500))
    for some in ([Level(run)], [Level(written)]):
        found = find(some, records.asked(wanted))
        assert (found.levels[3000:] == -1).all()
        np.testing.assert_array_equal(found.shards[:3000] * n_rows + found.rows[:3000], chosen)
    assert written.shards(range(n_shards)) == run.shards(range(n_shards))


def test_runs_stay_few_and_rows_are_rewritten_few_times() -> None:
    """By hand: with a ratio of 4 each run has four times the rows of all smaller ones, 4 · 5^k for 1024 shards."""
    levels: list[Level] = []
    n_moved = 0
    for number in range(1024):
        new = Level(MemoryRun.of([made_shard(number, 1)], [number.to_bytes(20, "big")]))
        before = {id(level.run) for level in levels}
        levels = runs.in_memory([*levels, new])
        n_moved += sum(level.n_rows for level in levels if id(level.run) not in before)
        sizes = sorted(level.n_rows for level in levels)
        assert all(size >= 4 * sum(sizes[:rank]) for rank, size in enumerate(sizes) if rank)
        assert len(levels) <= 5
    assert sum(level.n_rows for level in levels) == 1024
    assert n_moved < 25 * 1024


def test_every_flipped_bit_of_a_run_is_found_or_harmless(tmp_path: Path) -> None:
    keys = keys_of(range(400))
    made = [made_shard(number, 40) for number in range(10)]
    parts = [bytes.fromhex("".join(keys[40 * n : 40 * n + 40])) for n in range(10)]
    facts = in_file(tmp_path, Level(MemoryRun.of(made, parts))).facts
    path = tmp_path / facts.file
    whole = path.read_bytes()
    n_found = 0
    for place in range(0, len(whole), 11):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :])
        levels = [Level(FileRun(tmp_path, facts, CLIP))]
        try:
            places = placed(levels, find(levels, records.asked(keys)))
        except CacheDamaged:
            n_found += 1
            continue
        names = [places.shards[number].name for number in places.numbers]
        assert [(name, row) for name, row in zip(names, places.rows.tolist(), strict=True)] == [
            (made[n // 40].name, n % 40) for n in range(400)
        ]
    assert n_found > 0.9 * len(range(0, len(whole), 11))
    path.write_bytes(whole[:-1])
    with pytest.raises(CacheDamaged, match="length"):
        FileRun(tmp_path, facts, CLIP)


# --- the depot and its cache -------------------------------------------------------------------


class CachedMachine(RuleBasedStateMachine):
    """Shards come, are doubled, packed and collected, the cache is spoiled: two stores say what the sidecars say."""

    def __init__(self) -> None:
        super().__init__()
        self.path = Path(tempfile.mkdtemp(prefix="deponij-test-"))
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(catalog, "CACHED_FROM", 1)
        self.patch.setattr(catalog, "KEPT_ROWS", 20)
        self.patch.setenv("DEPONIJ_CACHE", str(self.path / "cache"))
        # Stamps that fit however fast one act follows another, so that they can be trusted at once.
        real = time.time_ns
        self.patch.setattr(catalog.time, "time_ns", lambda: real() + LATER_NS)
        self.patch.setattr(LocalFolder, "stamps", exact_stamps)
        self.store = FeatureStore(self.path / "depot", create=True)
        self.other = FeatureStore(self.path / "depot")

    def teardown(self) -> None:
        self.patch.undo()
        shutil.rmtree(self.path)

    @rule(first=st.integers(0, 40), n=st.integers(1, 12), identity=st.sampled_from([CLIP, OTHER]))
    def add(self, first, n, identity) -> None:
        fill(self.store, range(first, first + n), identity=identity, batch=2, shard_rows=3)

    @rule(first=st.integers(0, 40), n=st.integers(1, 12))
    def add_doubles(self, first, n) -> None:
        keys = keys_of(range(first, first + n))
        with self.other.writer(CLIP, {}) as writer:
            writer.add(keys, {"embedding": vectors(keys, "fp32")})

    @rule(target_bytes=st.sampled_from([1, 20_000]))
    def compact(self, target_bytes) -> None:
        upkeep.compact(self.store, target_bytes=target_bytes)

    @rule(first=st.integers(0, 40))
    def collect(self, first) -> None:
        upkeep.gc(self.other, set(keys_of(range(first, first + 30))), dry_run=False)

    @rule()
    def retire(self) -> None:
        names = self.store.shard_names()
        if names:
            self.store.retire(names[len(names) // 2])

    @rule()
    def reopen(self) -> None:
        self.store = FeatureStore(self.path / "depot")

    @rule()
    def reopen_other(self) -> None:
        self.other = FeatureStore(self.path / "depot")

    @rule()
    def lose_the_cache(self) -> None:
        shutil.rmtree(self.path / "cache", ignore_errors=True)

    def _cached(self) -> list[Path]:
        return sorted(
            path for path in (self.path / "cache").rglob("*") if path.is_file() and path.stat().st_size
        )

    @precondition(lambda self: self._cached())
    @rule(which=st.integers(0, 99), place=st.floats(0, 0.999), bit=st.integers(0, 7), is_cut=st.booleans())
    def spoil(self, which, place, bit, is_cut) -> None:
        files = self._cached()
        path = files[which % len(files)]
        raw = bytearray(path.read_bytes())
        at = int(place * len(raw))
        raw[at] ^= 1 << bit
        path.write_bytes(raw[:at] if is_cut else raw)

    @invariant()
    def both_say_what_the_sidecars_say(self) -> None:
        for store in (self.store, self.other):
            store.refresh()
            check(store, keys_of(range(0, 55, 2)))
            assert store.damaged == {}


def exact_stamps(folder: LocalFolder, but: Sequence[str]) -> dict[str, list[int]]:
    """As `LocalFolder.stamps` of a file system whose clock has no ticks: a new number for each other listing."""
    files = sorted(
        (str(path), path.stat().st_ino) for path in folder.path.glob("*/*") if path.parent.name not in but
    )
    return {".": [hash(tuple(files)), 0, 0]}


CachedMachine.TestCase.settings = settings(
    max_examples=25,
    stateful_step_count=14,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
test_whatever_happens_to_depot_and_cache = CachedMachine.TestCase


@pytest.fixture
def n_listings(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Of what folders all files were listed."""
    listed: list[str] = []
    real = LocalFolder.names

    def names(folder: LocalFolder) -> list[str]:
        listed.append(folder.location)
        return real(folder)

    monkeypatch.setattr(LocalFolder, "names", names)
    yield listed


def test_opening_what_has_not_changed_lists_and_reads_nothing(
    tmp_path: Path, every_depot: Path, later: None, n_listings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(FeatureStore(tmp_path / "depot", create=True), range(40))
    FeatureStore(tmp_path / "depot")
    n_listings.clear()
    monkeypatch.setattr(
        LocalFolder, "read_many", lambda folder, names: pytest.fail(f"read {names}") if list(names) else {}
    )
    store = FeatureStore(tmp_path / "depot")
    assert store.missing(CLIP, keys_of(range(42))) == keys_of([40, 41])
    np.testing.assert_array_equal(store.read(keys_of([7, 3]))["embedding"], vectors(keys_of([7, 3]), "fp32"))
    assert n_listings == []


def test_new_shards_alone_are_read(
    tmp_path: Path, every_depot: Path, later: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FeatureStore(tmp_path / "depot", create=True)
    fill(store, range(40))
    FeatureStore(tmp_path / "depot")
    fill(store, range(48))
    read: list[str] = []
    real = LocalFolder.read
    monkeypatch.setattr(LocalFolder, "read", lambda folder, name: (read.append(name), real(folder, name))[1])
    check(FeatureStore(tmp_path / "depot"), keys_of(range(50)))
    assert len([name for name in read if name.endswith(".json") and "/" in name]) == 2


@pytest.mark.parametrize(("age_s", "n_expected"), [(0, 2), (9, 1), (11, 0)])
def test_a_stamp_is_trusted_only_when_it_is_clearly_older_than_the_listing(
    tmp_path: Path,
    every_depot: Path,
    n_listings: list[str],
    monkeypatch: pytest.MonkeyPatch,
    age_s: float,
    n_expected: int,
) -> None:
    """A file system may give two changes within one tick of its clock the same time."""
    fill(FeatureStore(tmp_path / "depot", create=True), range(8))
    newest = max(path.stat().st_ctime_ns for path in (tmp_path / "depot").iterdir())
    monkeypatch.setattr(catalog.time, "time_ns", lambda: newest + int(age_s * 1e9))
    FeatureStore(tmp_path / "depot")
    # Another shard comes, and the clock of the file system has not moved.
    frozen = LocalFolder(tmp_path / "depot").stamps(("writers", "damaged"))
    fill(FeatureStore(tmp_path / "depot"), range(12))
    monkeypatch.setattr(LocalFolder, "stamps", lambda folder, but: frozen)
    n_listings.clear()
    store = FeatureStore(tmp_path / "depot")
    assert (len(n_listings) > 0) == (n_expected > 0)
    if n_expected:
        assert store.missing(CLIP, keys_of(range(12))) == []


def test_damaged_sidecars_are_told_on_every_opening(
    tmp_path: Path, every_depot: Path, later: None, n_listings: list[str]
) -> None:
    fill(FeatureStore(tmp_path / "depot", create=True), range(12))
    path = sorted((tmp_path / "depot").glob("*/*.json"))[1]
    whole = path.read_bytes()
    path.write_bytes(whole[:-40])
    name = f"{CLIP.fingerprint}/{path.stem}"
    for _ in range(3):
        store = FeatureStore(tmp_path / "depot")
        assert list(store.damaged) == [name]
        assert "is damaged" in store.damaged[name]
        assert len(store.missing(CLIP, keys_of(range(12)))) == 4
    n_listings.clear()
    # Mended where it lies, which no folder's time tells.
    path.write_bytes(whole)
    store = FeatureStore(tmp_path / "depot")
    assert (store.damaged, store.missing(CLIP, keys_of(range(12)))) == ({}, [])
    assert FeatureStore(tmp_path / "depot").missing(CLIP, keys_of(range(12))) == []


def test_a_sidecar_that_was_damaged_after_it_was_read_is_found_by_verify(
    tmp_path: Path, every_depot: Path, later: None
) -> None:
    fill(FeatureStore(tmp_path / "depot", create=True), range(12))
    FeatureStore(tmp_path / "depot")
    path = sorted((tmp_path / "depot").glob("*/*.json"))[1]
    path.write_bytes(path.read_bytes()[:-40])
    report = upkeep.verify(FeatureStore(tmp_path / "depot"))
    assert list(report.damaged) == [f"{CLIP.fingerprint}/{path.stem}"]
    assert upkeep.verify(FeatureStore(tmp_path / "depot"), repair=True).is_whole
    assert len(FeatureStore(tmp_path / "depot").missing(CLIP, keys_of(range(12)))) == 4


def test_a_depot_made_anew_at_the_same_place(tmp_path: Path, every_depot: Path, later: None) -> None:
    path = tmp_path / "depot"
    fill(FeatureStore(path, create=True), range(20))
    FeatureStore(path)
    shutil.rmtree(path)
    fill(FeatureStore(path, create=True), range(100, 110))
    store = FeatureStore(path)
    check(store, keys_of(range(120)))
    assert store.missing(CLIP, keys_of(range(20))) == keys_of(range(20))


@pytest.mark.parametrize("is_same_depot", [True, False])
def test_other_rows_under_the_names_of_known_shards_never_come_out(
    tmp_path: Path, every_depot: Path, later: None, is_same_depot: bool
) -> None:
    """A folder that was restored from elsewhere may have shards of the same names and sizes with other rows."""
    path, name = tmp_path / "depot", f"{CLIP.fingerprint}/host.1.0a1b2c3d-000000"

    def commit(keys: list[str]) -> None:
        arrays = {"embedding": vectors(keys, "fp32")}
        shard.commit(LocalFolder(path), name, CLIP, keys, arrays, provenance={})

    FeatureStore(path, create=True)
    commit(keys_of(range(8)))
    assert FeatureStore(path).missing(CLIP, keys_of(range(8))) == []
    if is_same_depot:
        commit(keys_of(range(7, -1, -1)))
    else:
        shutil.rmtree(path)
        FeatureStore(path, create=True)
        commit(keys_of(range(8, 0, -1)))
        assert FeatureStore(path).missing(CLIP, keys_of(range(9))) == keys_of([0])
    keys = keys_of([2, 5, 5, 1])
    store = FeatureStore(path)
    np.testing.assert_array_equal(store.read(keys, CLIP)["embedding"], vectors(keys, "fp32"))
    check(store, keys_of(range(9)))


def test_rows_of_other_keys_than_the_sidecar_says_are_an_error(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path / "depot", create=True)
    fill(store, range(4), shard_rows=4)
    path = next((tmp_path / "depot").glob("*/*.json"))
    whole = Sidecar.from_bytes(f"{path.parent.name}/{path.stem}", path.read_bytes())
    path.write_bytes(replace(whole, keys=whole.keys[::-1]).to_bytes())
    with pytest.raises(StoreError, match="holds 1 rows of other keys"):
        FeatureStore(tmp_path / "depot").read(keys_of([0]), CLIP)


def test_without_a_place_for_the_cache_all_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, later: None
) -> None:
    monkeypatch.setattr(catalog, "CACHED_FROM", 1)
    monkeypatch.setattr(catalog, "KEPT_ROWS", 4)
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("DEPONIJ_CACHE", str(tmp_path / "file"))
    for n in (12, 30):
        fill(FeatureStore(tmp_path / "depot", create=True), range(n))
        check(FeatureStore(tmp_path / "depot"), keys_of(range(31)))
    assert (tmp_path / "file").read_bytes() == b""


def test_a_full_disk_under_the_cache_is_nobodys_trouble(
    tmp_path: Path, every_depot: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(FeatureStore(tmp_path / "depot", create=True), range(12))
    FeatureStore(tmp_path / "depot")

    def refuse(*_: object) -> object:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("deponij.store.places.cache.write_run", refuse)
    store = FeatureStore(tmp_path / "depot")
    fill(store, range(20))
    store.refresh()
    check(store, keys_of(range(21)))
    check(FeatureStore(tmp_path / "depot"), keys_of(range(21)))


def test_small_depots_leave_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEPONIJ_CACHE", str(tmp_path / "cache"))
    fill(FeatureStore(tmp_path / "depot", create=True), range(200))
    FeatureStore(tmp_path / "depot")
    assert not (tmp_path / "cache").exists()
    fill(FeatureStore(tmp_path / "depot"), range(300))
    FeatureStore(tmp_path / "depot")
    assert (tmp_path / "cache" / "depots").is_dir()


def test_another_version_of_the_cache_is_made_anew(
    tmp_path: Path, every_depot: Path, later: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(FeatureStore(tmp_path / "depot", create=True), range(12))
    FeatureStore(tmp_path / "depot")
    (manifest,) = every_depot.glob("*/manifest.json")
    before = manifest.read_bytes()
    monkeypatch.setattr("deponij.store.places.cache.VERSION", 99)
    check(FeatureStore(tmp_path / "depot"), keys_of(range(13)))
    assert manifest.read_bytes() != before


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("runs", 3),
        ("runs", [{"run": {}, "alive": ""}]),
        ("identities", {"x": {}}),
        ("identities", {}),
        ("stamps", 3),
        ("damaged", 3),
        ("n_rows", 10**18),
        ("n_rows", "many"),
        ("n_shards", 10**15),
        ("name_bytes", 10**6),
        ("name_bytes", -1),
        ("layout_bytes", 1),
        ("salt", -1),
        ("alive", "AAAA"),
        ("alive", "?"),
        ("file", "../none"),
    ],
)
def test_a_manifest_with_other_fields_is_no_trouble(
    tmp_path: Path, every_depot: Path, later: None, field: str, value: object
) -> None:
    fill(FeatureStore(tmp_path / "depot", create=True), range(20))
    FeatureStore(tmp_path / "depot")
    (manifest,) = every_depot.glob("*/manifest.json")

    def change(body):  # type: ignore[no-untyped-def]
        where = body
        if field not in body:
            where = body["runs"][0] if field == "alive" else body["runs"][0]["run"]
        where[field] = value
        return body

    reseal(manifest, change)
    check(FeatureStore(tmp_path / "depot"), keys_of(range(21)))


def test_forgetting_leaves_no_key(tmp_path: Path, every_depot: Path) -> None:
    store = FeatureStore(tmp_path / "depot", create=True)
    fill(store, range(20))
    FeatureStore(tmp_path / "depot")
    key = keys_of([7])[0]
    head = bytes.fromhex(key)[7::-1]

    def holders() -> list[Path]:
        return [path for path in every_depot.rglob("*") if path.is_file() and head in path.read_bytes()]

    assert holders()
    drop_from_depot(store, [key])
    assert not holders()
    check(store, keys_of(range(21)))
    assert store.missing(CLIP, [key]) == [key]


def test_what_is_kept_of_depots_that_are_gone_goes_in_the_end(tmp_path: Path, every_depot: Path) -> None:
    def make(name: str) -> Path:
        before = set(every_depot.glob("*"))
        fill(FeatureStore(tmp_path / name, create=True), range(8))
        FeatureStore(tmp_path / name)
        (new,) = set(every_depot.glob("*")) - before
        return new

    gone, lately, there = make("gone"), make("lately"), make("there")
    for name in ("gone", "lately"):
        shutil.rmtree(tmp_path / name)
    for folder in (gone, there):
        os.utime(folder / "manifest.json", (0, 0))
    made = make("new")
    assert set(every_depot.glob("*")) == {lately, there, made}


def test_an_object_store_is_listed_and_its_sidecars_are_read_once(
    tmp_path: Path, every_depot: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    location = f"memory://{uuid.uuid4().hex}"
    fill(FeatureStore(location, create=True), range(40))
    FeatureStore(location)
    store = FeatureStore(location)
    read: list[str] = []
    real = type(store.folder).read_many

    def read_many(folder, names):  # type: ignore[no-untyped-def]
        chosen = list(names)
        read.extend(chosen)
        return real(folder, chosen)

    monkeypatch.setattr(type(store.folder), "read_many", read_many)
    store = FeatureStore(location)
    assert store.missing(CLIP, keys_of(range(41))) == keys_of([40])
    assert read == []


def test_a_kill_at_every_step_of_writing_the_cache(tmp_path: Path, every_depot: Path, later: None) -> None:
    path = tmp_path / "depot"
    fill(FeatureStore(path, create=True), range(12))
    step = 1
    while die_at_step(lambda: FeatureStore(path), step):
        check(FeatureStore(path), keys_of(range(13)))
        # Something new for the next one to keep.
        fill(FeatureStore(path), range(12 * step, 12 * step + 2), shard_rows=1)
        step += 1
    assert step > 4
    check(FeatureStore(path), keys_of(range(12 * step)))
    (kept,) = every_depot.iterdir()
    assert [file.name for file in kept.iterdir() if file.suffix == ".part"] == []


def test_several_processes_use_one_cache(
    tmp_path: Path, every_depot: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "KEPT_ROWS", 16)
    path = tmp_path / "depot"
    FeatureStore(path, create=True)

    def write(start: int) -> None:
        for block in range(start, start + 120, 12):
            store = FeatureStore(path)
            fill(store, range(block, block + 12), batch=3, shard_rows=3)
            store.refresh()

    def read() -> None:
        deadline = time.monotonic() + 120
        known: list[str] = []
        while len(known) < 240 and time.monotonic() < deadline:
            store = FeatureStore(path)
            found = store.keys(CLIP)
            assert set(known) <= set(found)
            assert len(found) == len(set(found))
            known = found
            if known:
                rows = store.read(known, CLIP)["embedding"]
                np.testing.assert_array_equal(rows, vectors(known, "fp32"))
            assert not store.damaged
        assert len(known) == 240

    def tidy() -> None:
        for _ in range(6):
            upkeep.compact(FeatureStore(path), target_bytes=20_000)

    children = [in_child(lambda s=s: write(s)) for s in (0, 120)]
    children += [in_child(read), in_child(read), in_child(tidy)]
    assert [finish(child) for child in children] == [0] * 5
    store = FeatureStore(path)
    check(store, keys_of(range(250)))
    assert len(dump(store)[CLIP.fingerprint]) == 240
    assert list(every_depot.glob("*/*.run"))
