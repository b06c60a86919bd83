"""Two and four extractors and as many readers on one depot, with `gc` and `compact` beside them: no row is wrong, lost or
told twice, and nobody is refused."""

import random
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from depot_world import CLIP, fill, finish, in_child, keys_of, loose_files, vectors
from ledger import Ledger, Row, seed

from deponij.store.depot import FeatureStore
from deponij.store.errors import StoreError
from deponij.store.upkeep import inspection as upkeep

SECTION = "A crowd on one depot"
N_KEPT = 400
# Rows that `gc` takes away, while others compute them again.
PASSING = range(N_KEPT, N_KEPT + 200)
BLOCK = 20


def extract(path: Path, number: int, until: float) -> None:
    """Compute what is missing, block after block in an order of one's own, again and again."""
    rng = random.Random(f"{seed()} {number}")
    blocks = list(range(0, PASSING.stop, BLOCK))
    while True:
        rng.shuffle(blocks)
        for start in blocks:
            fill(FeatureStore(path), range(start, start + BLOCK), batch=5, shard_rows=5)
        if time.monotonic() > until:
            return


def read(path: Path, number: int, until: float, told: Path) -> None:
    """Read all that is known and hold each row against its key; what was seen once stays, but for what `gc` takes."""
    store, kept, n_rows = FeatureStore(path), set(keys_of(range(N_KEPT))), 0
    rng, seen = random.Random(f"{seed()} reader {number}"), set()
    while time.monotonic() < until:
        store.refresh()
        assert not store.damaged
        known = store.keys(CLIP)
        assert len(known) == len(set(known)), "a key is told twice"
        assert seen <= set(known), "a row that was known is lost"
        seen = kept & set(known)
        asked = rng.sample(sorted(seen), min(50, len(seen)))
        if asked:
            rows = store.read(asked, CLIP)["embedding"]
            np.testing.assert_array_equal(rows, vectors(asked, "fp32"))
            n_rows += len(asked)
    told.write_text(str(n_rows))


def tidy(path: Path, work: Callable[[FeatureStore], object], until: float, told: Path) -> None:
    """Tidy again and again; another process that tidies at this moment is met with patience."""
    n_done = 0
    while time.monotonic() < until:
        try:
            work(FeatureStore(path))
            n_done += 1
        except StoreError as error:
            assert "another process is compacting, collecting or repairing" in str(error), error
    told.write_text(str(n_done))


def crowd(n: int, seconds: float, folder: Path, row: Row) -> None:
    """n extractors, n readers, one that compacts and one that collects."""
    path = folder / "depot"
    FeatureStore(path, create=True)
    fill(FeatureStore(path), range(40))
    kept = set(keys_of(range(N_KEPT)))
    until = time.monotonic() + seconds
    told = [folder / f"told {number}" for number in range(n + 2)]
    children = [in_child(lambda k=k: extract(path, k, until)) for k in range(n)]
    children += [in_child(lambda k=k: read(path, k, until, told[k])) for k in range(n)]
    collect = lambda store: upkeep.gc(store, kept, dry_run=False)  # noqa: E731
    compact = lambda store: upkeep.compact(store, target_bytes=4_000)  # noqa: E731
    children += [in_child(lambda: tidy(path, collect, until, told[n]))]
    children += [in_child(lambda: tidy(path, compact, until, told[n + 1]))]
    statuses = [finish(child) for child in children]
    for status in statuses:
        row.add("wrong" if status else "harmless")
    assert statuses == [0] * len(children)
    n_rows, (n_collected, n_compacted) = (
        sum(int(one.read_text()) for one in told[:n]),
        (int(one.read_text()) for one in told[n:]),
    )
    row.note = (
        f"{seconds:.0f} s: {n_rows:,} rows read, {n_collected} times collected, {n_compacted} times compacted"
    )
    print(row.note)
    assert n_rows and n_collected and n_compacted
    store = FeatureStore(path)
    upkeep.gc(store, kept, dry_run=False)
    upkeep.compact(store)
    assert set(store.keys(CLIP)) == kept
    np.testing.assert_array_equal(store.read(sorted(kept), CLIP)["embedding"], vectors(sorted(kept), "fp32"))
    assert sum(len(one.keys) for one in store.sidecars) == N_KEPT, "a row lies there twice"
    assert loose_files(path) == []


def test_a_crowd_for_a_moment(tmp_path: Path) -> None:
    crowd(2, 3.0, tmp_path, Row(SECTION, "two"))


@pytest.mark.torture
@pytest.mark.timeout(300)
@pytest.mark.parametrize("n", [2, 4])
def test_a_crowd_for_a_minute(n: int, tmp_path: Path, ledger: Ledger) -> None:
    crowd(n, 60.0, tmp_path, ledger.row(SECTION, f"{n} extractors, {n} readers, gc, compact"))
