"""Checking, compacting, merging, collecting and migrating: right in the end, and at every step between."""

import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import maps_world
import numpy as np
import pytest
from depot_world import CLIP, OTHER, die_at_step, dump, fill, keys_of, loose_files, vectors

from deponij.store import hdf5, shard
from deponij.store.depot import FORMAT_FILE, FeatureStore
from deponij.store.errors import StoreError
from deponij.store.folders import Folder, open_folder
from deponij.store.presence import WriterLock, tidying
from deponij.store.reading import MapReader
from deponij.store.sealed import sealed, unsealed
from deponij.store.upkeep import inspection as upkeep
from deponij.store.upkeep import migration
from deponij.store.view import View


@pytest.fixture(params=["local", "memory"])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "depot") if request.param == "local" else f"memory://{uuid.uuid4().hex}"


def test_info_counts_what_is_there(location: str) -> None:
    store = FeatureStore(location, create=True)
    fill(store, range(10), provenance={"device": "cpu"})
    fill(store, range(3), identity=OTHER)
    found = upkeep.info(store)
    assert (found.n_rows, found.damaged, found.orphans, found.format) == (13, {}, [], shard.FORMAT)
    one = next(line for line in found.identities if line.identity == CLIP)
    assert (one.n_rows, one.n_double, one.n_shards) == (10, 0, 3)
    assert one.arrays == {"embedding": [(6,)]}
    assert one.provenance == {"device": {"cpu": 10}}
    assert one.n_bytes == sum(s.size_bytes for s in store.sidecars if s.identity == CLIP)
    assert found.n_bytes == sum(line.n_bytes for line in found.identities)


def _double(store: FeatureStore, numbers: range, provenance: dict[str, Any]) -> None:
    """Rows once more, as after a race of two writers."""
    keys = keys_of(numbers)
    with store.writer(CLIP, provenance) as writer:
        writer.add(keys, {"embedding": vectors(keys, "fp32")})


def of_rows(store: FeatureStore) -> list[str]:
    """Files, but who was at work."""
    return [name for name in store.folder.names() if not name.startswith("writers/")]


def test_compacting_keeps_every_row_and_its_provenance(location: str) -> None:
    store = FeatureStore(location, create=True)
    fill(store, range(40), provenance={"device": "cpu"})
    _double(store, range(30, 50), {"device": "cuda"})
    fill(store, range(6), identity=OTHER)
    before = dump(store)
    steps: list[tuple[int, int]] = []
    report = upkeep.compact(store, progress=lambda *at: steps.append(at))
    assert (report.n_shards_before, report.n_shards_after, report.n_double) == (13, 2, 10)
    assert report.damaged == {}
    assert steps[-1] == (13, 13)
    assert steps == sorted(steps)
    assert dump(store) == dump(FeatureStore(location)) == before
    one = next(line for line in upkeep.info(store).identities if line.identity == CLIP)
    assert sum(one.provenance["device"].values()) == one.n_rows == 50
    assert set(one.provenance["device"]) == {"cpu", "cuda"}
    assert upkeep.verify(store).n_rows == 56
    names = of_rows(store)
    assert upkeep.compact(store).n_shards_after == 2
    assert of_rows(store) == names, "nothing was left to do"


def test_compacting_makes_shards_of_the_size_asked_for(location: str) -> None:
    store = FeatureStore(location, create=True)
    fill(store, range(80))
    size_bytes = store.sidecars[0].size_bytes
    upkeep.compact(store, target_bytes=5 * size_bytes)
    assert [len(s.keys) for s in store.sidecars] == [20, 20, 20, 20]


def test_compacting_does_not_seal_damage(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path / "depot", create=True)
    fill(store, range(8))
    _double(store, range(4), {})
    bad = sorted((tmp_path / "depot").glob("*/*.h5"))[0]
    whole = bad.read_bytes()
    bad.write_bytes(whole[:-20] + bytes(20))
    report = upkeep.compact(store)
    assert list(report.damaged) == [f"{CLIP.fingerprint}/{bad.stem}"]
    assert bad.exists()
    upkeep.verify(store, repair=True)
    np.testing.assert_array_equal(
        store.read(keys_of(range(8)), CLIP)["embedding"], vectors(keys_of(range(8)), "fp32")
    )


