"""Promises of the depot: nothing twice, nothing mixed, nothing lost, and errors that say why."""

import fcntl
import json
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from depot_world import (
    CLIP,
    DIM,
    OTHER,
    die_at_step,
    dump,
    fill,
    finish,
    in_child,
    keys_of,
    loose_files,
    vectors,
)

from deponij.store import locks
from deponij.store.depot import FORMAT_FILE, FeatureStore
from deponij.store.errors import IdentityError, StoreError
from deponij.store.folders import open_folder
from deponij.store.presence import WriterLock
from deponij.store.upkeep import inspection as upkeep

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(params=["local", "memory"])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "depot") if request.param == "local" else f"memory://{uuid.uuid4().hex}"


def test_what_is_known_is_not_missing(location: str) -> None:
    store = FeatureStore(location, create=True)
    assert fill(store, range(10)) == 10
    assert fill(FeatureStore(location), range(12)) == 2
    again = FeatureStore(location)
    assert fill(again, range(12)) == 0
    assert again.missing(CLIP, keys_of([13, 3, 13, 12])) == keys_of([13, 12])
    assert again.missing(OTHER, keys_of(range(3))) == keys_of(range(3))
    assert again.keys(CLIP) == sorted(keys_of(range(12)))


def test_rows_come_in_the_order_of_the_keys(location: str) -> None:
    store = FeatureStore(location, create=True)
    fill(store, range(10))
    keys = keys_of([7, 0, 9, 7, 3])
    found = store.read(keys)
    assert list(found) == ["embedding"]
    assert found["embedding"].dtype == np.float32
    np.testing.assert_array_equal(found["embedding"], vectors(keys, "fp32"))
    assert store.read([], CLIP)["embedding"].shape == (0, DIM)


def test_an_ambiguous_request_lists_the_candidates(location: str) -> None:
    store = FeatureStore(location, create=True)
    fill(store, range(3))
    fill(store, range(2), identity=OTHER)
    assert store.resolve(keys_of([2])) == CLIP
    with pytest.raises(StoreError, match="say which one") as refused:
        store.read(keys_of([0]))
    assert CLIP.fingerprint in str(refused.value)
    assert OTHER.fingerprint in str(refused.value)
    with pytest.raises(StoreError, match="no identity in .* has all 1 keys: it knows openclip:ViT-B-16"):
        store.read(keys_of([99]))


def test_a_missing_row_says_what_differs(location: str) -> None:
    store = FeatureStore(location, create=True)
    fill(store, range(3))
    with pytest.raises(StoreError, match="differs in precision: bf16 against fp32") as refused:
        store.read(keys_of([1]), OTHER)
    assert "run `deponij extract`" in str(refused.value)


def test_every_field_of_an_identity_refuses_and_is_named() -> None:
    for name in ("backbone", "weights", "kind", "transform", "decode", "precision", "stored"):
        other = replace(CLIP, **{name: "x"})
        assert other.fingerprint != CLIP.fingerprint
        with pytest.raises(IdentityError, match=f"the view has another identity: {name}: .* against x$"):
            CLIP.require_equal(other, "the view")
    CLIP.require_equal(replace(CLIP), "the view")


def test_provenance_refuses_nobody_and_is_reported(location: str) -> None:
    store = FeatureStore(location, create=True)
    fill(store, range(4), provenance={"versions": {"torch": "2.11"}, "device": "cuda"})
    fill(store, range(6), provenance={"versions": {"torch": "2.15"}, "device": "cpu"})
    assert len(store.read(keys_of(range(6)), CLIP)["embedding"]) == 6
    facts = upkeep.info(store).identities[0].provenance
    assert facts == {"device": {"cuda": 4, "cpu": 2}, "versions.torch": {"2.11": 4, "2.15": 2}}


