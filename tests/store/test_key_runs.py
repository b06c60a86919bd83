"""Runs of sorted keys, in memory and in files: they answer as the plain index does, and no damaged byte is believed."""

import gc
import os
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from depot_world import CLIP, keys_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deponij.store.places import pages, records, run_file, runs
from deponij.store.places.finding import find, placed
from deponij.store.places.pages import CacheDamaged
from deponij.store.places.run_file import FileRun, write_run
from deponij.store.places.runs import Level, MemoryRun, Run
from deponij.store.shard import Shard, Sidecar
from deponij.store.upkeep.whole_index import Index


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


@settings(max_examples=60, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
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


@pytest.mark.parametrize("stretch", [1, 3, 7])
def test_a_file_is_read_in_several_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stretch: int
) -> None:
    """2000 places of 28 bytes are 14 pages side by side, many times what is read in one go."""
    monkeypatch.setattr(pages, "_STRETCH", stretch)
    run = MemoryRun.of([made_shard(0, 2000)], [bytes.fromhex("".join(keys_of(range(2000))))])
    written = in_file(tmp_path, Level(run))
    np.testing.assert_array_equal(np.concatenate(list(written.pieces())), np.concatenate(list(run.pieces())))


def test_a_file_that_nobody_uses_any_more_is_closed(tmp_path: Path) -> None:
    facts = in_file(tmp_path, Level(MemoryRun.of([made_shard(0, 1)], [bytes(20)]))).facts
    gc.collect()
    n_open = len(os.listdir("/dev/fd"))  # noqa: PTH208
    for _ in range(5):
        FileRun(tmp_path, facts, CLIP)
    gc.collect()
    assert len(os.listdir("/dev/fd")) == n_open  # noqa: PTH208


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
