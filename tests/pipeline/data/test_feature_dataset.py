"""Stored features in a DataLoader: expected values are the arrays that were written."""

from pathlib import Path

import numpy as np
import pytest
import torch
from depot_world import CLIP, keys_of, vectors
from maps_world import ids_of, maps_of, write_maps
from torch.utils.data import DataLoader

import deponij
from deponij.store.errors import DataError, StoreError
from deponij.store.shard import row_checksums
from deponij.store.view import View, write_view

N = 6


@pytest.fixture
def maps(tmp_path: Path) -> View:
    return write_maps(tmp_path, range(N))


@pytest.fixture
def vector_view(tmp_path: Path) -> Path:
    path, keys = tmp_path / "vectors.h5", keys_of(range(N))
    arrays = {"embedding": vectors(keys)}
    checksums = row_checksums(arrays, N)
    write_view(
        path,
        identity=CLIP,
        backbone="tiny",
        ids=ids_of(range(N)),
        keys=keys,
        checksums=checksums,
        arrays=arrays,
    )
    return path


def test_vectors_with_targets(vector_view: Path) -> None:
    targets = {item_id: number % 3 for number, item_id in enumerate(ids_of(range(N))) if number != 4}
    dataset = deponij.dataset(vector_view, targets=targets)
    [(features, found)] = DataLoader(dataset, batch_size=N)
    assert found.tolist() == [0, 1, 2, 0, 2]
    np.testing.assert_array_equal(features.numpy(), vectors(keys_of([0, 1, 2, 3, 5])))
    first, target = dataset[1]
    assert first.dtype == torch.float32 and target == 1


def test_some_items_in_an_order(vector_view: Path) -> None:
    dataset = deponij.dataset(vector_view, ids=["item5", "item0"])
    np.testing.assert_array_equal(torch.stack(list(dataset)).numpy(), vectors(keys_of([5, 0])))
    with pytest.raises(DataError, match="1 of 2 ids have no target, the first: 'item0'"):
        deponij.dataset(vector_view, ids=["item5", "item0"], targets={"item5": 1})
    with pytest.raises(StoreError, match="'nobody'"):
        deponij.dataset(vector_view, ids=["nobody"])


def test_maps_are_read_a_batch_at_a_time(maps: View, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = deponij.dataset(maps)
    asked: list[list[str]] = []
    read = type(dataset.reader).read
    monkeypatch.setattr(
        type(dataset.reader), "read", lambda self, ids: asked.append(list(ids)) or read(self, ids)
    )
    batches = list(DataLoader(dataset, batch_size=4))
    assert asked == [ids_of(range(4)), ids_of(range(4, N))]
    for batch, numbers in zip(batches, (range(4), range(4, N)), strict=True):
        for name, values in maps_of(numbers).items():
            np.testing.assert_array_equal(batch[name].numpy(), values)


@pytest.mark.parametrize("how", ["fork", "spawn"])
def test_workers_open_their_own_files(maps: View, tmp_path: Path, how: str) -> None:
    dataset = deponij.dataset(maps.path, depot=tmp_path / "depot", targets=dict.fromkeys(ids_of(range(N)), 7))
    dataset[0]  # files are open here
    loader = DataLoader(dataset, batch_size=2, num_workers=2, multiprocessing_context=how)
    for start, (batch, targets) in zip(range(0, N, 2), loader, strict=True):
        assert targets.tolist() == [7, 7]
        for name, values in maps_of([start, start + 1]).items():
            np.testing.assert_array_equal(batch[name].numpy(), values)


def test_a_depot_that_is_not_here(maps: View, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEPONIJ_DEPOT", str(tmp_path / "depot"))
    assert len(deponij.dataset(maps.path)) == N
    monkeypatch.setenv("DEPONIJ_DEPOT", str(tmp_path / "elsewhere"))
    with pytest.raises(
        StoreError, match=r"maps\.h5 names maps .*there is no depot at .*depot merge OTHER .*elsewhere"
    ):
        deponij.dataset(maps.path)