@pytest.mark.parametrize(
    ("keys", "rows", "message"),
    [
        (["abc"], np.zeros((1, 2), np.float32), "40 hexadecimal characters, got 'abc'"),
        ([keys_of([1])[0].upper()], np.zeros((1, 2), np.float32), "40 hexadecimal"),
        (keys_of([1, 1]), np.zeros((2, 2), np.float32), "keys repeat"),
        (keys_of([0]), np.zeros((1, 2), np.float32), "keys repeat"),
        (keys_of([1]), np.zeros((2, 2), np.float32), "1 keys, but 2 rows of embedding"),
        (keys_of([1]), np.zeros((1, 2), np.float64), "is float64; the identity stores float32"),
        (keys_of([1]), np.full((1, 2), np.inf, np.float32), "not finite"),
    ],
)
def test_bad_rows_are_refused_and_the_good_ones_kept(
    tmp_path: Path, keys: list[str], rows: np.ndarray, message: str
) -> None:
    store = FeatureStore(tmp_path / "depot", create=True)
    with pytest.raises(StoreError, match=message), store.writer(CLIP, {}) as writer:
        writer.add(keys_of([0]), {"embedding": np.zeros((1, 2), np.float32)})
        writer.add(keys, {"embedding": rows})
    assert FeatureStore(tmp_path / "depot").keys(CLIP) == keys_of([0])


def test_asking_with_something_else_than_a_key_is_an_error(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path / "depot", create=True)
    fill(store, range(2))
    for stranger in (keys_of([0])[0] + "0", "kéy", ""):
        with pytest.raises(StoreError, match="40 hexadecimal"):
            store.missing(CLIP, [stranger])


def test_maps_of_several_sizes_lie_in_shards_of_their_own(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path / "depot", create=True)
    dense = replace(CLIP, kind="dense@1", stored="float16")
    with store.writer(dense, {}) as writer:
        writer.add(keys_of([0]), {"dense": np.ones((1, 3, 2, 4), np.float16)})
        writer.add(keys_of([1]), {"dense": np.ones((1, 3, 4, 2), np.float16)})
    assert store.read(keys_of([1]), dense)["dense"].shape == (1, 3, 4, 2)
    with pytest.raises(StoreError, match="differ in shape"):
        store.read(keys_of([0, 1]), dense)
    with pytest.raises(StoreError, match=r"have no array \['vectors'\]; they have \['dense', 'checksums'\]"):
        store.read(keys_of([0]), dense, ["vectors"])


def test_folders_that_are_no_depot_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no depot"):
        FeatureStore(tmp_path / "none")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"")
    with pytest.raises(StoreError, match=r"is not empty and no depot \(it holds a.jpg\)"):
        FeatureStore(tmp_path / "photos", create=True)
    with pytest.raises(StoreError, match="Not a directory"):
        FeatureStore(tmp_path / "photos" / "a.jpg", create=True)
    FeatureStore(tmp_path / "depot", create=True)
    (tmp_path / "depot" / FORMAT_FILE).write_text("{")
    with pytest.raises(StoreError, match="is damaged"):
        FeatureStore(tmp_path / "depot", create=True)


def test_a_depot_is_one_through_links_and_relative_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(FeatureStore(tmp_path / "depot", create=True), range(5))
    (tmp_path / "link").symlink_to(tmp_path / "depot")
    monkeypatch.chdir(tmp_path)
    for way in ("link", "./depot", f"file://{tmp_path}/depot"):
        store = FeatureStore(way)
        monkeypatch.chdir("/")
        assert fill(store, range(5)) == 0
        monkeypatch.chdir(tmp_path)
    first = FeatureStore("link")
    with first.writer(CLIP, {}) as writer:
        writer.add(keys_of([7]), {"embedding": vectors(keys_of([7]))})
        # A living writer's files are safe from a sweep that comes by another way.
        part = (
            next((tmp_path / "depot" / CLIP.fingerprint).iterdir()).parent / f"{writer._lock.token}-000009.h5"
        )
        part.write_bytes(b"half")
        assert FeatureStore("depot").sweep() == []
    part.unlink()


