"""The cache of where rows lie: whatever happens to it, and whoever else uses it, no answer is wrong."""

import os
import resource
import shutil
import tempfile
import threading
import time
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import s3_world
from depot_world import CLIP, OTHER, die_at_step, dump, fill, finish, in_child, keys_of, vectors
from places_world import check
from resealing import reseal

from deponij.store import caches
from deponij.store.depot import FeatureStore
from deponij.store.places import cache, catalog
from deponij.store.places.cache import Cache
from deponij.store.upkeep import inspection as upkeep
from deponij.store.upkeep.forgetting import drop_from_depot


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


@pytest.mark.parametrize("limit_bytes", [4096, 16384])
def test_of_a_cache_that_could_not_be_written_nothing_stays(
    tmp_path: Path, every_depot: Path, limit_bytes: int
) -> None:
    """A limit on the size of files refuses writes as a full disk does: in the midst of a run, or in that of the second."""
    path = tmp_path / "depot"
    # Runs are written in the order of fingerprints.
    small, large = sorted((CLIP, OTHER), key=lambda identity: identity.fingerprint)
    fill(FeatureStore(path, create=True), range(40), identity=small)
    fill(FeatureStore(path), range(1000), identity=large, batch=100, shard_rows=100)
    shutil.rmtree(every_depot)

    def lie() -> set[str]:
        return {file.name for file in every_depot.rglob("*") if file.is_file()}

    def look() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, resource.RLIM_INFINITY))
        for _ in range(3):
            check(FeatureStore(path), keys_of(range(41)))
            assert lie() == {"lock"}

    assert finish(in_child(look)) == 0
    FeatureStore(path)
    assert len([name for name in lie() if name.endswith(".run")]) == 2


