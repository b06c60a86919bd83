"""Slow extractions: what is not yet a full shard is saved by stand-ins, and in the end nothing of them is left."""

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from depot_world import CLIP, die_at_step, dump, fill, keys_of, loose_files, vectors

from deponij.store import shard, writer
from deponij.store.depot import FORMAT_FILE, FeatureStore, stands_in_for
from deponij.store.errors import StoreError
from deponij.store.upkeep import inspection as upkeep
from deponij.store.upkeep import tidying

N_ROWS, BATCH, SHARD_ROWS = 250, 8, 100


class Clock:
    """Stands for the writer's clock."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    made = Clock()
    monkeypatch.setattr(writer, "monotonic", made)
    return made


def contents(store: FeatureStore) -> list[tuple[str, ...]]:
    """The keys of each shard."""
    return [sidecar.keys for sidecar in FeatureStore(store.location).sidecars]


def saved(path: Path) -> int:
    """How many rows a kill at this moment would leave."""
    return len(FeatureStore(path).keys(CLIP)) if (path / FORMAT_FILE).exists() else 0


@pytest.mark.parametrize("step_s", [0.1, 1.6, 4.0, 14.0, 40.0])
def test_a_kill_costs_seconds_however_slow_the_model_is(tmp_path: Path, clock: Clock, step_s: float) -> None:
    """At every moment: the time since the work began that is not yet committed."""
    store = FeatureStore(tmp_path / "slow", create=True)
    keys, begun_s, n_saved, lost_s = keys_of(range(N_ROWS)), [], 0, []
    with store.writer(CLIP, {}, shard_rows=SHARD_ROWS) as out:
        for start in range(0, N_ROWS, BATCH):
            begun_s += [clock.now_s] * BATCH
            clock.now_s += step_s
            lost_s.append(clock.now_s - begun_s[n_saved])
            part = keys[start : start + BATCH]
            out.add(part, {"embedding": vectors(part)})
            n_saved = saved(tmp_path / "slow")
    assert max(lost_s) <= max(15.0, step_s) + 1e-6
    assert out.n_rows == N_ROWS
    fast = FeatureStore(tmp_path / "fast", create=True)
    with fast.writer(CLIP, {}, shard_rows=SHARD_ROWS, unsaved_s=1e9) as out:
        for start in range(0, N_ROWS, BATCH):
            part = keys[start : start + BATCH]
            out.add(part, {"embedding": vectors(part)})
    assert contents(store) == contents(fast)
    assert [len(one) for one in contents(fast)] == [104, 104, 42]
    assert dump(store) == dump(fast)
    assert loose_files(tmp_path / "slow") == []


def test_a_pace_that_changes_costs_one_batch_more_at_most(tmp_path: Path, clock: Clock) -> None:
    """The next batch is expected to take as long as the last one; it may take longer."""
    store, pace = FeatureStore(tmp_path / "depot", create=True), random.Random(3)
    keys, begun_s, n_saved, over_s = keys_of(range(1600)), [], 0, []
    with store.writer(CLIP, {}) as out:
        for start in range(0, 1600, BATCH):
            begun_s += [clock.now_s] * BATCH
            step_s = pace.choice([0.2, 1.0, 3.0])
            clock.now_s += step_s
            over_s.append(clock.now_s - begun_s[n_saved] - 15 - step_s)
            part = keys[start : start + BATCH]
            out.add(part, {"embedding": vectors(part)})
            n_saved = saved(tmp_path / "depot")
    assert max(over_s) <= 1e-6


def test_a_shard_is_full_by_bytes_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "SHARD_BYTES", vectors(keys_of(range(4))).nbytes)
    fill(FeatureStore(tmp_path / "depot", create=True), range(10), batch=2, shard_rows=99)
    assert [len(keys) for keys in contents(FeatureStore(tmp_path / "depot"))] == [4, 4, 2]


def slow(path: Path) -> None:
    """Ten rows in shards of four by batches of two: each batch is saved at once."""
    fill(FeatureStore(path, create=True), range(10), batch=2, unsaved_s=0)


def test_a_kill_at_every_step_loses_no_row_and_leaves_none_twice(tmp_path: Path) -> None:
    slow(tmp_path / "calm")
    calm = dump(FeatureStore(tmp_path / "calm"))
    assert [len(keys) for keys in contents(FeatureStore(tmp_path / "calm"))] == [4, 4, 2]
    n_known_after, n_doubled, step = [], 0, 1
    while die_at_step(lambda path=tmp_path / str(step): slow(path), step):
        path = tmp_path / str(step)
        if (path / FORMAT_FILE).exists():
            after = dump(FeatureStore(path))
            n_known_after.append(sum(len(rows) for rows in after.values()))
            n_doubled += sum(map(len, contents(FeatureStore(path)))) > n_known_after[-1]
            assert all(calm[f][key] == row for f, rows in after.items() for key, row in rows.items())
        slow(path)
        assert dump(FeatureStore(path)) == calm, f"killed at step {step}"
        assert loose_files(path) == [], f"killed at step {step}"
        assert sum(map(len, contents(FeatureStore(path)))) == 10, (
            f"killed at step {step}: a row is there twice"
        )
        step += 1
    assert n_known_after == sorted(n_known_after)
    assert set(n_known_after) == {0, 2, 4, 6, 8, 10}
    assert n_doubled > 3, "the test is about kills between a shard and the end of its stand-ins, too"


def test_stand_ins_go_only_for_a_sound_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "depot"
    with monkeypatch.context() as patch:
        patch.setattr(FeatureStore, "retire", lambda *_: None)  # as a kill would leave it
        fill(FeatureStore(path, create=True), range(4), batch=2, unsaved_s=0)
    store = FeatureStore(path)
    assert [stands_in_for(one.name) is None for one in store.sidecars] == [True, False]
    file = path / f"{store.sidecars[0].name}.h5"
    whole = file.read_bytes()
    file.write_bytes(whole[:-20] + bytes(20))
    store.sweep()
    assert len(contents(store)) == 2
    file.write_bytes(whole)
    store.sweep()
    assert [len(keys) for keys in contents(store)] == [4]
    assert loose_files(path) == []


def test_compacting_leaves_the_stand_ins_of_the_living(tmp_path: Path) -> None:
    store, keys = FeatureStore(tmp_path / "depot", create=True), keys_of(range(9))
    with store.writer(CLIP, {}, unsaved_s=0) as out:
        for start in range(0, 9, 3):
            part = keys[start : start + 3]
            out.add(part, {"embedding": vectors(part)})
        assert upkeep.compact(FeatureStore(tmp_path / "depot")).n_shards_after == 3
    assert [len(one) for one in contents(store)] == [9]
    # What a dead writer has left is compacted as any other.
    more = {"batch": 3, "shard_rows": 99, "unsaved_s": 0.0}
    assert die_at_step(lambda: fill(FeatureStore(tmp_path / "depot"), range(20, 40), **more), 40)
    assert len(contents(store)) > 2
    assert upkeep.compact(FeatureStore(tmp_path / "depot")).n_shards_after == 1


def test_merging_from_a_depot_that_is_being_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand-ins that give way while they are read are no damage, and their rows come from the full shard."""
    other, keys = FeatureStore(tmp_path / "other", create=True), keys_of(range(6))
    real = tidying.read_part
    with other.writer(CLIP, {}, unsaved_s=0) as out:
        for start in (0, 2, 4):
            part = keys[start : start + 2]
            out.add(part, {"embedding": vectors(part)})

        def read_part(*of):  # type: ignore[no-untyped-def]
            out.flush()
            return real(*of)

        monkeypatch.setattr(tidying, "read_part", read_part)
        mine = FeatureStore(tmp_path / "mine", create=True)
        report = upkeep.merge(mine, FeatureStore(tmp_path / "other"))
    assert (report.damaged, sum(report.n_rows.values())) == ({}, 6)
    assert dump(mine) == dump(other)


def test_a_disk_that_fills_while_joining_costs_no_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, keys = FeatureStore(tmp_path / "depot", create=True), keys_of(range(8))
    real = shard.commit

    def commit(folder, name, *rest, **more):  # type: ignore[no-untyped-def]
        if stands_in_for(name) is None:
            raise StoreError("cannot write: No space left on device")
        return real(folder, name, *rest, **more)

    monkeypatch.setattr(shard, "commit", commit)
    with (
        pytest.raises(StoreError, match="No space left"),
        store.writer(CLIP, {}, unsaved_s=0, shard_rows=99) as out,
    ):
        for start in (0, 4):
            part = keys[start : start + 4]
            out.add(part, {"embedding": vectors(part)})
    found = FeatureStore(tmp_path / "depot").read(keys, CLIP)["embedding"]
    np.testing.assert_array_equal(found, vectors(keys))
