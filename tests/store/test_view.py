"""Views: rows by id, refusals that explain, the same bytes from the same inputs, and exports."""

import json
import time
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from depot_world import CLIP, DIM, die_at_step, fill, finish, in_child, keys_of, vectors

from deponij.store import FeatureStore, Items, View
from deponij.store.atomic import replacing
from deponij.store.errors import StoreError
from deponij.store.identity import Identity
from deponij.store.items import ItemWriter
from deponij.store.shard import row_checksums
from deponij.store.upkeep.export import export_view, view_info
from deponij.store.view import write_view

IDS = [f"cans/photo {n}.jpg#0" for n in range(5)]
# Two items show the same: one key, one row in the depot, two rows here.
KEYS = keys_of([0, 1, 2, 3, 1])


def write(path: Path, *, ids: list[str] = IDS, keys: list[str] = KEYS, **changes: object) -> Path:
    rows = vectors(keys)
    facts: dict[str, object] = {
        "identity": CLIP,
        "backbone": "clip",
        "checksums": row_checksums({"embedding": rows}, len(keys)),
        "arrays": {"embedding": rows},
        "failures": [("cans/broken.jpg#0", "cut off after 10 bytes")],
    }
    write_view(path, ids=ids, keys=keys, **{**facts, **changes})
    return path


def test_rows_are_found_by_id(tmp_path: Path) -> None:
    view = View(write(tmp_path / "view.h5"))
    assert view.ids.tolist() == IDS
    assert (view.backbone, view.kind, view.fingerprint, len(view)) == (
        "clip",
        "embedding",
        CLIP.fingerprint,
        5,
    )
    np.testing.assert_array_equal(view.read([IDS[3], IDS[0], IDS[3]]), vectors([KEYS[3], KEYS[0], KEYS[3]]))
    np.testing.assert_array_equal(view.embedding, vectors(KEYS))
    np.testing.assert_array_equal(view.read([IDS[4]]), view.read([IDS[1]]))
    assert view.read([]).shape == (0, DIM)


def test_unknown_ids_are_errors(tmp_path: Path) -> None:
    view = View(write(tmp_path / "view.h5"))
    with pytest.raises(StoreError, match="1 ids are not in .*the first: 'nosuch'"):
        view.read([IDS[0], "nosuch"])
    with pytest.raises(StoreError, match="it failed: cut off after 10 bytes"):
        view.read(["cans/broken.jpg#0"])


def test_equal_inputs_give_equal_bytes(tmp_path: Path) -> None:
    first = write(tmp_path / "a.h5", columns={"text": list("abcde"), "group": list("aabbc")}).read_bytes()
    time.sleep(1.1)  # HDF5's own times have a resolution of a second
    assert (
        write(tmp_path / "b.h5", columns={"group": list("aabbc"), "text": list("abcde")}).read_bytes()
        == first
    )


def test_plain_h5py_reads_a_view(tmp_path: Path) -> None:
    with h5py.File(write(tmp_path / "view.h5", columns={"text": list("abcde")})) as file:
        assert [item_id.decode() for item_id in file["ids"]] == IDS
        np.testing.assert_array_equal(file["arrays/embedding"], vectors(KEYS))
        assert json.loads(file.attrs["identity"])["backbone"] == CLIP.backbone
        assert [text.decode() for text in file["columns/text"]] == list("abcde")


def test_texts_bring_their_columns(tmp_path: Path) -> None:
    view = View(write(tmp_path / "view.h5", columns={"text": ["čaša", "flaša", "", "x" * 300, "日本"]}))
    assert view.columns["text"].tolist() == ["čaša", "flaša", "", "x" * 300, "日本"]


def test_a_view_of_nothing(tmp_path: Path) -> None:
    """No items, or none that could be read: an array without rows, and the reasons."""
    none = np.empty(0, np.uint32)
    for arrays in ({}, {"embedding": np.empty((0, DIM), np.float32)}):
        view = View(write(tmp_path / "view.h5", ids=[], keys=[], checksums=none, arrays=arrays))
        assert len(view) == len(view.embedding) == len(view.read([])) == 0
        assert view.embedding.dtype == np.float32
        assert view.failures == [("cans/broken.jpg#0", "cut off after 10 bytes")]
        with pytest.raises(StoreError, match="it failed"):
            view.read(["cans/broken.jpg#0"])
    view = View(write(tmp_path / "view.h5", ids=[], keys=[], checksums=none, arrays={}, failures=[]))
    assert (len(view), view.failures) == (0, [])


