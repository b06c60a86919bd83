"""What a file or folder is called in messages, where one of another kind was wanted."""

from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deponij.store.atomic import read_table
from deponij.store.errors import StoreError
from deponij.store.identity import Identity
from deponij.store.items import Items, ItemWriter
from deponij.store.view import View, write_view
from deponij.store.what_is import instead, what_is


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """One of each."""
    with ItemWriter(tmp_path / "run" / "items", pa.schema([])) as writer:
        writer.add(content=b"x", metadata={}, item_id="a", key="k", image_id="a")
    identity = Identity("a:1", "b", "embedding", "", "", "fp32", "float32")
    nothing = {"ids": [], "keys": [], "checksums": np.empty(0, np.uint32), "arrays": {}}
    write_view(tmp_path / "view.h5", identity=identity, backbone="a", **nothing)
    pq.write_table(
        pa.table({"item_id": ["a"], "part": ["train"], "group": ["a"]}), tmp_path / "split.parquet"
    )
    pq.write_table(pa.table({"x": [1], "y": [2]}), tmp_path / "table.parquet")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = 1
    np.save(tmp_path / "array.npy", np.zeros(2))
    for name, content in {"notes.txt": "words", "empty": ""}.items():
        (tmp_path / name).write_text(content)
    for name in ("index/vectors-0.faiss", "results/result.json", "head/head.json", "depot/format.json"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    (tmp_path / "folder").mkdir()
    return tmp_path


def test_each_kind_is_named(root: Path) -> None:
    named = {
        "run": "a run",
        "run/items": "a folder of items",
        "view.h5": "a view of features",
        "split.parquet": "a split table",
        "table.parquet": "a table with the columns x, y",
        "other.h5": "an HDF5 file, but no view",
        "array.npy": "a NumPy array",
        "notes.txt": "a file of another kind",
        "empty": "an empty file",
        "index": "a search index",
        "results": "a folder of results",
        "head": "a saved head",
        "depot": "a depot",
        "folder": "a folder",
        "nowhere": "",
    }
    assert {name: what_is(root / name) for name in named} == named
    assert instead(root / "index") == f"; {root / 'index'} is a search index"
    assert instead(root / "nowhere") == ""


def test_who_gets_another_kind_says_which(root: Path) -> None:
    with pytest.raises(StoreError, match=r"split\.parquet is a split table, and no view of features"):
        View(root / "split.parquet")
    with pytest.raises(StoreError, match=r"there are no items at .*view\.h5 is a view of features"):
        Items(root / "view.h5")
    with pytest.raises(StoreError, match=r"there are no items at .*is a run; in it are .*run/items"):
        Items(root / "run")
    with pytest.raises(StoreError, match=r"damaged or not a Parquet file: it is a view of features"):
        read_table(root / "view.h5")
    with pytest.raises(StoreError, match=r"there is no table at .*is a folder of items"):
        read_table(root / "run" / "items")
