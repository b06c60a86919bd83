"""Tables of pictures: what spreadsheets and pandas write, and their bad cases."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from deponij.pipeline.data.adapters.listed import read_listing
from deponij.pipeline.data.adapters.registry import Source, open_source
from deponij.pipeline.data.item import Item
from deponij.store.errors import DataError, UsageError


def pictures(root: Path, *names: str) -> None:
    for seed, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        array = np.random.default_rng(seed).integers(0, 256, (8, 9, 3), dtype=np.uint8)
        Image.fromarray(array).save(root / name)


def opened(table: Path, **options: object) -> tuple[Source, list[Item]]:
    source = open_source("listed", {"table": table, **options})
    return source, list(source.items())


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_what_spreadsheets_write(tmp_path: Path, delimiter: str, encoding: str) -> None:
    pictures(tmp_path, "a/1.png", "a/2.png", "a/3.png")
    rows = [
        ["Filename", "Class", "Split", "Größe"],
        ["a/1.png", "NA", "train", "3"],
        ["./a/2.png", "", "val", "4"],
    ]
    rows += [["a\\3.png", "null", "", "5"]]
    text = "\r\n".join(delimiter.join(row) for row in rows) + "\r\n"
    (tmp_path / "table.csv").write_bytes(text.encode(encoding))
    source, items = opened(tmp_path / "table.csv")
    assert source.n_items == 3
    assert [item.failure for item in items] == [None] * 3
    assert [item.item_id for item in items] == ["a/1.png", "a/2.png", "a/3.png"]
    # Only an empty field is a missing label: `NA` and `null` are names.
    assert [item.metadata["label"] for item in items] == ["NA", None, "null"]
    assert [item.given for item in items] == ["train", "val", None]
    assert [item.metadata["Größe"] for item in items] == [3, 4, 5]


def test_another_encoding_is_named(tmp_path: Path) -> None:
    pictures(tmp_path, "1.png")
    (tmp_path / "t.csv").write_bytes("path,label\n1.png,grün\n".encode("cp1252"))
    with pytest.raises(DataError, match="name its encoding, such as `cp1252`"):
        opened(tmp_path / "t.csv")
    _, (item,) = opened(tmp_path / "t.csv", encoding="cp1252")
    assert item.metadata["label"] == "grün"


def test_parquet_with_paths_and_types(tmp_path: Path) -> None:
    pictures(tmp_path / "pictures", "1.png", "2.png")
    table = pa.table(
        {
            "image_path": [str(tmp_path / "pictures/1.png"), "2.png"],
            "species": pa.array(["cat", "dog"]).dictionary_encode(),
            "width_px": pa.array([1.5, None]),
            "night": [True, False],
            "hash": pa.array([2**64 - 1, 0], pa.uint64()),
        }
    )
    pq.write_table(table, tmp_path / "t.parquet")
    source, items = opened(tmp_path / "t.parquet", images=tmp_path / "pictures")
    assert source.metadata_schema.names == ["label", "source_width_px", "night", "hash"]
    assert source.metadata_schema.field("hash").type == pa.uint64()
    assert [item.item_id for item in items] == ["1.png", "2.png"]
    assert [item.metadata for item in items] == [
        {"label": "cat", "source_width_px": 1.5, "night": True, "hash": 2**64 - 1},
        {"label": "dog", "source_width_px": None, "night": False, "hash": 0},
    ]


def test_rows_that_cannot_be_used_are_recorded(tmp_path: Path) -> None:
    pictures(tmp_path, "1.png")
    (tmp_path / "t.csv").write_text(
        "path,label\n1.png,a\n1.png,b\nnone.png,a\n,b\n../x.png,a\n/etc/x.png,b\n"
    )
    _, (good, *bad) = opened(tmp_path / "t.csv")
    assert good.failure is None
    said = [
        "row 2 names the same picture as row 1",
        "is missing",
        "row 4 names no picture",
        "outside",
        "outside",
    ]
    for item, part in zip(bad, said, strict=True):
        assert item.failure is not None
        assert part in item.failure


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,b\n1,2\n", "no column of paths"),
        ("path,label\n", "no rows"),
        ("path,split\n1.png,train\n2.png,test\n3.png,fold1\n", "beside lie others: 'fold1'"),
        ("path,label\n1.png,a,b,c\n", "cannot be read as CSV"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DataError, match=said):
        opened(tmp_path / "t.csv")


def test_columns_are_named(tmp_path: Path) -> None:
    pictures(tmp_path, "1.png")
    (tmp_path / "t.csv").write_text("where,what,label\n1.png,x,y\n")
    _, (item,) = opened(tmp_path / "t.csv", path_column="where", label_column="what")
    assert item.metadata == {"label": "x", "source_label": "y"}
    with pytest.raises(UsageError, match="no column 'whose' for labels; it has where, what, label"):
        opened(tmp_path / "t.csv", path_column="where", label_column="whose")


def test_columns_that_differ_in_case_alone_have_names_that_sql_tells_apart(tmp_path: Path) -> None:
    pictures(tmp_path, "1.png")
    (tmp_path / "t.csv").write_text("path,Label,label,camera,Camera\n1.png,a,b,c,d\n")
    _, (item,) = opened(tmp_path / "t.csv")
    assert item.metadata == {"label": "a", "source_label": "b", "camera": "c", "source_Camera": "d"}


def test_fields_of_two_lines_and_names_with_backslashes_are_read_as_they_stand(tmp_path: Path) -> None:
    pictures(tmp_path, "a\\b/1.png")
    text = 'path,label\na\\b/1.png,"two\nlines"\n'
    (tmp_path / "t.csv").write_bytes(b"\xfe\xff" + text.encode("utf-16-be"))
    _, (item,) = opened(tmp_path / "t.csv")
    assert (item.failure, item.metadata["label"]) == (None, "two\nlines")
    # Of so many that they are read in several blocks.
    (tmp_path / "many.csv").write_text("path,label\n" + '1.png,"two\nlines"\n' * 300_000)
    assert set(read_listing(tmp_path / "many.csv")["label"].to_pylist()) == {"two\nlines"}


def test_a_column_that_is_called_like_parts_and_holds_none_is_kept(tmp_path: Path) -> None:
    pictures(tmp_path, "1.png", "2.png")
    (tmp_path / "t.csv").write_text("path,split\n1.png,fold1\n2.png,fold2\n")
    _, items = opened(tmp_path / "t.csv")
    assert [(item.given, *item.metadata.values()) for item in items] == [(None, "fold1"), (None, "fold2")]


def test_rows_are_left_out_as_asked(tmp_path: Path) -> None:
    pictures(tmp_path, "1.png", "2.png", "3.png")
    (tmp_path / "t.csv").write_text("path,split\n1.png,train\n2.png,extra\n3.png,test\n")
    _, items = opened(tmp_path / "t.csv", treat={"extra": "skip"})
    assert [(item.item_id, item.given) for item in items] == [("1.png", "train"), ("3.png", "test")]
    (tmp_path / "t.csv").write_text("path,split\n1.png,fold1\n2.png,extra\n3.png,fold2\n")
    source, items = opened(tmp_path / "t.csv", treat={"extra": "skip"})
    assert [item.item_id for item in items] == ["1.png", "3.png"]
    assert "split" not in source.metadata_schema.names


def test_a_class_called_na_among_numbers_is_a_class(tmp_path: Path) -> None:
    pictures(tmp_path, "1.png", "2.png", "3.png")
    (tmp_path / "t.csv").write_text("path,label\n1.png,7\n2.png,NA\n3.png,\n")
    _, items = opened(tmp_path / "t.csv")
    assert [item.metadata["label"] for item in items] == ["7", "NA", None]


@pytest.mark.parametrize(
    ("rows", "sound"),
    [
        (["a.png#3", "a.png", "a.png"], [True, True, False]),
        (["a.png", "a.png", "a.png#2"], [True, False, True]),
        (["row 2", "", "a.png"], [True, False, True]),
    ],
)
def test_the_id_of_a_row_that_fails_is_no_other_pictures(
    tmp_path: Path, rows: list[str], sound: list[bool]
) -> None:
    pictures(tmp_path, "a.png")
    for name in ("a.png#2", "a.png#3", "row 2"):
        (tmp_path / name).write_bytes((tmp_path / "a.png").read_bytes())
    (tmp_path / "t.csv").write_text("\n".join(["path,label", *(f"{name},cat" for name in rows)]) + "\n")
    _, items = opened(tmp_path / "t.csv")
    assert len({item.item_id for item in items}) == 3
    assert [item.failure is None for item in items] == sound
    (tmp_path / "ids.csv").write_text("\n".join(["id,label", *(f"{name},cat" for name in rows)]) + "\n")
    items = list(open_source("unpictured", {"table": tmp_path / "ids.csv"}).items())
    assert len({item.item_id for item in items}) == 3
    assert [item.failure is None for item in items] == sound


def test_texts_of_a_parquet_table_that_are_no_utf8_are_told(tmp_path: Path) -> None:
    pictures(tmp_path, "1.png")
    ends = pa.py_buffer(np.array([0, 2], np.int32).tobytes())
    label = pa.StringArray.from_buffers(1, ends, pa.py_buffer(b"\xff\xfe"))
    pq.write_table(pa.table({"path": ["1.png"], "label": label}), tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"holds what its columns cannot.*UTF8"):
        opened(tmp_path / "t.parquet")
