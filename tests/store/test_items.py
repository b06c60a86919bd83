"""Items: what was put in, read by everybody's tools; replaced whole or not at all."""

import io
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow as pa
import pytest
from depot_world import die_at_step, keys_of
from PIL import Image

from deponij.store.errors import StoreError
from deponij.store.items import Items, ItemWriter
from deponij.store.manifest import write_manifest

SCHEMA = pa.schema([("label", pa.string()), ("bbox", pa.list_(pa.float64())), ("is_crowd", pa.bool_())])


def picture(number: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 3), (number, 0, 0)).save(file, "PNG")
    return file.getvalue()


def write(path: Path, n_items: int = 5, label: str = "can") -> Path:
    with ItemWriter(path, SCHEMA) as writer:
        for number in range(n_items):
            writer.add(
                content=picture(number),
                item_id=f"photo {number}.jpg#0",
                key=keys_of([number])[0],
                image_id=f"photo {number}.jpg",
                width_px=4,
                height_px=3,
                metadata={"label": label, "bbox": [0, 1, 2, number], "is_crowd": False},
            )
        writer.add(content=None, item_id="broken.jpg#0", failure="cut off", metadata={"label": label})
    return path


def test_items_give_back_what_was_put_in(tmp_path: Path) -> None:
    items = Items(write(tmp_path / "items"))
    assert len(items) == 6
    assert items.ids == [*(f"photo {n}.jpg#0" for n in range(5)), "broken.jpg#0"]
    assert items.keys == [*keys_of(range(5)), None]
    assert items.failures == [("broken.jpg#0", "cut off")]
    assert list(items.contents([4, 1, 4])) == [(1, picture(1)), (4, picture(4))]
    assert items.content("photo 3.jpg#0") == picture(3)
    assert items.table(["label", "item_id"]).column_names == ["label", "item_id"]
    assert "image" not in items.table().column_names
    assert items.column("bbox")[2] == [0, 1, 2, 2]
    with pytest.raises(StoreError, match=r"no column \['colour'\]; they have"):
        items.table(["colour"])
    with pytest.raises(StoreError, match="has no picture; it failed"):
        list(items.contents([5]))
    with pytest.raises(StoreError, match="there is no item 'x'"):
        items.content("x")


def test_files_of_other_columns_are_no_items_of_one_folder(tmp_path: Path) -> None:
    at, other = write(tmp_path / "items"), tmp_path / "other"
    with ItemWriter(other, pa.schema([("label", pa.int64())])) as writer:
        writer.add(content=None, item_id="x", failure="cut off", metadata={"label": 3})
    (other / "items-00000.parquet").rename(at / "items-00001.parquet")
    write_manifest(at)
    with pytest.raises(StoreError, match="holds items of another version: its columns .*'label'"):
        Items(at)


def test_many_groups_and_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deponij.store.items.GROUP_BYTES", 150)
    monkeypatch.setattr("deponij.store.items.SHARD_BYTES", 400)
    items = Items(write(tmp_path / "items", 20))
    assert len(list((tmp_path / "items").glob("*.parquet"))) > 2
    assert [content for _, content in items.contents(range(20))] == [picture(n) for n in range(20)]
    assert items.keys[:20] == keys_of(range(20))


def test_everybodys_tools_open_items(tmp_path: Path) -> None:
    path = write(tmp_path / "items")
    frame = pd.read_parquet(path)
    assert frame["item_id"].tolist() == Items(path).ids
    assert frame["image"][2]["bytes"] == picture(2)
    query = f"select count(*), sum(bbox[4]) from '{path}/*.parquet' where label = 'can'"
    assert duckdb.sql(query).fetchall() == [(6, 10)]


def test_datasets_decodes_the_pictures(tmp_path: Path) -> None:
    from datasets import load_dataset

    path = write(tmp_path / "items")
    found = load_dataset(str(path), split="train", cache_dir=str(tmp_path / "cache"))
    assert found[3]["image"].size == (4, 3)
    assert found[3]["image"].getpixel((0, 0)) == (3, 0, 0)
    assert found[3]["bbox"] == [0, 1, 2, 3]
    assert (found[5]["image"], found[5]["failure"]) == (None, "cut off")


def test_no_items_and_only_failures(tmp_path: Path) -> None:
    with ItemWriter(tmp_path / "none", SCHEMA):
        pass
    items = Items(tmp_path / "none")
    assert (len(items), items.ids, items.failures, list(items.contents([]))) == (0, [], [], [])
    items = Items(write(tmp_path / "failed", 0))
    assert (len(items), items.keys) == (1, [None])


def test_bad_items_are_refused_and_nothing_appears(tmp_path: Path) -> None:
    for fields, message in (
        ({"item_id": "a"}, "item id 'a' occurs twice"),
        ({"item_id": "b", "metadata": {"colour": "red"}}, r"not declared: \['colour'\]"),
        ({"item_id": "caf\udce9.jpg"}, "must be valid Unicode without NUL"),
        ({"item_id": "b", "metadata": {"label": 3}}, "does not fit its column"),
        ({"item_id": "b", "metadata": {"label": "caf\udce9"}}, "does not fit its column"),
    ):
        with pytest.raises(StoreError, match=message), ItemWriter(tmp_path / "items", SCHEMA) as writer:
            writer.add(content=b"x", item_id="a", metadata={})
            writer.add(**{"content": b"x", "metadata": {}, **fields})
        assert list(tmp_path.iterdir()) == []
    with pytest.raises(StoreError, match=r"may not be named \['phash'\]"):
        ItemWriter(tmp_path / "items", pa.schema([("phash", pa.string())]))


def test_reasons_of_any_kind_are_recorded(tmp_path: Path) -> None:
    with ItemWriter(tmp_path / "items", SCHEMA) as writer:
        writer.add(content=None, item_id="a", failure="cannot open caf\udce9.jpg", metadata={})
    assert Items(tmp_path / "items").failures == [("a", "cannot open caf\\udce9.jpg")]


def test_only_items_are_replaced(tmp_path: Path) -> None:
    write(tmp_path / "items", 3, label="old")
    assert len(Items(write(tmp_path / "items", 4, label="new"))) == 5
    (tmp_path / "items" / "thesis.docx").write_bytes(b"")
    with pytest.raises(StoreError, match="holds other files"):
        write(tmp_path / "items")
    with pytest.raises(StoreError, match="is a file"):
        write(tmp_path / "items" / "thesis.docx")


def test_a_kill_at_every_step_loses_no_items(tmp_path: Path) -> None:
    step = 1
    while True:
        path = write(tmp_path / str(step) / "items", label="old")
        if not die_at_step(lambda path=path: write(path, label="new"), step):
            break
        if path.exists():
            assert Items(path).column("label")[0] in ("old", "new")
        write(path, label="new")
        assert [p.name for p in path.parent.iterdir()] == ["items"]
        assert Items(path).column("label") == ["new"] * 6
        step += 1
    assert step > 5


def test_a_second_writer_is_told(tmp_path: Path) -> None:
    with (
        ItemWriter(tmp_path / "items", SCHEMA),
        pytest.raises(StoreError, match="another process is writing"),
        ItemWriter(tmp_path / "items", SCHEMA),
    ):
        pass
    assert len(Items(tmp_path / "items")) == 0


def test_a_folder_without_items(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there are no items at"):
        Items(tmp_path)
