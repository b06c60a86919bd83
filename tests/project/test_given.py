"""Given embeddings brought to items: who gets which row, what is left out and said, and under which identity."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import deponij
from deponij.pipeline.given.files import of_frame
from deponij.project.extraction.given import give, identity_of, match
from deponij.store.errors import DataError
from deponij.store.items import Items, ItemWriter
from deponij.store.keys import key_of_name
from deponij.store.view import View

ITEMS = ("cat/1.jpg", "cat/2.jpg", "dog/1.jpg", "dog/3.jpg")


@pytest.fixture
def items(tmp_path: Path) -> Items:
    """Four pictures and one that could not be read."""
    with ItemWriter(tmp_path / "items", pa.schema([("label", pa.string())])) as writer:
        for name in ITEMS:
            core = {"item_id": name, "key": key_of_name(name), "image_id": name}
            writer.add(content=b"picture", metadata={"label": name[:3]}, **core)
        writer.add(
            content=None,
            metadata={},
            item_id="dog/bad.jpg",
            key=None,
            image_id="dog/bad.jpg",
            failure="cut off",
        )
    return Items(tmp_path / "items")


def vectors(n: int) -> np.ndarray:
    return np.random.default_rng(n).normal(size=(n, 3)).astype(np.float32)


def test_rows_find_their_items_by_id_or_path_whatever_their_order(items: Items, tmp_path: Path) -> None:
    names = [
        "/data/photos/dog/3.jpg",
        "cat/2.jpg",
        "./cat/1.jpg",
        "photos\\dog\\1.jpg",
        "dog/bad.jpg",
        "elsewhere/9.jpg",
    ]
    given = of_frame(vectors(6), names)
    result = give(items, given, name="mine", out=tmp_path / "mine.h5")
    view = View(tmp_path / "mine.h5")
    assert view.ids.tolist() == list(ITEMS)
    assert np.array_equal(view.embedding, given.vectors[[2, 1, 3, 0]])
    assert view.keys.tolist() == items.keys[:4]
    assert view.failures == [("dog/bad.jpg", "cut off")]
    counts = (result.n_matched, result.n_by_path, result.n_extra, result.n_missing, result.n_failed)
    assert counts == (5, 3, 1, 0, 1)
    assert "1 of 6 ids in the frame are of no item here, such as 'elsewhere/9.jpg'" in result.notes


def test_a_bare_name_is_of_an_item_only_where_one_ends_so(items: Items) -> None:
    found = match(items, of_frame(vectors(2), ["3.jpg", "1.jpg"]))
    assert (found.rows, found.extra) == ({"dog/3.jpg": 0}, ("1.jpg",))


def test_items_without_a_usable_vector_are_failures_with_their_reason(items: Items, tmp_path: Path) -> None:
    rows = vectors(3)
    rows[0, 1] = np.nan
    rows[1] = 0
    give(items, of_frame(rows, ITEMS[:3]), name="mine", out=tmp_path / "mine.h5")
    view = View(tmp_path / "mine.h5")
    assert view.ids.tolist() == ["dog/1.jpg"]
    reasons = dict(view.failures)
    assert "not finite" in reasons["cat/1.jpg"]
    assert "no direction" in reasons["cat/2.jpg"]
    assert reasons["dog/3.jpg"] == "no vector is given for it in the frame"
    assert reasons["dog/bad.jpg"] == "cut off"


def test_what_fits_no_item_is_refused(items: Items, tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"not one of the 2 ids .* such as 'x', 'y', those of the items 'cat/1.jpg'"
    ):
        give(items, of_frame(vectors(2), ["x", "y"]), name="mine", out=tmp_path / "mine.h5")
    with pytest.raises(
        DataError, match=r"two rows for the item 'cat/1.jpg': 'cat/1.jpg' and '/data/cat/1.jpg'"
    ):
        match(items, of_frame(vectors(2), ["cat/1.jpg", "/data/cat/1.jpg"]))
    with pytest.raises(DataError, match="no item can have a vector"):
        give(items, of_frame(np.zeros((4, 3)), ITEMS), name="mine", out=tmp_path / "mine.h5")
    assert not (tmp_path / "mine.h5").exists()


def test_an_identity_says_whose_they_are() -> None:
    one, other = of_frame(vectors(4), ITEMS), of_frame(vectors(4) * 2, ITEMS)
    identity = identity_of(one, "mine")
    assert (identity.backbone, identity.weights, identity.stored) == ("given:mine/3", one.sha256, "float32")
    assert (identity.transform, identity.decode, identity.precision) == ("", "", "")
    prints = {identity_of(each, name).fingerprint for each in (one, other) for name in ("mine", "yours")}
    assert len(prints) == 4


def test_from_python_and_by_the_command(items: Items, tmp_path: Path) -> None:
    import cli_world

    given = vectors(4)
    view = deponij.import_embeddings(given, items, tmp_path / "array.h5", ids=list(ITEMS), name="mine")
    assert np.array_equal(view.embedding, given)
    np.save(tmp_path / "mine.npy", given)
    (tmp_path / "ids.txt").write_text("\n".join(ITEMS))
    options = ["--items", items.path, "--ids", tmp_path / "ids.txt", "--out", tmp_path / "file.h5", "--json"]
    answer = cli_world.done("import-embeddings", tmp_path / "mine.npy", *options, status=3).json
    assert (answer["n_matched"], answer["n_failed"]) == (4, 1)
    # The same content under the same name, however it came.
    assert (tmp_path / "array.h5").read_bytes() == (tmp_path / "file.h5").read_bytes()
    again = deponij.import_embeddings(
        tmp_path / "mine.npy", items.path, tmp_path / "x.h5", ids=tmp_path / "ids.txt"
    )
    assert again.fingerprint == view.fingerprint


def test_a_photograph_names_its_item_only_where_it_has_one(tmp_path: Path) -> None:
    with ItemWriter(tmp_path / "crops", pa.schema([("label", pa.string())])) as writer:
        for name in ("p.jpg#0", "p.jpg#1", "q.jpg#0"):
            core = {"item_id": name, "key": key_of_name(name), "image_id": name[:5]}
            writer.add(content=b"picture", metadata={"label": "x"}, **core)
    found = match(Items(tmp_path / "crops"), of_frame(vectors(3), ["p.jpg", "q.jpg", "p.jpg#1"]))
    assert (found.rows, found.extra, found.n_by_path) == ({"q.jpg#0": 1, "p.jpg#1": 2}, ("p.jpg",), 1)


def test_the_same_bytes_as_other_numbers_are_other_content() -> None:
    rows = vectors(4)
    names = list(ITEMS)
    forms = (rows, rows.view(np.int32), rows.view(np.float16), rows.view(np.uint8))
    assert len({of_frame(np.nan_to_num(one) if one is rows else one, names).sha256 for one in forms}) == 4
    assert of_frame(rows, names).sha256 == of_frame(rows.astype(">f4"), names).sha256