def test_rows_that_were_wrong_from_the_start_are_not_carried_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FeatureStore(tmp_path / "depot", create=True)
    checksums = shard.row_checksums
    monkeypatch.setattr(shard, "row_checksums", lambda arrays, n_rows: checksums(arrays, n_rows) + 1)
    fill(store, range(8))
    monkeypatch.setattr(shard, "row_checksums", checksums)
    assert set(upkeep.verify(store).damaged.values()) == {"4 rows do not fit their checksums"}
    assert len(upkeep.compact(store).damaged) == 2
    assert len(store.sidecars) == 2


def test_merging_takes_what_is_not_known_here(location: str, tmp_path: Path) -> None:
    store = FeatureStore(location, create=True)
    other = FeatureStore(tmp_path / "gpu machine", create=True)
    fill(store, range(10), provenance={"device": "cpu"})
    fill(other, range(5, 20), provenance={"device": "cuda"})
    fill(other, range(4), identity=OTHER, provenance={"device": "cuda"})
    report = upkeep.merge(store, other)
    assert report.n_rows == {CLIP.fingerprint: 10, OTHER.fingerprint: 4}
    both = FeatureStore(tmp_path / "both", create=True)
    fill(both, range(20))
    fill(both, range(4), identity=OTHER)
    assert dump(store) == dump(both)
    one = next(line for line in upkeep.info(store).identities if line.identity == CLIP)
    assert (one.provenance, one.n_double) == ({"device": {"cpu": 10, "cuda": 10}}, 0)
    names = store.folder.names()
    assert upkeep.merge(store, other).n_rows == {}
    assert store.folder.names() == names
    assert upkeep.merge(store, store).n_rows == {}


def test_merging_leaves_damage_where_it_is(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path / "depot", create=True)
    other = FeatureStore(tmp_path / "other", create=True)
    fill(other, range(8))
    bad = sorted((tmp_path / "other").glob("*/*.h5"))[0]
    bad.write_bytes(bad.read_bytes()[:100])
    report = upkeep.merge(store, other)
    assert report.n_rows == {CLIP.fingerprint: 4}
    assert list(report.damaged) == [f"{CLIP.fingerprint}/{bad.stem}"]


def test_collecting_says_first_and_does_then(location: str) -> None:
    store = FeatureStore(location, create=True)
    fill(store, range(12))
    fill(store, range(12), identity=OTHER)
    before = dump(store)
    keep = keys_of([0, 1, 2, 3, 5])
    plan = upkeep.gc(store, keep)
    assert plan.dry_run
    line = plan.lines[CLIP.fingerprint]
    assert (line.n_rows_kept, line.n_rows_gone) == (5, 7)
    assert 0 < line.n_bytes_kept < line.n_bytes_gone
    assert dump(store) == before
    done = upkeep.gc(store, keep, dry_run=False)
    assert done.lines == plan.lines
    assert dump(store) == {f: {k: row for k, row in rows.items() if k in keep} for f, rows in before.items()}
    assert upkeep.verify(store).is_whole
    assert fill(store, range(12)) == 7
    assert dump(store)[CLIP.fingerprint] == before[CLIP.fingerprint]


def test_collecting_by_identity(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path / "depot", create=True)
    fill(store, range(6))
    fill(store, range(6), identity=OTHER)
    with pytest.raises(StoreError, match="the depot has no identity nosuch"):
        upkeep.gc(store, set(keys_of(range(6))), keep_identities={"nosuch"})
    upkeep.gc(store, set(keys_of(range(6))), keep_identities={CLIP.fingerprint}, dry_run=False)
    assert list(dump(store)) == [CLIP.fingerprint]
    fill(store, range(6), identity=OTHER)
    upkeep.gc(store, {OTHER.fingerprint: keys_of([2])}, dry_run=False)
    assert store.keys(CLIP) == []
    assert store.keys(OTHER) == keys_of([2])


def test_collecting_leaves_living_writers_their_rows(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path / "depot", create=True)
    with store.writer(CLIP, {}) as writer:
        writer.add(keys_of([0]), {"embedding": vectors(keys_of([0]))})
        writer.flush()
        report = upkeep.gc(FeatureStore(tmp_path / "depot"), set(), dry_run=False)
        assert len(report.in_use) == 1
        assert report.lines[CLIP.fingerprint].n_rows_gone == 0
    assert upkeep.gc(store, set(), dry_run=False).lines[CLIP.fingerprint].n_rows_gone == 1
    assert store.keys(CLIP) == []


