"""The stage `likeness` on vectors whose likeness is known by hand."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from deponij.pipeline.given.files import of_frame
from deponij.project.extraction.given import give
from deponij.stages.likeness import LikenessParams, run
from deponij.store.errors import DataError
from deponij.store.items import Items, ItemWriter
from deponij.store.keys import key_of_name


def world(root: Path, angles_deg: list[float], photos: list[str] | None = None) -> dict[str, Path]:
    """A view of unit vectors in a plane at these angles, so that cosines are those of differences of angles."""
    names = [f"item-{row:02}" for row in range(len(angles_deg))]
    with ItemWriter(root / "items", pa.schema([])) as writer:
        for row, name in enumerate(names):
            photo = name if photos is None else photos[row]
            writer.add(content=b"x", metadata={}, item_id=name, key=key_of_name(name), image_id=photo)
    angles = np.radians(angles_deg)
    given = of_frame(np.stack([np.cos(angles), np.sin(angles)], axis=1), names)
    give(Items(root / "items"), given, name="plane", out=root / "plane.h5")
    return {"features": root / "plane.h5", "items": root / "items"}


def test_groups_and_distances_are_those_of_the_angles(tmp_path: Path) -> None:
    # Two within 1 degree, three within 1 degree of their middle, and one far from all.
    found = run(LikenessParams(min_cosine=0.9998, k=1), **world(tmp_path, [0, 1, 40, 41, 42, 120, 80]))
    assert found.n_groups == 2
    assert {frozenset(group.item_ids) for group in found.groups} == {
        frozenset(("item-00", "item-01")),
        frozenset(("item-02", "item-03", "item-04")),
    }
    assert found.n_surplus == 1 + 2
    by_size = {group.n: group for group in found.groups}
    # Of the three the two at the rims are two degrees apart.
    assert by_size[3].lowest == pytest.approx(np.cos(np.radians(2)), abs=1e-5)
    assert by_size[2].how == ("embedding",)
    assert not any(group.is_exact for group in found.groups)
    first, second = found.apart[:2]
    assert (first.item_id, first.nearest) == ("item-05", "item-06")
    assert first.distance == pytest.approx(1 - np.cos(np.radians(40)), abs=1e-5)
    assert (second.item_id, second.nearest) == ("item-06", "item-04")
    assert second.nearest_distance == pytest.approx(1 - np.cos(np.radians(38)), abs=1e-5)


def test_crops_of_one_photograph_are_no_others(tmp_path: Path) -> None:
    photos = ["a", "a", "b", "c", "d", "e"]
    found = run(LikenessParams(k=1), **world(tmp_path, [0, 1, 20, 40, 60, 80], photos))
    nearest = {one.item_id: one.nearest for one in found.apart}
    assert (nearest["item-00"], nearest["item-01"]) == ("item-02", "item-02")


def test_few_items_are_told(tmp_path: Path) -> None:
    found = run(LikenessParams(), **world(tmp_path, [0, 10, 20, 30]))
    assert (found.k, found.apart, found.n_beyond) == (0, (), 0)
    assert found.notes == ("4 items are too few to say which of them stand apart",)
    (tmp_path / "six").mkdir()
    some = run(LikenessParams(), **world(tmp_path / "six", [0, 10, 20, 30, 40, 50]))
    assert some.k == 5
    assert "neighbour number 5 counts, not to number 10" in some.notes[0]


def test_an_empty_view_is_told(tmp_path: Path) -> None:
    from deponij.store.identity import Identity
    from deponij.store.view import write_view

    paths = world(tmp_path, [0, 1])
    failures = [(name, "no reason") for name in Items(paths["items"]).ids]
    identity = Identity("a:1", "b", "embedding", "", "", "fp32", "float32")
    nothing = {"ids": [], "keys": [], "checksums": np.empty(0, np.uint32), "arrays": {}}
    write_view(tmp_path / "empty.h5", identity=identity, backbone="a", failures=failures, **nothing)
    with pytest.raises(DataError, match="holds no features; there is nothing to compare"):
        run(LikenessParams(), features=tmp_path / "empty.h5", items=paths["items"])