def test_reading_writes_nothing(tmp_path: Path) -> None:
    """A depot that is read-only is read all the same: no act on the file system happens."""
    fill(FeatureStore(tmp_path / "depot", create=True), range(9))

    def read() -> None:
        store = FeatureStore(tmp_path / "depot", create=True)
        assert not store.missing(CLIP, keys_of(range(9)))
        assert len(store.read(keys_of(range(9)))["embedding"]) == 9
        upkeep.info(store)
        assert upkeep.verify(store).is_whole

    assert not die_at_step(read, 1)


def test_a_depot_that_cannot_be_written_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FeatureStore(tmp_path / "depot", create=True)

    def refuse(*_: object) -> int:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("deponij.store.locks.os.open", refuse)
    with pytest.raises(StoreError, match="cannot write to the depot: .*Read-only file system"):
        fill(store, range(2))


def test_plain_h5py_reads_a_shard(tmp_path: Path) -> None:
    fill(FeatureStore(tmp_path / "depot", create=True), range(3))
    with h5py.File(next((tmp_path / "depot").glob("*/*.h5"))) as file:
        assert [key.decode() for key in file["keys"]] == keys_of(range(3))
        np.testing.assert_array_equal(file["arrays/embedding"], vectors(keys_of(range(3)), "fp32"))
        assert all(file[name].fletcher32 for name in ("keys", "checksums", "arrays/embedding"))


# --- kills -----------------------------------------------------------------------------------


def _extract(path: Path) -> None:
    fill(FeatureStore(path, create=True), range(10))


def test_a_kill_at_every_step_loses_nothing_that_was_committed(tmp_path: Path) -> None:
    _extract(tmp_path / "calm")
    calm = dump(FeatureStore(tmp_path / "calm"))
    n_known_after = []
    step = 1
    while die_at_step(lambda path=tmp_path / str(step): _extract(path), step):
        path = tmp_path / str(step)
        if (path / FORMAT_FILE).exists():
            after = dump(FeatureStore(path))
            n_known_after.append(sum(len(rows) for rows in after.values()))
            assert all(calm[f][key] == row for f, rows in after.items() for key, row in rows.items())
        _extract(path)
        assert dump(FeatureStore(path)) == calm, f"killed at step {step}"
        assert loose_files(path) == [], f"killed at step {step}"
        step += 1
    # 10 rows in shards of 4: 0, 4, 8 and 10 rows were known at some kill, and never fewer later on.
    assert n_known_after == sorted(n_known_after)
    assert set(n_known_after) == {0, 4, 8, 10}
    assert step > 40


def test_kills_at_random_moments(tmp_path: Path) -> None:
    fill(FeatureStore(tmp_path / "calm", create=True), range(400), batch=8, shard_rows=8)
    calm = dump(FeatureStore(tmp_path / "calm"))
    moments = random.Random(7)
    n_killed = 0
    for _ in range(8):
        child = in_child(
            lambda: fill(FeatureStore(tmp_path / "depot", create=True), range(400), batch=8, shard_rows=8)
        )
        time.sleep(moments.uniform(0.005, 0.06))
        os.kill(child, signal.SIGKILL)
        n_killed += finish(child) == -signal.SIGKILL
    assert n_killed >= 4
    store = FeatureStore(tmp_path / "depot", create=True)
    fill(store, range(400), batch=8, shard_rows=8)
    assert dump(store) == calm
    assert loose_files(tmp_path / "depot") == []