def test_names_of_every_kind(tmp_path: Path) -> None:
    ids = ["a" * 4000, "ümläut/猫.jpg#0", " ", "'\"\\", "x\ny"]
    assert View(write(tmp_path / "view.h5", ids=ids)).read(ids).shape == (5, DIM)
    assert View(tmp_path / "view.h5").ids.tolist() == ids
    for bad in ("caf\udce9.jpg", "nul\0"):
        with pytest.raises(StoreError, match="ids must be valid Unicode without NUL"):
            write(tmp_path / "view.h5", ids=[bad, *ids[1:]])
    assert [p.name for p in tmp_path.iterdir()] == ["view.h5"], "a failure leaves no part behind"
    failures = [("f", "cannot open caf\udce9.jpg\0"), ("g", "y" * 5000)]
    reasons = [reason for _, reason in View(write(tmp_path / "v.h5", failures=failures)).failures]
    assert reasons[0] == "cannot open caf\\udce9.jpg\\0"
    assert len(reasons[1]) == 1000


def test_bad_views_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="item ids repeat"):
        write(tmp_path / "view.h5", ids=[*IDS[:4], IDS[0]])
    with pytest.raises(StoreError, match=r"differ in length: \[4, 5\]"):
        write(tmp_path / "view.h5", ids=IDS[:4])
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "views").mkdir()
    (tmp_path / "views" / "a.h5").touch()
    with pytest.raises(StoreError, match=r"is a folder, and a view is a file; in it are .*a\.h5"):
        View(tmp_path)
    with pytest.raises(StoreError, match="there is no view"):
        View(tmp_path / "none.h5")
    (tmp_path / "text.h5").write_text("no HDF5")
    with pytest.raises(StoreError, match="is a file of another kind, and no view of features, or is damaged"):
        View(tmp_path / "text.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = 1
    with pytest.raises(StoreError, match="is no view of format"):
        View(tmp_path / "other.h5")


def test_a_dense_view_is_tied_to_the_rows_it_was_made_from(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path / "depot", create=True)
    fill(store, range(5))
    rows = store.read(KEYS, CLIP, ["checksums"])
    path = write(tmp_path / "view.h5", checksums=rows["checksums"], arrays={})
    np.testing.assert_array_equal(View(path, store).maps(IDS[1:3])["embedding"], vectors(KEYS[1:3], "fp32"))
    with pytest.raises(StoreError, match="which lie in a depot"):
        _ = View(path).embedding
    with pytest.raises(StoreError, match="open it with its depot"):
        View(path).maps(IDS)
    other = FeatureStore(tmp_path / "other", create=True)
    with other.writer(CLIP, {}) as writer:
        writer.add(keys_of([0]), {"embedding": vectors(keys_of([0]), "another machine")})
    with pytest.raises(StoreError, match=f"are not those that .* was made from, the first: {IDS[0]!r};"):
        View(path, other).maps(IDS[:1])


def test_a_kill_at_every_step_leaves_the_old_view_or_the_new(tmp_path: Path) -> None:
    step = 1
    while True:
        path = write(tmp_path / str(step) / "view.h5", backbone="old")
        if not die_at_step(lambda path=path: write(path, backbone="new"), step):
            break
        assert View(path).backbone in ("old", "new")
        write(path, backbone="new")
        assert [p.name for p in path.parent.iterdir()] == ["view.h5"]
        step += 1
    assert step > 5


def test_two_writers_of_one_view_wait_for_each_other(tmp_path: Path) -> None:
    path = tmp_path / "view.h5"
    child = -1
    with replacing(path) as part:
        child = in_child(lambda: write(path, backbone="second"))
        time.sleep(0.1)
        part.write_bytes(b"first")
    assert finish(child) == 0
    assert View(path).backbone == "second"
    assert [p.name for p in tmp_path.iterdir()] == ["view.h5"]


# --- exports ----------------------------------------------------------------------------------


@pytest.fixture
def items(tmp_path: Path) -> Items:
    """The items of the view in another order, and one more."""
    schema = pa.schema([("label", pa.string()), ("area_px", pa.float64()), ("bbox", pa.list_(pa.float64()))])
    with ItemWriter(tmp_path / "items", schema) as writer:
        for number in (4, 2, 0, 1, 3):
            metadata = {"label": f"class {number}", "area_px": number * 1.5, "bbox": [0.0, number]}
            writer.add(
                content=b"x",
                item_id=IDS[number],
                key=KEYS[number],
                image_id=f"photo {number}",
                metadata=metadata,
            )
        writer.add(content=None, item_id="cans/broken.jpg#0", failure="cut off", metadata={})
    return Items(tmp_path / "items")


def test_parquet_exports_are_joined_by_id(tmp_path: Path, items: Items) -> None:
    view = View(write(tmp_path / "view.h5", columns={"text": list("abcde")}))
    export_view(view, tmp_path / "out.parquet", items=items)
    table = pq.read_table(tmp_path / "out.parquet")
    assert pa.types.is_fixed_size_list(table.schema.field("embedding").type)
    assert table.schema.metadata[b"fingerprint"].decode() == CLIP.fingerprint
    frame = pd.read_parquet(tmp_path / "out.parquet")
    assert frame["item_id"].tolist() == IDS
    assert frame["label"].tolist() == [f"class {n}" for n in range(5)]
    assert frame["text"].tolist() == list("abcde")
    np.testing.assert_array_equal(np.stack(frame["embedding"]), vectors(KEYS))
    assert [list(box) for box in frame["bbox"]] == [[0.0, n] for n in range(5)]


def test_numpy_exports_need_no_pickle(tmp_path: Path, items: Items) -> None:
    view = View(write(tmp_path / "view.h5"))
    export_view(view, tmp_path / "out.npz", items=items)
    export_view(view, tmp_path / "out.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), vectors(KEYS))
    with np.load(tmp_path / "out.npz") as found:
        assert found["ids"].tolist() == IDS
        assert found["label"].tolist() == [f"class {n}" for n in range(5)]
        assert found["area_px"].tolist() == [0, 1.5, 3, 4.5, 6]
        assert found["phash"].tolist() == [""] * 5
        assert "bbox" not in found
        np.testing.assert_array_equal(found["embedding"], vectors(KEYS))


def test_exports_that_cannot_be(tmp_path: Path, items: Items) -> None:
    view = View(write(tmp_path / "view.h5"))
    with pytest.raises(StoreError, match=r"the ending must be one of .parquet, .npz, .npy"):
        export_view(view, tmp_path / "out.csv")
    with pytest.raises(StoreError, match="vectors alone"):
        export_view(view, tmp_path / "out.npy", items=items)
    stranger = View(write(tmp_path / "other.h5", ids=["nosuch", *IDS[1:]]))
    with pytest.raises(StoreError, match="1 rows of .* are not among the items .*'nosuch'"):
        export_view(stranger, tmp_path / "out.parquet", items=items)
    empty = View(
        write(
            tmp_path / "empty.h5", ids=[], keys=[], checksums=np.empty(0, np.uint32), arrays={}, failures=[]
        )
    )
    for ending in ("parquet", "npz", "npy"):
        export_view(empty, tmp_path / f"empty.{ending}")
    assert pq.read_table(tmp_path / "empty.parquet").num_rows == 0


def test_a_view_describes_itself(tmp_path: Path) -> None:
    found = view_info(write(tmp_path / "view.h5", columns={"text": list("abcde")}))
    assert (found.n_rows, found.n_distinct, found.arrays) == (5, 4, {"embedding": (5, DIM)})
    assert (found.backbone, found.identity, found.columns) == ("clip", CLIP, ["text"])
    assert found.failures == [("cans/broken.jpg#0", "cut off after 10 bytes")]
    assert Identity.from_dict(json.loads(found.identity.to_json())) == CLIP
