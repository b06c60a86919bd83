"""Rows are read however often their shards are tidied away between look-up and reading; a file that is lost is told."""

from pathlib import Path

import numpy as np
import pytest
from depot_world import CLIP, fill, keys_of, vectors

from deponij.store import shard
from deponij.store.depot import FeatureStore
from deponij.store.errors import StoreError

KEYS = keys_of(range(8))


def replace_shard(path: Path) -> None:
    """What compaction does: the rows lie in another shard, and the first is gone."""
    store = FeatureStore(path)
    (old,) = store.sidecars
    with store.writer(CLIP, {}, shard_rows=len(KEYS)) as writer:
        writer.add(KEYS, {"embedding": vectors(KEYS, CLIP.precision)})
    store.retire(old.name)


def test_a_row_is_found_however_often_it_moves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "depot"
    fill(FeatureStore(path, create=True), range(8), batch=8, shard_rows=8)
    store, moves, real = FeatureStore(path), iter(range(20)), shard.read

    def read(*args: object, **kwargs: object) -> object:
        if next(moves, None) is not None:
            replace_shard(path)
        return real(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(shard, "read", read)
    np.testing.assert_array_equal(store.read(KEYS, CLIP)["embedding"], vectors(KEYS, CLIP.precision))
    assert next(moves, None) is None, "the rows moved less often than they should"


def test_a_file_that_is_lost_is_looked_for_a_few_times_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "depot"
    fill(FeatureStore(path, create=True), range(8), batch=8, shard_rows=8)
    next(path.glob("*/*.h5")).unlink()
    store, n_asked = FeatureStore(path), 0
    real = FeatureStore.places

    def places(self: FeatureStore, *args: object) -> object:
        nonlocal n_asked
        n_asked += 1
        return real(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(FeatureStore, "places", places)
    with pytest.raises(StoreError, match="has lost its file"):
        store.read(KEYS, CLIP)
    assert n_asked == 5