def test_a_full_disk_is_an_error_and_leaves_nothing_half_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FeatureStore(tmp_path / "depot", create=True)
    fill(store, range(4))
    whole = Path.write_bytes
    for ending in (".h5", ".json"):

        def write(path: Path, data: bytes, ending: str = ending) -> int:
            if ending in path.name:
                whole(path, data[: len(data) // 2])
                raise OSError(28, "No space left on device")
            return whole(path, data)

        monkeypatch.setattr(Path, "write_bytes", write)
        with pytest.raises(StoreError, match="No space left on device"):
            fill(store, range(8))
        monkeypatch.setattr(Path, "write_bytes", whole)
        assert loose_files(tmp_path / "depot") == []
    assert fill(store, range(8)) == 4
    assert upkeep.verify(store).is_whole


def test_a_really_full_disk_does_not_take_the_process_down(tmp_path: Path) -> None:
    """A limit on file size is met where a full disk would be; HDF5 by itself crashes at exit there."""
    script = f"""
import resource, signal, sys, numpy as np
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "tests/worlds")!r}]
from depot_world import CLIP, keys_of
from deponij.store import FeatureStore
from deponij.store.errors import StoreError
store = FeatureStore({str(tmp_path / "depot")!r}, create=True)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
try:
    with store.writer(CLIP, {{}}) as writer:
        writer.add(keys_of(range(64)), {{"embedding": np.ones((64, 1 << 14), np.float32)}})
except StoreError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "File too large" in done.stdout
    assert loose_files(tmp_path / "depot") == []


# --- several processes ------------------------------------------------------------------------


def test_two_writers_and_readers_at_once(tmp_path: Path) -> None:
    path = tmp_path / "depot"
    FeatureStore(path, create=True)
    everything = keys_of(range(240))

    def write(start: int) -> None:
        numbers = [*range(start, 240), *range(start)]
        store = FeatureStore(path)
        for block in range(0, 240, 40):
            chosen = sorted(numbers[block : block + 40])
            fill(store, range(chosen[0], chosen[-1] + 1), batch=5, shard_rows=5)
            store.refresh()

    def read() -> None:
        store = FeatureStore(path)
        deadline = time.monotonic() + 120
        while len(store.keys(CLIP)) < 240 and time.monotonic() < deadline:
            known = store.keys(CLIP)
            assert len(known) == len(set(known))
            if known:
                rows = store.read(known, CLIP)["embedding"]
                np.testing.assert_array_equal(rows, vectors(known, "fp32"))
            assert not store.damaged
            store.refresh()
        assert store.keys(CLIP) == sorted(everything)

    def tidy() -> None:
        store = FeatureStore(path)
        for _ in range(15):
            upkeep.compact(store, target_bytes=20_000)
            time.sleep(0.01)

    children = [in_child(lambda s=s: write(s)) for s in (0, 120)]
    children += [in_child(read), in_child(read), in_child(tidy)]
    assert [finish(child) for child in children] == [0] * 5
    store = FeatureStore(path)
    assert store.keys(CLIP) == sorted(everything)
    store.sweep()
    assert loose_files(path) == []


def test_a_shard_that_goes_while_it_is_being_opened_is_looked_up_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HDF5 asks for the file's name once more after it has opened it, and fails in its own words."""
    store = FeatureStore(tmp_path / "depot", create=True)
    fill(store, range(8), shard_rows=4)
    reader = FeatureStore(tmp_path / "depot")
    expected = reader.read(keys_of(range(8)), CLIP)["embedding"]
    real, gone = h5py.File, []

    def late(source: object, *rest: object, **options: object) -> h5py.File:
        gone.append(source)
        monkeypatch.setattr(h5py, "File", real)
        upkeep.compact(store)
        raise OSError("Unable to synchronously open file (can't retrieve stat info for file)")

    monkeypatch.setattr(h5py, "File", late)
    np.testing.assert_array_equal(reader.read(keys_of(range(8)), CLIP)["embedding"], expected)
    assert gone and not Path(str(gone[0])).exists()


def test_a_reader_outlives_compaction(location: str) -> None:
    store = FeatureStore(location, create=True)
    fill(store, range(20))
    reader = FeatureStore(location)
    reader.read(keys_of(range(20)))
    upkeep.compact(store)
    np.testing.assert_array_equal(
        reader.read(keys_of(range(20)), CLIP)["embedding"], vectors(keys_of(range(20)), "fp32")
    )


def test_a_sweep_tells_the_living_from_the_dead(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path / "depot", create=True)
    fill(store, range(1))
    folder = tmp_path / "depot" / CLIP.fingerprint
    with WriterLock(open_folder(tmp_path / "depot")) as living:
        (folder / f"{living.token}-000000.h5").write_bytes(b"about to be committed")
        (folder / f"{living.token}-000001.h5.1.part").write_bytes(b"in the making")
        (folder / "gone.1.0a1b2c3d-000000.h5").write_bytes(b"")
        (folder / "gone.1.0a1b2c3d-000001.json.1.part").write_bytes(b"")
        (tmp_path / "depot" / "writers" / "gone.1.0a1b2c3d.lock").write_bytes(b"")
        (folder / "notes.part").write_bytes(b"not the depot's")
        assert store.sweep() == [
            f"{CLIP.fingerprint}/gone.1.0a1b2c3d-000000.h5",
            f"{CLIP.fingerprint}/gone.1.0a1b2c3d-000001.json.1.part",
        ]
        assert len(list((tmp_path / "depot" / "writers").iterdir())) == 1
    assert len(store.sweep()) == 2
    assert (folder / "notes.part").exists()


def test_a_forked_child_does_not_keep_a_dead_writer_alive(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path / "depot", create=True)
    present = tmp_path / "depot" / "writers"

    def write_and_die() -> None:
        with WriterLock(open_folder(tmp_path / "depot")):
            (tmp_path / "child").write_text(str(in_child(lambda: time.sleep(300))))
            os.kill(os.getpid(), signal.SIGKILL)

    assert finish(in_child(write_and_die)) == -signal.SIGKILL
    assert len(list(present.iterdir())) == 1
    try:
        # The grandchild may not have run yet: it lets go as soon as it does.
        deadline = time.monotonic() + 60
        while list(present.iterdir()) and time.monotonic() < deadline:
            store.sweep()
        assert not list(present.iterdir())
    finally:
        os.kill(int((tmp_path / "child").read_text()), signal.SIGKILL)


def test_a_lock_on_a_file_that_was_taken_away_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between opening and locking another process may rename or remove the file."""
    path = tmp_path / "lock"
    flock = fcntl.flock

    def taken_away(descriptor: int, operation: int) -> None:
        monkeypatch.setattr(fcntl, "flock", flock)
        path.rename(tmp_path / "published")
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", taken_away)
    held = locks.hold(path)
    assert held is not None
    assert os.path.samestat(os.fstat(held), path.stat())
    assert locks.hold(path) is None
    locks.release(held)


def test_a_listing_that_was_overtaken_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scan of a folder may miss a shard and what it was compacted into; two equal scans do not."""
    store = FeatureStore(tmp_path / "depot", create=True)
    fill(store, range(4))
    whole = store.folder.names()
    listings = iter([[FORMAT_FILE], whole, whole])
    monkeypatch.setattr(store.folder, "names", lambda: next(listings))
    store.refresh()
    assert store.missing(CLIP, keys_of(range(4))) == []


def test_importing_the_store_is_light() -> None:
    script = (
        "import sys, json, deponij.store, deponij.store.depot, deponij.store.view\n"
        "print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))\n"
        "print(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )
    loaded = set(json.loads(done.stdout.splitlines()[0]))
    assert not loaded & {"torch", "pandas", "pyarrow", "fsspec", "aiohttp", "pydantic"}
    modules = json.loads(done.stdout.splitlines()[1])
    assert not [
        name for name in modules if name.startswith(("deponij.pipeline", "deponij.project", "deponij.stages"))
    ]
    from_errors = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, deponij.store.errors, deponij.store.keys; sys.exit('numpy' in sys.modules)",
        ],
        check=False,
        cwd=ROOT,
    )
    assert from_errors.returncode == 0
