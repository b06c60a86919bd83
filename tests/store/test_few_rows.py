"""A few rows of many: read by themselves, each against its own checksum, whatever has become of their neighbours."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from depot_world import CLIP, DIM, fill, keys_of, vectors

from deponij.store import FeatureStore, View
from deponij.store.errors import StoreError
from deponij.store.keys import not_keys
from deponij.store.shard import row_checksums
from deponij.store.view import write_view

N = 80
KEYS = keys_of(range(N))
# Out of order and one of them twice.
SOME = [41, 7, 41, 60]


def rows_of(numbers: Sequence[int]) -> np.ndarray:
    """What a filled depot holds, [n, DIM]."""
    return vectors([KEYS[number] for number in numbers], CLIP.precision)


def flip(path: Path, row: int) -> None:
    """Change one byte in the middle of a row's vector."""
    raw = bytearray(path.read_bytes())
    at = raw.find(rows_of([row]).tobytes())
    assert at > 0
    raw[at + 2 * DIM] ^= 0xFF
    path.write_bytes(raw)


def held_against_their_checksums(path: Path, some: Callable[[], object], every: Callable[[], object]) -> None:
    """Damage beside the rows does not touch them, and is found by whoever reads everything; damage in them is told."""
    right = rows_of(SOME)
    np.testing.assert_array_equal(some(), right)
    flip(path, 8)
    np.testing.assert_array_equal(some(), right)
    with pytest.raises(StoreError):
        every()
    flip(path, 7)
    with pytest.raises(StoreError, match="row"):
        some()


def test_of_a_depot(tmp_path: Path) -> None:
    fill(FeatureStore(tmp_path / "depot", create=True), range(N), batch=N, shard_rows=N)
    store = FeatureStore(tmp_path / "depot")
    assert len(store.sidecars) == 1
    held_against_their_checksums(
        next((tmp_path / "depot").glob("*/*.h5")),
        lambda: store.read([KEYS[row] for row in SOME], CLIP)["embedding"],
        lambda: store.read(KEYS, CLIP),
    )


def test_of_a_view(tmp_path: Path) -> None:
    path, rows = tmp_path / "view.h5", rows_of(range(N))
    ids = [f"{row}.jpg" for row in range(N)]
    checksums = row_checksums({"embedding": rows}, N)
    write_view(
        path,
        identity=CLIP,
        backbone="clip",
        ids=ids,
        keys=KEYS,
        checksums=checksums,
        arrays={"embedding": rows},
    )
    held_against_their_checksums(
        path, lambda: View(path).read([ids[row] for row in SOME]), lambda: View(path).embedding
    )


def test_the_checksums_come_along_and_object_stores_give_the_same(tmp_path: Path) -> None:
    right = rows_of(SOME)
    for location in (tmp_path / "depot", "memory://few-rows"):
        store = FeatureStore(location, create=True)
        fill(store, range(N), batch=N, shard_rows=N)
        found = store.read([KEYS[row] for row in SOME], CLIP, ["checksums", "embedding"])
        np.testing.assert_array_equal(found["embedding"], right)
        assert found["checksums"].tolist() == row_checksums({"embedding": right}, len(SOME)).tolist()


def test_strangers_among_keys_are_named_in_order() -> None:
    assert not_keys(KEYS) == not_keys([]) == []
    # The second and third are as long as two keys together.
    strangers = ["x" * 40, KEYS[0][:-1], KEYS[0] + "a", KEYS[0].upper().replace("0", "A")]
    assert not_keys([KEYS[1], *strangers, KEYS[2]]) == strangers
    assert not_keys(one for one in strangers[1:3]) == strangers[1:3]
