"""Hugging Face parquet: which columns are what, several files, and rows without a usable picture."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from coco_made import noise
from PIL import Image

from deponij.pipeline.data.adapters.hf_parquet import BATCH_ROWS, ParquetParams, ParquetSource
from deponij.pipeline.data.adapters.registry import JOINED_COLUMNS
from deponij.pipeline.data.item import Item
from deponij.project.indexes import RESERVED
from deponij.store.errors import DataError, UsageError
from deponij.store.keys import key_of_bytes

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def png(seed: int) -> bytes:
    buffer = io.BytesIO()
    noise(9, 7, seed).save(buffer, "PNG")
    return buffer.getvalue()


def cell(seed: int) -> dict[str, Any]:
    return {"bytes": png(seed), "path": f"{seed}.png"}


def features(**names: list[str]) -> dict[bytes, bytes]:
    described: dict[str, Any] = {column: {"names": n, "_type": "ClassLabel"} for column, n in names.items()}
    return {
        b"huggingface": json.dumps({"info": {"features": {**described, "img": {"_type": "Image"}}}}).encode()
    }


def write(path: Path, metadata: dict[bytes, bytes] | None = None, **columns: pa.Array) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    schema = pa.schema([(name, column.type) for name, column in columns.items()], metadata=metadata)
    pq.write_table(pa.table(columns, schema=schema), path)
    return path


def images(*cells: Any) -> pa.Array:
    return pa.array(cells, IMAGE)


def opened(*files: Path, **options: Any) -> ParquetSource:
    return ParquetSource(ParquetParams(files=files, **options))


def read(*files: Path, **options: Any) -> list[Item]:
    return list(opened(*files, **options).items(workers=0))


@pytest.mark.parametrize("name", ["img", "image", "picture"])
def test_class_names_come_from_the_schema(tmp_path: Path, name: str) -> None:
    path = tmp_path / "data.parquet"
    columns = {name: images(cell(0), cell(1), cell(2)), "label": pa.array([1, 0, -1])}
    items = read(write(path, features(label=["cat", "dog"]), **columns))
    assert [(item.item_id, item.metadata) for item in items] == [
        ("data.parquet#0", {"label": "dog"}),
        ("data.parquet#1", {"label": "cat"}),
        ("data.parquet#2", {"label": None}),
    ]
    assert items[0].content == png(0)
    assert items[0].key == key_of_bytes(png(0), "PNG")
    assert (items[0].width_px, items[0].height_px, items[0].image_id) == (9, 7, "data.parquet#0")


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (pa.array(["a", None]), ["a", None]),
        (pa.array(["a", "b"], pa.large_string()), ["a", "b"]),
        (pa.array([3, 4], pa.int8()), ["3", "4"]),
        (pa.array([True, False]), ["True", "False"]),
        (pa.array([3, 2**63], pa.uint64()), ["3", str(2**63)]),
        (pa.array(["a", "b"]).dictionary_encode(), ["a", "b"]),
        (pa.array([7, 8], pa.uint16()).dictionary_encode(), ["7", "8"]),
        (pa.array(["a", ""], pa.string_view()), ["a", None]),
        (pa.array([1.0, float("nan")]), ["1.0", None]),
    ],
)
def test_labels_without_class_names_are_texts(
    tmp_path: Path, labels: pa.Array, expected: list[str | None]
) -> None:
    source = opened(write(tmp_path / "d.parquet", img=images(cell(0), cell(1)), label=labels))
    assert source.metadata_schema.field("label").type == pa.string()
    assert [item.metadata["label"] for item in source.items()] == expected


def test_other_plain_columns_are_kept_and_renamed_where_taken(tmp_path: Path) -> None:
    path = write(
        tmp_path / "d.parquet",
        features(fine=["a", "b"], coarse=["x", "y"]),
        img=images(cell(0)),
        fine=pa.array([1]),
        coarse=pa.array([0]),
        weight=pa.array([0.5], pa.float32()),
        patient=pa.array([7], pa.int32()),
        key=pa.array(["k"]),
        boxes=pa.array([[1.0, 2.0]]),
    )
    source = opened(path)
    assert source.notes == (
        "no column holds labels",  # two columns of classes, none named `label`
        "columns whose names the items need for themselves, or no file can have, have others: 'key' is 'source_key'",
        "columns that are left out, since they hold no plain values: 'boxes' (list<element: double>)",
    )
    (item,) = source.items()
    assert item.metadata == {"fine": "b", "coarse": "x", "weight": 0.5, "patient": 7, "source_key": "k"}
    (item,) = read(path, label_column="coarse")
    assert item.metadata["label"] == "x"
    assert "coarse" not in item.metadata
    pa.Table.from_pylist([item.metadata], schema=opened(path, label_column="coarse").metadata_schema)


def test_the_only_column_of_classes_is_the_label(tmp_path: Path) -> None:
    path = write(tmp_path / "d.parquet", features(kind=["a", "b"]), img=images(cell(0)), kind=pa.array([1]))
    assert read(path)[0].metadata == {"label": "b"}


def test_rows_without_a_usable_picture_are_failures(tmp_path: Path) -> None:
    cells = [
        None,
        {"bytes": None, "path": "a.png"},
        {"bytes": b"", "path": None},
        {"bytes": b"junk", "path": ""},
    ]
    path = write(tmp_path / "d.parquet", img=images(*cells, cell(0)), label=pa.array(list("abcde")))
    items = read(path)
    assert [item.metadata["label"] for item in items] == list("abcde")
    said = ["holds no picture", "names the file 'a.png'", "the file is empty", "not a picture"]
    for item, words in zip(items, said, strict=False):
        assert words in str(item.failure)
        assert item.content is None
    assert items[-1].failure is None


@pytest.mark.parametrize("number", [1, 5, -2])
def test_a_class_number_without_a_name_is_a_failure(tmp_path: Path, number: int) -> None:
    path = write(
        tmp_path / "d.parquet",
        features(label=["a"]),
        img=images(cell(0), cell(1)),
        label=pa.array([0, number]),
    )
    first, second = read(path)
    assert first.failure is None
    assert "outside its 1 classes" in str(second.failure)
    assert second.metadata == {"label": None}


def test_parts_are_given_where_there_are_several(tmp_path: Path) -> None:
    names = ("train-00000-of-00002", "train-00001-of-00002", "validation-00000-of-00001", "test")
    files = [write(tmp_path / f"{name}.parquet", img=images(cell(k))) for k, name in enumerate(names)]
    assert [item.given for item in read(*files)] == ["train", "train", "val", "test"]
    assert [item.given for item in read(*files[:2])] == [None, None]
    extra = write(tmp_path / "extra-1.parquet", img=images(cell(9)))
    with pytest.raises(DataError, match=r"others are not: 'extra-1\.parquet'"):
        read(*files, extra)
    assert [item.given for item in read(*files[2:], extra, treat={"extra-1": "train"})] == [
        "val",
        "test",
        "train",
    ]
    assert [item.item_id for item in read(*files[2:], extra, treat={"extra-1": "skip"})] == [
        "validation-00000-of-00001.parquet#0",
        "test.parquet#0",
    ]


def test_parts_as_the_hub_converts_them(tmp_path: Path) -> None:
    names = ("train/0000", "train/0001", "test/0000")
    files = [
        write(tmp_path / "default" / f"{name}.parquet", img=images(cell(k))) for k, name in enumerate(names)
    ]
    assert [(item.item_id, item.given) for item in read(*files)] == [
        ("train/0000.parquet#0", "train"),
        ("train/0001.parquet#0", "train"),
        ("test/0000.parquet#0", "test"),
    ]


def test_a_column_of_parts_is_the_split(tmp_path: Path) -> None:
    values = ["train", "test", "Validation", None, "extra"]
    path = write(
        tmp_path / "train.parquet",
        img=images(*map(cell, range(5))),
        label=pa.array(list("ababa")),
        split=pa.array(values),
    )
    with pytest.raises(DataError, match="values of `split` .*beside lie others: 'extra'"):
        opened(path)
    assert [item.given for item in read(path, treat={"extra": "train"})] == [
        "train",
        "test",
        "val",
        None,
        "train",
    ]
    source = opened(path, treat={"extra": "skip"})
    items = list(source.items())
    assert source.n_items == len(items) == 4
    assert [(item.item_id, item.given) for item in items] == [
        ("train.parquet#0", "train"),
        ("train.parquet#1", "test"),
        ("train.parquet#2", "val"),
        ("train.parquet#3", None),
    ]
    assert [item.metadata["split"] for item in items] == ["train", "test", "Validation", None]
    with pytest.raises(UsageError, match="nothing here is named 'exta'"):
        opened(path, treat={"extra": "skip", "exta": "skip"})
    folds = write(tmp_path / "f.parquet", img=images(cell(0), cell(1)), split=pa.array(["fold 1", "fold 2"]))
    assert [item.given for item in read(folds)] == [None, None]


@pytest.mark.parametrize("name", sorted(JOINED_COLUMNS | {"Score", "split_group", "item_id", "Key"}))
def test_columns_of_the_users_own_that_items_need_have_other_names(tmp_path: Path, name: str) -> None:
    path = write(
        tmp_path / "d.parquet",
        img=images(cell(0)),
        **{name: pa.array([0.5]), f"source_{name}": pa.array([1])},
    )
    source = opened(path)
    assert source.notes[1].endswith(f"have others: {name!r} is 'source_source_{name}'")
    (item,) = source.items()
    assert item.metadata == {f"source_source_{name}": 0.5, f"source_{name}": 1}


def test_all_that_an_index_needs_is_known() -> None:
    assert set(RESERVED) == JOINED_COLUMNS


def test_columns_are_named_as_files_can_be(tmp_path: Path) -> None:
    names = ("a/b", "..\\up", "two\nlines", "n" * 300, ".")
    path = write(tmp_path / "d.parquet", img=images(cell(0)), **{name: pa.array([1]) for name in names})
    assert opened(path).metadata_schema.names == ["a_b", "_up", "two_lines", "n" * 100, "column"]


def test_class_names_are_each_files_own(tmp_path: Path) -> None:
    one = write(
        tmp_path / "a.parquet", features(label=["cat", "dog"]), img=images(cell(0)), label=pa.array([0])
    )
    other = write(
        tmp_path / "b.parquet", features(label=["dog", "cat"]), img=images(cell(1)), label=pa.array([0])
    )
    assert [item.metadata["label"] for item in read(one, other)] == ["cat", "dog"]


def test_the_order_of_columns_and_how_numbers_are_stored_say_nothing(tmp_path: Path) -> None:
    one = write(
        tmp_path / "a.parquet",
        img=images(cell(0)),
        label=pa.array(["x"]),
        age=pa.array([1], pa.int8()),
        note=pa.nulls(1),
    )
    other = write(
        tmp_path / "b.parquet",
        note=pa.array(["n"]),
        age=pa.array([2], pa.uint32()),
        label=pa.array(["y"]).dictionary_encode(),
        img=images(cell(1)),
    )
    for files in ((one, other), (other, one)):
        found = {item.item_id: item.metadata for item in read(*files)}
        assert found == {
            "a.parquet#0": {"label": "x", "age": 1, "note": None},
            "b.parquet#0": {"label": "y", "age": 2, "note": "n"},
        }


@pytest.mark.parametrize(
    ("column", "said"),
    [
        ({}, "it lacks the column 'label'"),
        (
            {"label": pa.array([1])},
            r"its column 'label' holds whole numbers \(int64\), that of the first text \(string\)",
        ),
        ({"label": pa.array(["x"]), "more": pa.array([1])}, "it has a column 'more' more"),
    ],
)
def test_files_of_other_columns_are_told_apart(
    tmp_path: Path, column: dict[str, pa.Array], said: str
) -> None:
    good = write(tmp_path / "a.parquet", img=images(cell(0)), label=pa.array(["x"]))
    other = write(tmp_path / "b.parquet", img=images(cell(0)), **column)
    with pytest.raises(DataError, match=rf"b\.parquet has other columns than .*a\.parquet: {said}"):
        opened(good, other)


def test_files_of_one_name_have_ids_of_their_own(tmp_path: Path) -> None:
    files = [write(tmp_path / folder / "0.parquet", img=images(cell(0))) for folder in ("b", "a")]
    assert [item.item_id for item in read(*files)] == ["b/0.parquet#0", "a/0.parquet#0"]
    with pytest.raises(UsageError, match="named twice"):
        opened(files[0], tmp_path / "a" / ".." / "b" / "0.parquet")


def test_links_of_the_hubs_cache_keep_their_names(tmp_path: Path) -> None:
    blob = write(tmp_path / "blobs" / "0123abcd", img=images(cell(0)))
    link = tmp_path / "train-00000-of-00001.parquet"
    link.symlink_to(blob)
    assert read(link)[0].item_id == "train-00000-of-00001.parquet#0"
    other = write(tmp_path / "blobs" / "4567cdef", img=images(cell(1)))
    for folder, blob_path in (("one", blob), ("two", other)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "0.parquet").symlink_to(blob_path)
    both = read(tmp_path / "one" / "0.parquet", tmp_path / "two" / "0.parquet")
    assert [item.item_id for item in both] == ["one/0.parquet#0", "two/0.parquet#0"]


def test_many_rows_keep_their_order_and_numbers(tmp_path: Path) -> None:
    n_rows = 2 * BATCH_ROWS + 3
    path = write(
        tmp_path / "d.parquet",
        img=images(*(cell(k % 7) for k in range(n_rows))),
        label=pa.array(range(n_rows)),
    )
    source = opened(path)
    seen: list[int] = []
    items = list(source.items(workers=3, progress=seen.append))
    assert [item.item_id for item in items] == [f"d.parquet#{k}" for k in range(n_rows)]
    assert [item.metadata["label"] for item in items] == [str(k) for k in range(n_rows)]
    assert [item.content for item in items] == [png(k % 7) for k in range(n_rows)]
    assert sum(seen) == source.n_items == n_rows


def test_several_image_columns_want_a_choice(tmp_path: Path) -> None:
    path = write(tmp_path / "d.parquet", left=images(cell(0)), right=images(cell(1)), raw=pa.array([png(2)]))
    with pytest.raises(UsageError, match=r"several image columns \(left, right\)"):
        opened(path)
    assert read(path, image_column="right")[0].content == png(1)
    assert read(path, image_column="raw")[0].content == png(2)
    with pytest.raises(UsageError, match="has no column 'up'; it has left, right, raw"):
        opened(path, image_column="up")
    with pytest.raises(UsageError, match="no column 'kind' holds labels"):
        opened(path, image_column="left", label_column="kind")


def test_columns_that_cannot_be_used_are_errors(tmp_path: Path) -> None:
    path = write(tmp_path / "d.parquet", label=pa.array(["a"]))
    with pytest.raises(DataError, match="has no image column"):
        opened(path)
    with pytest.raises(UsageError, match="holds string, not pictures"):
        opened(path, image_column="label")
    odd = write(tmp_path / "odd.parquet", {b"huggingface": b"{}"}, img=images(cell(0)))
    with pytest.raises(DataError, match="'huggingface' entry"):
        opened(odd)


def test_broken_sets_of_files_are_errors(tmp_path: Path) -> None:
    good = write(tmp_path / "a.parquet", img=images(cell(0)), label=pa.array(["x"]))
    with pytest.raises(DataError, match="no rows"):
        opened(write(tmp_path / "none.parquet", img=images()))
    with pytest.raises(DataError, match="does not exist"):
        opened(tmp_path / "missing.parquet")
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(good.read_bytes()[:-50])
    with pytest.raises(DataError, match="not a readable parquet file"):
        opened(broken)


def test_damage_inside_a_file_is_an_error_when_it_is_reached(tmp_path: Path) -> None:
    path = tmp_path / "d.parquet"
    write(path, img=images(*(cell(k) for k in range(4 * BATCH_ROWS))))
    data = bytearray(path.read_bytes())
    data[4:400] = b"\xff" * 396
    path.write_bytes(data)
    with pytest.raises(DataError, match="is damaged after 0 rows"):
        read(path)


def test_cifar(shared: Path) -> None:
    folder = shared / "data" / "cifar10" / "plain_text"
    files = [folder / f"{part}-00000-of-00001.parquet" for part in ("test", "train")]
    source = opened(*files)
    assert source.n_items == 60_000
    items = []
    for item in source.items(workers=0):
        items.append(item)
        if len(items) == 200:
            break
    table = pq.ParquetFile(files[0]).read_row_group(0, columns=["img", "label"]).slice(0, 200).to_pylist()
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    assert [item.content for item in items] == [row["img"]["bytes"] for row in table]
    assert [item.metadata["label"] for item in items] == [names[row["label"]] for row in table]
    assert {item.given for item in items} == {"test"}
    assert items[7].item_id == "test-00000-of-00001.parquet#7"
    assert (items[7].width_px, items[7].height_px) == (32, 32)


def test_what_datasets_writes_is_read(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    described = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])}
    )
    made = datasets.Dataset.from_dict(
        {"image": [noise(6, 5, 0), noise(6, 5, 1)], "label": [1, 0]}, features=described
    )
    made.to_parquet(str(tmp_path / "d.parquet"))
    items = read(tmp_path / "d.parquet")
    assert [item.metadata for item in items] == [{"label": "dog"}, {"label": "cat"}]
    assert items[0].content is not None
    with Image.open(io.BytesIO(items[0].content)) as image:
        assert image.tobytes() == noise(6, 5, 0).tobytes()


def test_a_large_file_is_not_held_in_memory(tmp_path: Path) -> None:
    noise_bytes = [
        bytes(np.random.default_rng(k).integers(0, 256, 20_000, dtype=np.uint8)) for k in range(600)
    ]
    path = tmp_path / "d.parquet"
    cells = images(*({"bytes": data, "path": None} for data in noise_bytes))
    pq.write_table(pa.table({"img": cells}), path, row_group_size=50)
    del cells
    start, peak = pa.total_allocated_bytes(), 0
    for item in opened(path).items(workers=0):
        assert item.failure is not None
        peak = max(peak, pa.total_allocated_bytes() - start)
    # 12 MB in 12 row groups: a few of these may be held, not all.
    assert peak < 6_000_000


def test_a_text_that_is_no_utf8_is_the_failure_of_its_row(tmp_path: Path) -> None:
    """Parquet files do not say and Arrow does not check; the other rows are sound."""
    ends = pa.py_buffer(np.array([0, 3, 5, 8], np.int32).tobytes())
    label = pa.StringArray.from_buffers(3, ends, pa.py_buffer(b"cat\xff\xfedog"))
    path = write(tmp_path / "a.parquet", image=images(*map(cell, range(3))), label=label)
    for options in ({}, {"limit": 3}):
        items = read(path, **options)
        assert [item.metadata["label"] for item in items] == ["cat", None, "dog"]
        assert [item.failure is None for item in items] == [True, False, True]
        assert "column 'label': its text is not UTF-8" in str(items[1].failure)


def test_of_large_rows_fewer_are_read_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.parquet", image=images(*map(cell, range(8))))
    asked: list[int] = []
    real = pq.ParquetFile.iter_batches

    def watched(file: pq.ParquetFile, rows: int, **more: Any) -> Any:
        asked.append(rows)
        return real(file, rows, **more)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", watched)
    monkeypatch.setattr("deponij.pipeline.data.adapters.hf_parquet.BATCH_BYTES", 1)
    assert len(read(path)) == 8
    assert asked == [1]
