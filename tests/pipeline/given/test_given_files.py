"""Embeddings from files and frames: what is read, what is refused, and by what content they are named."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deponij.pipeline.given.files import of_frame, read_given
from deponij.store.errors import DataError, DeponijError, UsageError

IDS = [f"pictures/{row}.jpg" for row in range(5)]
VECTORS = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)


def npy(root: Path) -> dict[str, Any]:
    np.save(root / "x.npy", VECTORS)
    (root / "ids.txt").write_text("\n".join(IDS) + "\n")
    return {"path": root / "x.npy", "ids": root / "ids.txt"}


def npz(root: Path) -> dict[str, Any]:
    np.savez(root / "x.npz", ids=np.array(IDS), embedding=VECTORS, keys=np.array(["k"] * 5))
    return {"path": root / "x.npz"}


def lists(root: Path) -> dict[str, Any]:
    pq.write_table(
        pa.table({"path": IDS, "vector": list(VECTORS), "camera": list("ABABA")}), root / "x.parquet"
    )
    return {"path": root / "x.parquet"}


def columns(root: Path) -> dict[str, Any]:
    # In another order than their numbers, so that a reader by position would mix them up.
    numbered = {f"x{column}": VECTORS[:, column] for column in (2, 0, 1)}
    pq.write_table(pa.table({"name of it": IDS, "score": np.arange(5.0), **numbered}), root / "x.parquet")
    return {"path": root / "x.parquet", "ids": "name of it"}


def hdf5(root: Path) -> dict[str, Any]:
    with h5py.File(root / "x.h5", "w") as file:
        file["group/vectors"] = VECTORS
        file["group/ids"] = IDS
    return {"path": root / "x.h5"}


MADE: dict[str, Callable[[Path], dict[str, Any]]] = {
    one.__name__: one for one in (npy, npz, lists, columns, hdf5)
}


@pytest.mark.parametrize("name", MADE)
def test_every_form_gives_the_same_vectors_under_the_same_content(name: str, tmp_path: Path) -> None:
    found = read_given(**MADE[name](tmp_path))
    assert list(found.ids) == IDS
    assert np.array_equal(found.vectors, VECTORS)
    assert found.vectors.dtype == np.float32
    assert found.sha256 == of_frame(VECTORS, IDS).sha256
    assert found.faults == {}


def test_other_columns_are_kept_and_none_of_the_vectors(tmp_path: Path) -> None:
    assert read_given(**lists(tmp_path)).columns.column_names == ["camera"]
    assert read_given(**columns(tmp_path)).columns.column_names == ["score"]


def test_different_content_has_another_name() -> None:
    known = {of_frame(VECTORS, IDS).sha256}
    other = VECTORS.copy()
    other[4, 2] = np.nextafter(other[4, 2], np.float32(9))
    for frame, ids in (
        (other, IDS),
        (VECTORS, [*IDS[:4], "another"]),
        (VECTORS[::-1], IDS),
        (VECTORS.astype(np.float64), IDS),
        (VECTORS[:, :2], IDS),
    ):
        found = of_frame(frame, ids).sha256
        assert found not in known
        known.add(found)


def test_frames_of_pandas_and_arrow() -> None:
    wide = pd.DataFrame(VECTORS, index=IDS)  # columns 0, 1, 2; the index holds the ids
    deep = pd.DataFrame({"item_id": IDS, "v": list(VECTORS), "label": list("aabbb")})
    for frame, ids in (
        (wide, None),
        (deep, None),
        (deep.drop(columns="item_id"), IDS),
        (pa.Table.from_pandas(deep), "item_id"),
    ):
        found = of_frame(frame, ids)
        assert list(found.ids) == IDS
        assert np.array_equal(found.vectors, VECTORS)
    with pytest.raises(UsageError, match="got dict"):
        of_frame({"a": 1})
    with pytest.raises(UsageError, match="an array has no ids"):
        of_frame(VECTORS)


def test_types_of_numbers() -> None:
    half = of_frame(VECTORS.astype(np.float16), IDS)
    assert (half.vectors.dtype, half.notes) == (np.float16, ())
    double = of_frame(np.array([[1e300, 1.0]] + [[1.0, 2.0]] * 4), IDS)
    assert double.vectors.dtype == np.float32
    assert "float64: kept as float32" in double.notes[0]
    assert list(double.faults) == [0]
    assert of_frame(np.arange(1, 16, dtype=np.int8).reshape(5, 3), IDS).vectors[0].tolist() == [1, 2, 3]


def test_rows_that_cannot_be_used_are_told_apart() -> None:
    vectors = VECTORS.copy()
    vectors[1, 1], vectors[2, 0], vectors[3] = np.nan, np.inf, 0
    faults = of_frame(vectors, IDS).faults
    assert {row: "not finite" in why for row, why in faults.items()} == {1: True, 2: True, 3: False}
    assert "no direction" in faults[3]


def parquet(root: Path, **table: Any) -> dict[str, Any]:
    pq.write_table(pa.table(table), root / "x.parquet")
    return {"path": root / "x.parquet"}


def saved(root: Path, array: Any, n_ids: int = 5, **more: Any) -> dict[str, Any]:
    np.save(root / "x.npy", array, **more)
    (root / "ids.txt").write_text("".join(f"{row}\n" for row in range(n_ids)))
    return {"path": root / "x.npy", "ids": root / "ids.txt"}


BAD: dict[str, tuple[Callable[[Path], dict[str, Any]], str]] = {
    "no file": (lambda root: {"path": root / "none.npy"}, "does not exist; embeddings are a file"),
    "a folder": (lambda root: {"path": root}, "is a folder; embeddings are a file"),
    "another ending": (lambda root: {"path": Path(__file__)}, r"embeddings are read from \.npy, \.npz"),
    "objects": (
        lambda root: saved(root, np.array([{}] * 5, object), allow_pickle=True),
        "pickled objects, which are never loaded",
    ),
    "texts": (lambda root: saved(root, np.array([["a"]] * 5)), "vectors are numbers"),
    "one vector": (lambda root: saved(root, np.arange(5.0)), r"has the shape \[5\]"),
    "maps": (lambda root: saved(root, np.zeros((5, 2, 2))), r"has the shape \[5, 2, 2\]"),
    "no rows": (lambda root: saved(root, np.zeros((0, 3)), 0), "n and d at least 1"),
    "too few ids": (lambda root: saved(root, VECTORS, 4), "has 5 vectors and 4 ids"),
    "a header": (lambda root: saved(root, VECTORS, 6), "5 vectors and 6 ids.*is the first line a header"),
    "cut off": (
        lambda root: (
            (root / "y.npy").write_bytes(b"\x93NUMPY\x01\x00v") and {"path": root / "y.npy", "ids": __file__}
        ),
        "cannot be read as a NumPy array",
    ),
    "no ids": (lambda root: {"path": saved(root, VECTORS)["path"]}, "never taken by position"),
    "no file of ids": (
        lambda root: {"path": saved(root, VECTORS)["path"], "ids": "nowhere.txt"},
        "no file nowhere.txt",
    ),
    "an id twice": (lambda root: parquet(root, id=["a", "b", "a"], v=[[1.0]] * 3), "'a' in rows 1 and 3"),
    "an id missing": (lambda root: parquet(root, id=["a", None], v=[[1.0]] * 2), "missing.*row 2"),
    "no column of ids": (lambda root: parquet(root, what=["a"], v=[[1.0]]), "no column of ids"),
    "a wrong column": (
        lambda root: {**parquet(root, id=["a"], v=[[1.0]]), "ids": "idd"},
        "no column 'idd' of ids",
    ),
    "widths": (
        lambda root: parquet(root, id=list("abc"), v=[[1.0, 2.0], [1.0, 2.0], [1.0]]),
        "most have 2 numbers, row 3 has 1",
    ),
    "a row without": (
        lambda root: parquet(root, id=["a", "b"], v=[[1.0], None]),
        "have no vector, the first is row 2",
    ),
    "two sets": (
        lambda root: parquet(root, id=["a"], v=[[1.0]], w=[[1.0]]),
        "vectors more than once: 'v' and 'w'",
    ),
    "no vectors": (lambda root: parquet(root, id=["a"], label=["b"]), "holds no vectors"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_embeddings_is_said(name: str, tmp_path: Path) -> None:
    make, said = BAD[name]
    with pytest.raises(DeponijError, match=said):
        read_given(**make(tmp_path))


def test_a_number_missing_in_a_list_is_a_fault_of_its_row(tmp_path: Path) -> None:
    found = read_given(**parquet(tmp_path, id=["a", "b"], v=[[1.0, None], [1.0, 2.0]]))
    assert list(found.faults) == [0]


def test_hdf5_that_leaves_it_open_is_asked_for(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["a"], file["b"], file["names"], file["others"] = VECTORS, VECTORS, IDS, IDS
    with pytest.raises(DataError, match=r"must hold one array of numbers \[n, d\]; it holds a float32"):
        read_given(tmp_path / "x.h5")
    with h5py.File(tmp_path / "x.h5", "a") as file:
        del file["b"]
    with pytest.raises(DataError, match="must hold one array of 5 ids.*--ids NAME"):
        read_given(tmp_path / "x.h5")
    assert list(read_given(tmp_path / "x.h5", "others").ids) == IDS