def test_one_process_tidies_at_a_time(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path / "depot", create=True)
    with tidying(open_folder(tmp_path / "depot")):
        for work in (
            lambda: upkeep.compact(store),
            lambda: upkeep.gc(store, set(), dry_run=False),
            lambda: upkeep.verify(store, repair=True),
        ):
            with pytest.raises(StoreError, match="another process is compacting"):
                work()
    upkeep.compact(store)
    assert not list((tmp_path / "depot" / "writers").iterdir())


# --- kills at every step ----------------------------------------------------------------------


def _prepare(path: Path) -> None:
    store = FeatureStore(path, create=True)
    fill(store, range(10))
    _double(store, range(8, 12), {})
    fill(store, range(2), identity=OTHER)


def _prepare_damaged(path: Path) -> None:
    _prepare(path)
    store = FeatureStore(path)
    name = next(s.name for s in store.sidecars if s.identity == CLIP and keys_of([0])[0] in s.keys)
    bad = path / f"{name}.h5"
    bad.write_bytes(bad.read_bytes()[:-1])


def _prepare_other(path: Path) -> None:
    _prepare(path)
    fill(FeatureStore(path.parent / f"{path.name} other", create=True), range(5, 20))


JOBS: dict[str, tuple[Callable[[Path], None], Callable[[Path], object]]] = {
    "compact": (_prepare, lambda path: upkeep.compact(FeatureStore(path))),
    "gc": (_prepare, lambda path: upkeep.gc(FeatureStore(path), set(keys_of(range(1, 6))), dry_run=False)),
    "repair": (_prepare_damaged, lambda path: upkeep.verify(FeatureStore(path), repair=True)),
    "merge": (
        _prepare_other,
        lambda path: upkeep.merge(FeatureStore(path), FeatureStore(path.parent / f"{path.name} other")),
    ),
}


def _n_rows(store: FeatureStore) -> int:
    """Rows in all shards; one that lies in two counts twice."""
    return sum(len(sidecar.keys) for sidecar in store.sidecars)


@pytest.mark.parametrize("name", JOBS)
def test_a_kill_at_every_step_of_tidying(tmp_path: Path, name: str) -> None:
    prepare, job = JOBS[name]
    prepare(tmp_path / "calm")
    job(tmp_path / "calm")
    calm = dump(FeatureStore(tmp_path / "calm"))
    step = 1
    while True:
        path = tmp_path / str(step)
        prepare(path)
        reader = FeatureStore(path)
        if not die_at_step(lambda path=path: job(path), step):
            break
        after = dump(FeatureStore(path)) if name != "repair" else {}
        if name == "compact":
            assert after == calm, f"killed at step {step}"
        job(path)
        store = FeatureStore(path)
        assert dump(store) == calm, f"killed at step {step}"
        loose = [n for n in loose_files(path) if not n.startswith("damaged/")]
        assert loose == [] or name == "repair", f"killed at step {step}"
        assert _n_rows(store) == _n_rows(FeatureStore(tmp_path / "calm")), f"killed at step {step}"
        store.sweep()
        assert [n for n in loose_files(path) if not n.startswith("damaged/")] == []
        assert upkeep.verify(store).damaged == {}
        kept = store.keys(CLIP)
        assert len(reader.read(kept, CLIP)["embedding"]) == len(kept), "a reader from before goes on"
        step += 1
    assert step > 10


# --- formats ----------------------------------------------------------------------------------


def _make_older(path: Path) -> None:
    """A depot as a version 0 could have written it: keys as a list, arrays not named in the sidecar."""
    for sidecar in path.glob("*/*.json"):
        body = unsealed(sidecar.read_bytes())
        joined = body.pop("keys")
        body["key_list"] = [joined[start : start + 40] for start in range(0, len(joined), 40)]
        del body["arrays"]
        sidecar.write_bytes(sealed({**body, "format": 0}))
    (path / FORMAT_FILE).write_text(json.dumps({"format": "deponij-depot", "version": 0}))


def _from_0_to_1(folder: Folder, progress: Callable[[int, int], None] | None) -> None:
    def change(body: dict[str, Any]) -> dict[str, Any]:
        source = folder.source(f"{body['shard']}.h5")
        with h5py.File(source) as file:
            arrays = {name: list(values.shape[1:]) for name, values in file["arrays"].items()}
        return {**body, "keys": "".join(body.pop("key_list")), "arrays": arrays}

    migration.rewrite_sidecars(folder, 0, change, progress)