def test_machines_that_share_a_home_do_not_take_away_each_others_runs(
    tmp_path: Path, every_depot: Path, later: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NFS refuses to read a file that another machine has deleted, though it is open."""

    def go_to(machine: str) -> None:
        monkeypatch.setattr("deponij.store.places.cache.this_machine", lambda: machine)

    path = tmp_path / "depot"
    fill(FeatureStore(path, create=True), range(20))
    go_to("first")
    FeatureStore(path)
    kept = set(every_depot.rglob("*.run"))
    go_to("second")
    fill(FeatureStore(path), range(20, 60))
    FeatureStore(path)
    assert kept and kept < set(every_depot.rglob("*.run"))
    go_to("first")
    check(FeatureStore(path), keys_of(range(61)))
    assert len(list(every_depot.iterdir())) == 2


def test_a_machine_is_known_by_its_id_else_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caches, "_MACHINE_ID", tmp_path / "machine-id")
    monkeypatch.setattr(caches.socket, "gethostname", lambda: "here")
    told = []
    for content in (None, "", "uninitialized\n", "0123abcd\n"):
        if content is not None:
            (tmp_path / "machine-id").write_text(content)
        told.append(caches.this_machine())
    assert told == ["here", "here", "here", "0123abcd"]


def test_small_depots_leave_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEPONIJ_CACHE", str(tmp_path / "cache"))
    fill(FeatureStore(tmp_path / "depot", create=True), range(200))
    FeatureStore(tmp_path / "depot")
    assert not (tmp_path / "cache").exists()
    fill(FeatureStore(tmp_path / "depot"), range(300))
    FeatureStore(tmp_path / "depot")
    assert (tmp_path / "cache" / "depots").is_dir()


def test_of_a_depot_that_has_become_small_nothing_stays_kept(
    tmp_path: Path, every_depot: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "depot"
    monkeypatch.setattr(catalog, "CACHED_FROM", 8)
    fill(FeatureStore(path, create=True), range(40))
    store = FeatureStore(path)
    assert list(every_depot.rglob("*.run"))
    upkeep.compact(FeatureStore(path))
    check(FeatureStore(path), keys_of(range(41)))
    assert {file.name for file in every_depot.rglob("*") if file.is_file()} <= {"lock"}
    # One that had it open goes on, also when there is more again.
    fill(store, range(40, 80))
    store.refresh()
    for one in (store, FeatureStore(path)):
        check(one, keys_of(range(81)))
    assert list(every_depot.rglob("*.run"))


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


@pytest.mark.parametrize("how", ["opened", "distrusted"])
def test_a_process_that_keeps_something_damaged_again_and_again(
    tmp_path: Path, every_depot: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Another process, on a disk that fails, puts damaged runs in the place of those that were just thrown away."""
    path = tmp_path / "depot"
    fill(FeatureStore(path, create=True), range(40))
    store = FeatureStore(path)
    for run in every_depot.rglob("*.run"):
        run.write_bytes(bytes(255 - byte for byte in run.read_bytes()))
    shutil.copytree(every_depot, tmp_path / "damaged")
    real = Cache.forget

    def forget(cache: Cache) -> object:
        told = real(cache)
        shutil.copytree(tmp_path / "damaged", every_depot, dirs_exist_ok=True)
        return told

    monkeypatch.setattr(Cache, "forget", forget)
    if how == "opened":
        store = FeatureStore(path)
    else:
        store.distrust()
    check(store, keys_of(range(41)))


def test_forgetting_leaves_no_key(tmp_path: Path, every_depot: Path) -> None:
    store = FeatureStore(tmp_path / "depot", create=True)
    fill(store, range(20))
    FeatureStore(tmp_path / "depot")
    key = keys_of([7])[0]
    assert holders(every_depot, key)
    drop_from_depot(store, [key])
    assert not holders(every_depot, key)
    check(store, keys_of(range(21)))
    assert store.missing(CLIP, [key]) == [key]


def holders(kept: Path, key: str) -> list[Path]:
    """Files that have a key in them, as runs hold it."""
    head = bytes.fromhex(key)[7::-1]
    return [path for path in kept.rglob("*") if path.is_file() and head in path.read_bytes()]


def open_twice(path: Path) -> tuple[FeatureStore, FeatureStore, str]:
    """A depot of twenty rows, another's view of it, and a key that is there."""
    store = FeatureStore(path, create=True)
    fill(store, range(20))
    return store, FeatureStore(path), keys_of([7])[0]


def test_who_knew_a_forgotten_key_does_not_keep_it_again(
    tmp_path: Path, every_depot: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "KEPT_ROWS", 1)
    store, other, key = open_twice(tmp_path / "depot")
    drop_from_depot(store, [key])
    # Each new shard goes into the cache, if it can.
    fill(other, range(20, 28))
    assert not holders(every_depot, key)
    other.refresh()
    check(other, keys_of(range(29)))
    assert not holders(every_depot, key)


def test_forgetting_waits_for_who_is_writing_the_cache(
    tmp_path: Path, every_depot: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "KEPT_ROWS", 1)
    store, other, key = open_twice(tmp_path / "depot")
    is_writing, may_go_on = threading.Event(), threading.Event()
    write_run, forget = cache.write_run, cache.Cache.forget

    def slowly(*args: Any) -> object:
        if threading.current_thread() is writer:
            is_writing.set()
            assert may_go_on.wait(60)
        return write_run(*args)

    def forget_meanwhile(one: cache.Cache) -> bool:
        threading.Timer(0.3, may_go_on.set).start()
        return forget(one)

    monkeypatch.setattr(cache, "write_run", slowly)
    monkeypatch.setattr(cache.Cache, "forget", forget_meanwhile)
    writer = threading.Thread(target=fill, args=(other, range(20, 24)))
    writer.start()
    assert is_writing.wait(60)
    drop_from_depot(store, [key])
    writer.join()
    assert not holders(every_depot, key)


def test_what_is_kept_of_depots_that_are_gone_goes_in_the_end(tmp_path: Path, every_depot: Path) -> None:
    """Of one in an object store nothing here tells whether it is gone."""

    def make(location: str | Path) -> Path:
        before = set(every_depot.glob("*"))
        fill(FeatureStore(location, create=True), range(8))
        FeatureStore(location)
        (new,) = set(every_depot.glob("*")) - before
        return new

    gone, lately, there = (make(tmp_path / name) for name in ("gone", "lately", "there"))
    far = make(f"memory://{uuid.uuid4().hex}")
    for name in ("gone", "lately"):
        shutil.rmtree(tmp_path / name)
    for folder in (gone, there, far):
        os.utime(folder / "manifest.json", (0, 0))
    made = make(tmp_path / "new")
    assert set(every_depot.glob("*")) == {lately, there, far, made}


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


def test_a_cache_that_others_keep_and_nobody_here_can_write(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, later: None
) -> None:
    """Root may write everywhere, and so is somebody else here."""
    monkeypatch.setattr(catalog, "CACHED_FROM", 1)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        root.chmod(0o755)
        monkeypatch.setenv("DEPONIJ_CACHE", str(root / "cache"))
        fill(FeatureStore(root / "depot", create=True), range(12))
        FeatureStore(root / "depot")
        kept = {path: path.read_bytes() for path in (root / "cache").rglob("*") if path.is_file()}
        assert kept
        fill(FeatureStore(root / "depot"), range(20))
        upkeep.compact(FeatureStore(root / "depot"), target_bytes=20_000)
        shutil.rmtree(root / "cache")
        for path, content in kept.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        folders = [path for path in (root / "cache").rglob("*") if path.is_dir()]

        def look() -> None:
            if os.geteuid() == 0:
                os.seteuid(65534)
            check(FeatureStore(root / "depot"), keys_of(range(21)))
            store = FeatureStore(root / "depot")
            store.distrust()
            check(store, keys_of(range(21)))

        for mode in (0o555, 0o755):
            for folder in folders:
                folder.chmod(mode)
            if mode == 0o555:
                assert finish(in_child(look)) == 0
                assert {path: path.read_bytes() for path in kept} == kept


@pytest.mark.parametrize("how", ["compacted", "collected"])
def test_two_processes_of_which_one_knows_an_older_depot(
    tmp_path: Path, every_depot: Path, later: None, how: str
) -> None:
    """What one process has in its hands when another one has written the cache never comes into it."""
    path = tmp_path / "depot"
    fill(FeatureStore(path, create=True), range(20))
    old = FeatureStore(path)
    new = FeatureStore(path)
    if how == "compacted":
        upkeep.compact(new)
    else:
        upkeep.gc(new, set(keys_of(range(10))), dry_run=False)
    FeatureStore(path)
    fill(old, range(30, 40))
    old.refresh()
    for store in (old, new, FeatureStore(path)):
        store.refresh()
        check(store, keys_of(range(45)))


def test_a_depot_that_was_set_back(tmp_path: Path, every_depot: Path, later: None) -> None:
    """An older copy of a depot comes in the place of it, and goes on by itself."""
    path = tmp_path / "depot"
    fill(FeatureStore(path, create=True), range(12))
    shutil.copytree(path, tmp_path / "copy", copy_function=shutil.copy2)
    fill(FeatureStore(path), range(24))
    upkeep.compact(FeatureStore(path), target_bytes=10_000)
    FeatureStore(path)
    shutil.rmtree(path)
    (tmp_path / "copy").rename(path)
    check(FeatureStore(path), keys_of(range(25)))
    fill(FeatureStore(path), range(30, 34))
    store = FeatureStore(path)
    check(store, keys_of(range(35)))
    assert store.missing(CLIP, keys_of([13, 31])) == keys_of([13])


def test_a_depot_in_an_object_store(every_depot: Path, later: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with s3_world.serving(monkeypatch) as server:
        fill(FeatureStore(server.depot, create=True), range(24))
        FeatureStore(server.depot)
        reader = FeatureStore(server.depot)
        server.seen.clear()
        FeatureStore(server.depot)
        assert [
            path for method, path in server.seen if method == "GET" and path.endswith("-000000.json")
        ] == []
        assert list(every_depot.glob("*/*.run"))
        upkeep.compact(FeatureStore(server.depot))
        keys = keys_of(range(24))
        for store in (reader, FeatureStore(server.depot)):
            np.testing.assert_array_equal(store.read(keys, CLIP)["embedding"], vectors(keys, "fp32"))
        drop_from_depot(FeatureStore(server.depot), keys[5:6])
        for store in (reader, FeatureStore(server.depot)):
            store.refresh()
            assert store.missing(CLIP, keys_of(range(25))) == [keys[5], *keys_of([24])]
        # Another depot at the same address.
        for name in s3_world.names():
            FeatureStore(server.depot).folder.delete(name) if name != "format.json" else None
        reader.folder.delete("format.json")
        fill(FeatureStore(server.depot, create=True), range(20, 30))
        assert FeatureStore(server.depot).keys(CLIP) == sorted(keys_of(range(20, 30)))
