"""Where rows lie, through the cache and without it: always what the sidecars say."""

import shutil
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from depot_world import CLIP, OTHER, fill, keys_of, vectors
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from places_world import LATER_NS, check

from deponij.store import shard
from deponij.store.depot import FeatureStore
from deponij.store.errors import StoreError
from deponij.store.file_names import FORMAT_FILE
from deponij.store.folders import LocalFolder
from deponij.store.places import catalog
from deponij.store.shard import Sidecar
from deponij.store.upkeep import inspection as upkeep


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

    def names(folder: LocalFolder, below: str = "") -> list[str]:
        listed.append(folder.location)
        return real(folder, below)

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


def test_a_listing_during_which_shards_were_packed_is_made_again(
    tmp_path: Path, every_depot: Path, later: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may show neither the shards that went nor the one that came, however old the folder was before."""
    path = tmp_path / "depot"
    fill(FeatureStore(path, create=True), range(8))
    reader, real = FeatureStore(path), LocalFolder.names

    def names(folder: LocalFolder, below: str = "") -> list[str]:
        monkeypatch.setattr(LocalFolder, "names", real)
        upkeep.compact(FeatureStore(path))
        return [FORMAT_FILE]

    monkeypatch.setattr(LocalFolder, "names", names)
    reader.refresh()
    assert reader.missing(CLIP, keys_of(range(9))) == keys_of([8])


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
    path = tmp_path / "depot"
    FeatureStore(path, create=True)
    commit(path, keys_of(range(8)))
    assert FeatureStore(path).missing(CLIP, keys_of(range(8))) == []
    if is_same_depot:
        commit(path, keys_of(range(7, -1, -1)))
    else:
        shutil.rmtree(path)
        FeatureStore(path, create=True)
        commit(path, keys_of(range(8, 0, -1)))
        assert FeatureStore(path).missing(CLIP, keys_of(range(9))) == keys_of([0])
    keys = keys_of([2, 5, 5, 1])
    store = FeatureStore(path)
    np.testing.assert_array_equal(store.read(keys, CLIP)["embedding"], vectors(keys, "fp32"))
    check(store, keys_of(range(9)))


def commit(path: Path, keys: list[str]) -> None:
    """A shard that always has the same name."""
    name, arrays = f"{CLIP.fingerprint}/host.1.0a1b2c3d-000000", {"embedding": vectors(keys, "fp32")}
    shard.commit(LocalFolder(path), name, CLIP, keys, arrays, provenance={})


def test_what_another_thread_has_found_wrong_between_look_up_and_reading_is_no_damage(
    tmp_path: Path, every_depot: Path, later: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One thread finds out that what is kept is wrong while the other has places of it in its hands."""
    path, keys = tmp_path / "depot", keys_of(range(8))

    FeatureStore(path, create=True)
    commit(path, keys)
    FeatureStore(path)
    commit(path, keys[::-1])
    store, real, n_read = FeatureStore(path), shard.read, 0

    def read(*args: Any, **kwargs: Any) -> object:
        nonlocal n_read
        n_read += 1
        if n_read == 1:
            other = threading.Thread(target=store.distrust)
            other.start()
            other.join()
        return real(*args, **kwargs)

    monkeypatch.setattr(shard, "read", read)
    np.testing.assert_array_equal(store.read(keys, CLIP)["embedding"], vectors(keys, "fp32"))
    assert n_read == 2


def test_what_was_thrown_away_does_not_come_back_from_who_had_it_open(
    tmp_path: Path, every_depot: Path, later: None
) -> None:
    path, keys = tmp_path / "depot", keys_of(range(8))

    FeatureStore(path, create=True)
    commit(path, keys)
    FeatureStore(path)
    store = FeatureStore(path)
    commit(path, keys[::-1])
    shutil.rmtree(every_depot)
    store.refresh()
    for one in (store, FeatureStore(path)):
        check(one, keys_of(range(9)))


def test_what_others_have_kept_is_not_taken_for_what_the_sidecars_say(
    tmp_path: Path, every_depot: Path, later: None
) -> None:
    """A reader that was there before takes it over when it looks anew."""
    path = tmp_path / "depot"
    reader = FeatureStore(path, create=True)
    commit(path, keys_of(range(8)))
    FeatureStore(path)
    commit(path, keys_of(range(7, -1, -1)))
    reader.refresh()
    keys = keys_of([2, 5, 1])
    np.testing.assert_array_equal(reader.read(keys, CLIP)["embedding"], vectors(keys, "fp32"))
    check(reader, keys_of(range(9)))


def test_rows_of_other_keys_than_the_sidecar_says_are_an_error(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path / "depot", create=True)
    fill(store, range(4), shard_rows=4)
    path = next((tmp_path / "depot").glob("*/*.json"))
    whole = Sidecar.from_bytes(f"{path.parent.name}/{path.stem}", path.read_bytes())
    path.write_bytes(replace(whole, keys=whole.keys[::-1]).to_bytes())
    with pytest.raises(StoreError, match="holds 1 rows of other keys"):
        FeatureStore(tmp_path / "depot").read(keys_of([0]), CLIP)


def test_a_reader_of_before_finds_rows_that_were_packed_since(
    tmp_path: Path, every_depot: Path, later: None
) -> None:
    path, keys = tmp_path / "depot", keys_of(range(20))
    fill(FeatureStore(path, create=True), range(20))
    FeatureStore(path)
    reader = FeatureStore(path)
    packer = FeatureStore(path)
    upkeep.compact(packer)
    # The cache that the reader has open is another one's now.
    FeatureStore(path)
    np.testing.assert_array_equal(reader.read(keys, CLIP)["embedding"], vectors(keys, "fp32"))
    check(reader, keys_of(range(21)))


def test_a_reader_of_before_is_told_of_rows_that_were_collected_since(
    tmp_path: Path, every_depot: Path, later: None
) -> None:
    path = tmp_path / "depot"
    fill(FeatureStore(path, create=True), range(20))
    FeatureStore(path)
    reader = FeatureStore(path)
    upkeep.gc(FeatureStore(path), set(keys_of(range(12))), dry_run=False)
    for _ in range(2):
        with pytest.raises(StoreError, match="1 of 2 keys have no row"):
            reader.read(keys_of([3, 15]), CLIP)
    check(reader, keys_of(range(21)))
    check(FeatureStore(path), keys_of(range(21)))


def test_a_folder_whose_times_stand_still_is_listed_when_something_is_amiss(
    tmp_path: Path, every_depot: Path, later: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some mounts of object stores never give a folder a new time."""
    path = tmp_path / "depot"
    fill(FeatureStore(path, create=True), range(8))
    FeatureStore(path)
    frozen = LocalFolder(path).stamps(("writers", "damaged"))
    monkeypatch.setattr(LocalFolder, "stamps", lambda folder, but: frozen)
    reader = FeatureStore(path)
    fill(FeatureStore(path), range(12), shard_rows=2)
    upkeep.compact(FeatureStore(path))
    keys = keys_of([1, 11])
    np.testing.assert_array_equal(reader.read(keys, CLIP)["embedding"], vectors(keys, "fp32"))
    reader.refresh()
    check(reader, keys_of(range(13)))


def test_mounts_that_do_not_show_what_others_do_are_always_listed(
    tmp_path: Path, every_depot: Path, later: None, n_listings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deponij.store.folders.why_locks_are_unseen", lambda folder: "such a mount")
    fill(FeatureStore(tmp_path / "depot", create=True), range(8))
    FeatureStore(tmp_path / "depot")
    n_listings.clear()
    check(FeatureStore(tmp_path / "depot"), keys_of(range(9)))
    assert n_listings != []


@pytest.mark.parametrize("is_cached", [True, False])
def test_sidecars_are_read_anew_only_where_they_may_say_something_else(
    tmp_path: Path, every_depot: Path, later: None, monkeypatch: pytest.MonkeyPatch, is_cached: bool
) -> None:
    """Of a shard that is cut off a reader hears after one look at all sidecars, and after none where it has read them."""
    if not is_cached:
        monkeypatch.setattr(catalog, "CACHED_FROM", 10**6)
    fill(FeatureStore(tmp_path / "depot", create=True), range(8))
    FeatureStore(tmp_path / "depot")
    file = min((tmp_path / "depot").glob("*/*.h5"))
    file.write_bytes(file.read_bytes()[:-1])
    store = FeatureStore(tmp_path / "depot")
    read: list[str] = []
    real = LocalFolder.read
    monkeypatch.setattr(LocalFolder, "read", lambda folder, name: (read.append(name), real(folder, name))[1])
    for _ in range(3):
        with pytest.raises(StoreError, match="damaged"):
            store.read(keys_of(range(8)), CLIP)
    assert len([name for name in read if name.endswith(".json")]) == (2 if is_cached else 0)
