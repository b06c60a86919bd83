"""Single items out of items and views: what stays is as it was, and of what went nothing is left, failures included."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from depot_world import CLIP, OTHER, fill, keys_of

from deponij.store.depot import FeatureStore
from deponij.store.errors import StoreError
from deponij.store.identity import Identity
from deponij.store.items import Items, ItemWriter
from deponij.store.keys import key_of_name
from deponij.store.shard import row_checksums
from deponij.store.upkeep import tidying
from deponij.store.upkeep.forgetting import drop_from_depot, drop_from_view, drop_items
from deponij.store.view import View, write_view

IDS = ["a.png", "b.png", "c.png"]


@pytest.fixture
def view(tmp_path: Path) -> Path:
    """Three rows, and two items that failed."""
    arrays = {"embedding": np.arange(12, dtype=np.float32).reshape(3, 4)}
    write_view(
        tmp_path / "view.h5",
        identity=Identity("made:m", "w" * 64, "embedding", "resize", "pillow:full", "fp32", "float32"),
        backbone="m",
        ids=IDS,
        keys=[key_of_name(one) for one in IDS],
        checksums=row_checksums(arrays, 3),
        arrays=arrays,
        failures=[("x.png", "truncated"), ("y.png", "empty")],
    )
    return tmp_path / "view.h5"


def test_a_view_loses_rows_and_failures_of_these_items(view: Path) -> None:
    before = View(view).read(IDS)
    assert drop_from_view(view, ["b.png", "x.png", "nobody.png"]) == 2
    left = View(view)
    assert left.ids.tolist() == ["a.png", "c.png"]
    assert left.keys.tolist() == [key_of_name("a.png"), key_of_name("c.png")]
    np.testing.assert_array_equal(left.read(left.ids.tolist()), before[[0, 2]])
    assert left.failures == [("y.png", "empty")]
    # One that has failed alone is an item to forget as well; twice is once.
    assert drop_from_view(view, ["y.png"]) == 1 and View(view).failures == []
    assert drop_from_view(view, ["y.png"]) == 0
    assert b"y.png" not in view.read_bytes() and b"b.png" not in view.read_bytes()


def test_the_last_item_stays_with_its_run(tmp_path: Path) -> None:
    with ItemWriter(tmp_path / "items", pa.schema([("label", pa.string())])) as writer:
        for name in IDS:
            core = {"item_id": name, "key": key_of_name(name), "image_id": name}
            writer.add(content=name.encode(), metadata={"label": name[0]}, **core)
    assert drop_items(tmp_path / "items", ["b.png", "nobody.png"]) == 1
    left = Items(tmp_path / "items")
    assert left.ids == ["a.png", "c.png"] and left.column("label") == ["a", "c"]
    assert left.content("c.png") == b"c.png"
    assert drop_items(tmp_path / "items", ["b.png"]) == 0
    with pytest.raises(StoreError, match="holds nothing else; delete the run's folder"):
        drop_items(tmp_path / "items", ["a.png", "c.png"])
    assert Items(tmp_path / "items").ids == ["a.png", "c.png"]


def test_of_a_depot_nothing_else_goes_whoever_commits_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An extraction of other pictures, and one under another identity, end just before the depot is tidied."""
    fill(FeatureStore(tmp_path, create=True), range(20))
    store = FeatureStore(tmp_path)
    lock = tidying.WriterLock

    def late(*arguments: Any) -> Any:
        monkeypatch.setattr(tidying, "WriterLock", lock)
        fill(FeatureStore(tmp_path), range(30))
        fill(FeatureStore(tmp_path), range(10), identity=OTHER)
        return lock(*arguments)

    monkeypatch.setattr(tidying, "WriterLock", late)
    gone, *others = keys_of([7, *range(7), *range(8, 30)])
    report = drop_from_depot(store, [gone])
    left = FeatureStore(tmp_path)
    assert left.missing(CLIP, [gone, *others]) == [gone]
    assert left.missing(OTHER, keys_of(range(10))) == [gone]
    assert [line.n_rows_gone for line in report.lines.values()] == [1, 1]