def test_an_older_depot_is_refused_until_it_is_migrated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "depot"
    _prepare(path)
    before = dump(FeatureStore(path))
    _make_older(path)
    with pytest.raises(
        StoreError, match=f"has format 0, this Deponij reads {shard.FORMAT}: run `deponij depot migrate`"
    ):
        FeatureStore(path)
    with pytest.raises(StoreError, match="no way from format 0"):
        upkeep.migrate(path)
    monkeypatch.setitem(upkeep.MIGRATIONS, 0, _from_0_to_1)
    with WriterLock(open_folder(path)), pytest.raises(StoreError, match="somebody is writing"):
        upkeep.migrate(path)
    steps: list[tuple[int, int]] = []
    assert upkeep.migrate(path, progress=lambda *at: steps.append(at)) == list(range(shard.FORMAT))
    assert steps[-1] == (5, 5)
    assert dump(FeatureStore(path)) == before
    assert upkeep.verify(FeatureStore(path)).is_whole
    assert upkeep.migrate(path) == []
    assert loose_files(path) == []


def test_nothing_of_the_first_format_is_computed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Format 1 differs in how maps lie in their files: as other arrays do, in chunks of rows."""
    path = tmp_path / "depot"
    with monkeypatch.context() as patch:
        patch.setattr(
            hdf5,
            "write_maps",
            lambda group, maps: [hdf5.write_array(group, name, one) for name, one in sorted(maps.items())],
        )
        view = maps_world.write_maps(tmp_path, range(6))
    fill(FeatureStore(path), range(8))
    for sidecar in path.glob("*/*.json"):
        sidecar.write_bytes(sealed({**unsealed(sidecar.read_bytes()), "format": 1}))
    (path / FORMAT_FILE).write_text(json.dumps({"format": "deponij-depot", "version": 1}))
    with pytest.raises(StoreError, match=f"has format 1, this Deponij reads {shard.FORMAT}: run"):
        FeatureStore(path)
    before = {one.name: one.read_bytes() for one in path.glob("*/*.h5")}
    assert upkeep.migrate(path) == [1]
    assert {one.name: one.read_bytes() for one in path.glob("*/*.h5")} == before
    store = FeatureStore(path)
    assert store.missing(CLIP, keys_of(range(8))) == []
    assert upkeep.verify(store).is_whole
    expected = maps_world.maps_of([5, 1])
    found = MapReader(View(view.path, depot=store)).read(["item5", "item1"])
    assert all(np.array_equal(found[name], values) for name, values in expected.items())
    # Whoever rewrites shards brings maps into tiles.
    upkeep.compact(store)
    for sidecar in FeatureStore(path).sidecars:
        if sidecar.identity.is_of_maps:
            with h5py.File(path / f"{sidecar.name}.h5") as file:
                assert file["arrays/stride8"].chunks == (1, 80, 23, 30)
    found = MapReader(View(view.path, depot=FeatureStore(path))).read(["item5", "item1"])
    assert all(np.array_equal(found[name], values) for name, values in expected.items())


def test_a_kill_at_every_step_of_a_migration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(upkeep.MIGRATIONS, 0, _from_0_to_1)
    _prepare(tmp_path / "calm")
    calm = dump(FeatureStore(tmp_path / "calm"))
    step = 1
    while True:
        path = tmp_path / str(step)
        _prepare(path)
        _make_older(path)
        if not die_at_step(lambda path=path: upkeep.migrate(path), step):
            break
        upkeep.migrate(path)
        # The depot now holds the same rows, though its shards have other names than the calm one's.
        assert loose_files(path) == [], f"killed at step {step}"
        assert dump(FeatureStore(path)) == calm, f"killed at step {step}"
        step += 1
    assert step > 20


def test_a_newer_depot_is_refused(tmp_path: Path) -> None:
    FeatureStore(tmp_path / "depot", create=True)
    (tmp_path / "depot" / FORMAT_FILE).write_text(json.dumps({"format": "deponij-depot", "version": 7}))
    for work in (
        lambda: FeatureStore(tmp_path / "depot", create=True),
        lambda: upkeep.migrate(tmp_path / "depot"),
    ):
        with pytest.raises(StoreError, match="has format 7, .*install a newer Deponij"):
            work()
    with pytest.raises(StoreError, match="there is no depot"):
        upkeep.migrate(tmp_path / "none")
