"""The contract of data adapters, over every registered one."""

import io
import json
import os
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import video_world
from PIL import Image

from deponij.pipeline.data.adapters.registry import (
    ITEM_COLUMNS,
    FileSource,
    Source,
    open_source,
    register_source,
    source_class,
    source_names,
)
from deponij.pipeline.data.adapters.whole import Reading
from deponij.pipeline.data.inside import MAX_PICTURE_BYTES
from deponij.pipeline.data.known_files import KnownFiles
from deponij.pipeline.data.parallel import Each
from deponij.pipeline.pictures import decode
from deponij.store.errors import DataError, UsageError
from deponij.store.texts import is_storable

N_PICTURES = 5


def picture(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def coco(root: Path) -> dict[str, object]:
    images = [{"id": k, "file_name": f"{k}.png", "width": 30, "height": 20} for k in range(N_PICTURES)]
    annotations = [
        {
            "id": k,
            "image_id": k % N_PICTURES,
            "category_id": k % 2,
            "bbox": [k, 1, 9, 8],
            "iscrowd": 0,
            "area": 72,
        }
        for k in range(2 * N_PICTURES)
    ]
    categories = [{"id": 0, "name": "Cigarette"}, {"id": 1, "name": "Pop tab"}]
    document = {"images": images, "annotations": annotations, "categories": categories}
    (root / "annotations.json").write_text(json.dumps(document))
    for k in range(N_PICTURES - 1):
        (root / f"{k}.png").write_bytes(picture(k))
    (root / f"{N_PICTURES - 1}.png").write_bytes(b"damaged")
    return {"annotations": root / "annotations.json", "images": root}


def taco(root: Path) -> dict[str, object]:
    coco(root)
    return {"root": root}


def folder(root: Path) -> dict[str, object]:
    for k in range(N_PICTURES):
        (root / f"class{k % 2}").mkdir(exist_ok=True)
        (root / f"class{k % 2}" / f"{k}.png").write_bytes(picture(k) if k else b"damaged")
    return {"folder": root}


def parquet(root: Path) -> dict[str, object]:
    cells = [{"bytes": picture(k) if k else b"damaged", "path": None} for k in range(N_PICTURES)]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table(
        {"image": pa.array(cells, kind), "label": pa.array([str(k % 2) for k in range(N_PICTURES)])}
    )
    pq.write_table(table, root / "data.parquet")
    return {"files": [root / "data.parquet"]}


def yolo(root: Path) -> dict[str, object]:
    (root / "data.yaml").write_text("names: [cat, dog]\ntrain: images/train\nval: images/val\n")
    for k in range(N_PICTURES):
        part = "val" if k == 1 else "train"
        for folder_name in ("images", "labels"):
            (root / folder_name / part).mkdir(parents=True, exist_ok=True)
        (root / "images" / part / f"{k}.png").write_bytes(picture(k) if k else b"damaged")
        (root / "labels" / part / f"{k}.txt").write_text(
            f"{k % 2} 0.5 0.5 0.4 0.4\n0 0.1 0.1 0.5 0.1 0.5 0.5\n"
        )
    return {"data": root / "data.yaml"}


def voc(root: Path) -> dict[str, object]:
    for name in ("Annotations", "JPEGImages"):
        (root / name).mkdir()
    for k in range(N_PICTURES):
        (root / "JPEGImages" / f"{k}.png").write_bytes(picture(k) if k else b"damaged")
        box = "<xmin>1</xmin><ymin>2</ymin><xmax>12</xmax><ymax>9</ymax>"
        (root / "Annotations" / f"{k}.xml").write_text(
            f"<annotation><filename>{k}.png</filename><size><width>30</width><height>20</height></size>"
            f"<object><name>class{k % 2}</name><bndbox>{box}</bndbox></object></annotation>"
        )
    return {"folder": root}


def listed(root: Path) -> dict[str, object]:
    for k in range(N_PICTURES):
        (root / f"{k}.png").write_bytes(picture(k) if k else b"damaged")
    rows = [f"{k}.png,class{k % 2},{k}" for k in range(N_PICTURES)]
    (root / "table.csv").write_text("\n".join(["path,label,camera", *rows]) + "\n")
    return {"table": root / "table.csv"}


def webdataset(root: Path) -> dict[str, object]:
    with tarfile.open(root / "shard-0.tar", "w") as tar:
        for k in range(N_PICTURES):
            for ending, data in (("png", picture(k) if k else b"damaged"), ("cls", str(k % 2).encode())):
                member = tarfile.TarInfo(f"{k:04d}.{ending}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return {"shards": [root / "shard-0.tar"]}


def video(root: Path) -> dict[str, object]:
    (root / "cat").mkdir()
    video_world.write(root / "cat" / "a.mp4", n_frames=5, fps=1)
    (root / "cat" / "b.mp4").write_bytes(b"damaged")
    return {"folder": root}


def unpictured(root: Path) -> dict[str, object]:
    rows = [f"{'' if k == 0 else f'thing-{k}'},class{k % 2},{k}" for k in range(N_PICTURES)]
    (root / "table.csv").write_text("\n".join(["id,label,camera", *rows]) + "\n")
    return {"table": root / "table.csv"}


# One small data set a kind, each with at least one damaged picture, or a row without an id.
MADE: dict[str, Callable[[Path], dict[str, object]]] = {
    "coco": coco,
    "yolo": yolo,
    "voc": voc,
    "listed": listed,
    "taco": taco,
    "folder": folder,
    "parquet": parquet,
    "webdataset": webdataset,
    "video": video,
    "unpictured": unpictured,
}


def test_every_adapter_is_under_contract() -> None:
    assert set(source_names()) == set(MADE)


@pytest.fixture(params=sorted(MADE))
def named(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, dict[str, object]]:
    """An adapter's name, and parameters of it."""
    return request.param, MADE[request.param](tmp_path)


@pytest.fixture
def source(named: tuple[str, dict[str, object]]) -> Source:
    return open_source(*named)


def test_items_are_as_many_as_promised_with_unique_ids(source: Source) -> None:
    items = list(source.items(workers=2))
    assert len(items) == source.n_items
    assert len({item.item_id for item in items}) == len(items)


def test_order_and_content_do_not_depend_on_workers(source: Source) -> None:
    assert list(source.items(workers=0)) == list(source.items(workers=1)) == list(source.items(workers=4))


def test_what_no_process_survives_is_a_failure(source: Source) -> None:
    """As on a cluster whose workers die of every picture; what lies within other files is read here."""

    def deadly(each: Each[Any, Any], chunks: Iterable[list[Any]]) -> Iterator[list[Any]]:
        for chunk in chunks:
            yield [each.failed(one, "the worker died") for one in chunk]

    if not isinstance(source, FileSource):
        return
    here, there = list(source.items()), list(source.items(workers=deadly))
    assert [(one.item_id, one.image_id, one.given) for one in there] == [
        (one.item_id, one.image_id, one.given) for one in here
    ]
    assert {one.failure for one in there} == {"the worker died"}
    assert {one.content for one in there} == {None}


def test_progress_adds_up(source: Source) -> None:
    seen: list[int] = []
    list(source.items(workers=2, progress=seen.append))
    assert sum(seen) == source.n_items


def test_metadata_have_the_columns_of_the_schema(source: Source) -> None:
    rows = [item.metadata for item in source.items()]
    assert not ITEM_COLUMNS & set(source.metadata_schema.names)
    assert all(list(row) == source.metadata_schema.names for row in rows)
    table = pa.Table.from_pylist(rows, schema=source.metadata_schema)
    assert table.num_rows == source.n_items


def test_an_item_is_whole_or_a_failure(source: Source) -> None:
    failed = 0
    for item in source.items():
        fields = (item.content, item.key, item.width_px, item.height_px, item.phash)
        assert item.given in (None, "train", "val", "test")
        if item.failure is not None:
            failed += 1
            assert fields == (None,) * 5
            assert item.failure.strip()
            continue
        assert item.key is not None
        if isinstance(source, source_class("unpictured")):
            assert (item.content, item.width_px, item.phash, len(item.key)) == (None, None, None, 40)
            continue
        assert item.content is not None
        assert item.phash is not None
        assert decode(item.content).size == (item.width_px, item.height_px)
        assert (len(item.key), len(item.phash)) == (40, 16)
    assert 0 < failed < source.n_items


def test_a_part_is_what_the_whole_begins_with(source: Source, named: tuple[str, dict[str, object]]) -> None:
    name, params = named
    part = open_source(name, {**params, "limit": 3})
    whole = [item.item_id for item in source.items()]
    taken = [item.item_id for item in part.items(workers=2)]
    assert len(taken) == part.n_items == 3 < len(whole)
    assert taken == [one for one in whole if one in set(taken)]
    assert any("only a part, as asked" in note for note in part.notes)
    assert not any("only a part" in note for note in open_source(name, {**params, "limit": 1000}).notes)
    with pytest.raises(UsageError, match="limit"):
        open_source(name, {**params, "limit": 0})


@pytest.mark.parametrize("name", sorted(set(MADE) - {"webdataset", "video"}))
def test_a_part_has_every_class(name: str, tmp_path: Path) -> None:
    # Two classes in at most two parts.
    items = list(open_source(name, {**MADE[name](tmp_path), "limit": 4}).items())
    labels = {item.metadata.get("label", item.metadata.get("category")) for item in items}
    assert len(labels) == 2


def test_files_that_are_named_are_those_that_would_be_copied(source: Source, tmp_path: Path) -> None:
    if not isinstance(source, FileSource) or not list(source.picture_files()):
        assert not isinstance(source, source_class("folder") | source_class("listed"))
        return
    with KnownFiles(tmp_path / "known") as known:
        for reading in (Reading(True), Reading(True, known), Reading(True, known)):
            for copied, found in zip(source.items(), source.items(reading=reading), strict=True):
                if copied.content is not None:
                    assert found.content is None
                    assert found.reference is not None
                    assert found.reference.read(tmp_path) == copied.content
                assert replace(found, content=copied.content, reference=None) == copied


def test_what_is_held_ahead_is_bounded_by_its_bytes(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of every adapter that decodes whole pictures ahead: what it hands over says what it holds."""
    told: list[int] = []

    def watched(
        function: Callable[[object], object],
        inputs: Iterable[object],
        workers: int,
        *,
        size_of: Callable[[object], int] | None = None,
        **more: object,
    ) -> Iterator[object]:
        for value in inputs:
            told.append(0 if size_of is None else size_of(value))
            yield function(value)

    monkeypatch.setattr("deponij.pipeline.data.adapters.whole.ordered_map", watched)
    held = [len(item.content or b"") for item in source.items()]
    if told:
        assert len(told) == len(held)
        assert all(one >= size for one, size in zip(told, held, strict=True))


def test_a_consumer_may_stop_early(source: Source) -> None:
    stream = source.items(workers=2)
    first = next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert next(source.items(workers=0)) == first


@pytest.mark.parametrize("name", sorted(MADE))
def test_parameters_are_checked_together(name: str) -> None:
    with pytest.raises(UsageError, match=r"(?s)Field required.*wrong_one: Extra inputs"):
        open_source(name, {"wrong_one": 1})


@pytest.mark.parametrize("name", sorted(MADE))
def test_what_is_not_there_is_a_data_error(name: str, tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    params = MADE[name](tmp_path / "made")
    gone = {
        key: [tmp_path / "none"] if isinstance(value, list) else tmp_path / "none"
        for key, value in params.items()
    }
    with pytest.raises(DataError, match=r"does not exist|is not at"):
        open_source(name, gone)


def has(field: str) -> list[str]:
    """Adapters that take this parameter."""
    return [name for name in source_names() if field in source_class(name).Params.model_fields]


@pytest.mark.parametrize("name", has("treat"))
def test_what_is_said_of_names_that_are_not_there_is_refused(name: str, tmp_path: Path) -> None:
    params = MADE[name](tmp_path)
    with pytest.raises(UsageError, match="treat"):
        open_source(name, {**params, "treat": {"nowhere": "skip"}})


@pytest.mark.parametrize("name", has("links_into"))
def test_links_lead_where_the_user_says_and_nowhere_else(name: str, tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    (tmp_path / "elsewhere").mkdir()
    params = MADE[name](tmp_path / "made")
    if name == "webdataset":
        params = {"shards": [tmp_path / "made"]}  # one that is itself named may be a link
    expected = [item.key for item in open_source(name, params).items()]
    for path in list((tmp_path / "made").rglob("*")):
        if path.suffix in (".png", ".mp4", ".tar"):
            path.symlink_to(path.rename(tmp_path / "elsewhere" / path.name))
    if name == "webdataset":
        with pytest.raises(DataError, match="is a symbolic link that leaves the data set's folder"):
            open_source(name, params)
    else:
        assert {item.key for item in open_source(name, params).items()} == {None}
    allowed = open_source(name, {**params, "links_into": [tmp_path / "elsewhere"]})
    assert [item.key for item in allowed.items()] == expected


@pytest.mark.parametrize("name", sorted(set(has("links_into")) - {"webdataset", "video"}))
def test_a_file_that_is_larger_than_any_picture_is_not_read(name: str, tmp_path: Path) -> None:
    """Files of holes are of any size, and take no room."""
    params = MADE[name](tmp_path)
    path = min(one for one in tmp_path.rglob("*.png") if one.read_bytes() != b"damaged")
    with path.open("r+b") as file:
        file.truncate(MAX_PICTURE_BYTES + 1)
    items = list(open_source(name, params).items())
    told = [item.item_id for item in items if "are read as a picture" in str(item.failure)]
    assert told
    assert all(path.name in one for one in told)
    assert any(item.failure is None for item in items)


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("name", "pipe"),
    [
        ("folder", "class0/pipe.png"),
        ("listed", "1.png"),
        ("video", "cat/pipe.mp4"),
        ("voc", "Annotations/pipe.xml"),
        ("yolo", "labels/train/pipe.txt"),
    ],
)
def test_a_pipe_is_never_waited_for(name: str, pipe: str, tmp_path: Path) -> None:
    params = MADE[name](tmp_path)
    (tmp_path / pipe).unlink(missing_ok=True)
    os.mkfifo(tmp_path / pipe)
    items = list(open_source(name, params).items())
    said = "is not a regular file" if name != "yolo" else "no picture for the labels"
    assert sum(said in str(item.failure) for item in items) == 1
    assert any(item.failure is None for item in items)


@pytest.mark.parametrize("name", ["folder", "video", "webdataset"])
def test_names_that_are_no_utf8_on_disk_are_spelled_out(name: str, tmp_path: Path) -> None:
    params = MADE[name](tmp_path)
    for path in sorted(tmp_path.rglob("*"), reverse=True):
        if path.is_dir() or name == "webdataset":
            path.rename(path.with_name(os.fsdecode(b"caf\xe9") + path.name))
    params = {"shards": [tmp_path]} if name == "webdataset" else params
    for item in open_source(name, params).items():
        assert item.item_id.startswith(r"caf\xe9")
        assert all(is_storable(str(one)) for one in (item.image_id, item.failure, *item.metadata.values()))


@pytest.mark.timeout(60)
def test_a_pipe_is_no_shard(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.tar")
    for shards in ([tmp_path], [tmp_path / "*.tar"], [tmp_path / "a.tar"]):
        with pytest.raises(DataError, match="is not a regular file"):
            open_source("webdataset", {"shards": shards})


def test_unknown_names_list_the_known_and_the_nearest() -> None:
    with pytest.raises(
        UsageError,
        match=r"Did you mean 'folder'\? Known: coco, folder, listed, parquet, taco, .*video, voc, webdataset, yolo",
    ):
        open_source("foldr", {})


def test_a_name_is_given_once() -> None:
    with pytest.raises(ValueError, match="kind of data set 'folder' is taken by"):
        register_source("folder")(type("Other", (), {}))
