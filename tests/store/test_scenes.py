"""Scenes on disk: what is written is read, what does not belong together is refused. Expected are the arrays put in."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from deponij.store.errors import DataError, StoreError
from deponij.store.keys import key_of_bytes
from deponij.store.label_maps import VOID, SceneClass, encode_labels
from deponij.store.scenes import SceneRow, Scenes, write_scenes

CLASSES = (
    SceneClass("road", (128, 64, 128), "what cars drive on"),
    SceneClass("Sky", (70, 130, 180), words="sky"),
)


def picture(seed: int, width: int = 6, height: int = 4) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def labels_of(seed: int, width: int = 6, height: int = 4) -> np.ndarray:
    numbers = np.random.default_rng(seed).integers(0, 3, (height, width), dtype=np.uint8)
    return np.where(numbers == 2, VOID, numbers).astype(np.uint8)


def row(number: int, part: str | None = "train", **other: object) -> SceneRow:
    content = picture(number)
    core = {
        "item_id": f"s{number}.png",
        "key": key_of_bytes(content),
        "width_px": 6,
        "height_px": 4,
        "given": part,
    }
    return SceneRow(**{"core": core, "content": content, "labels": labels_of(number), **other})


def left_out(name: str, reason: str) -> SceneRow:
    return SceneRow({"item_id": name, "failure": reason}, None, None)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    rows = [row(0), row(1, "val", group="drive"), left_out("bad.png", "no label map"), row(2, None)]
    write_scenes(tmp_path / "scenes", CLASSES, iter(rows))
    scenes = Scenes(tmp_path / "scenes")
    assert scenes.classes == CLASSES
    assert scenes.parts == {"s0.png": "train", "s1.png": "val"}
    assert scenes.ids("train") == ["s0.png"] and scenes.ids("test") == []
    assert scenes.items.failures == [("bad.png", "no label map")]
    assert scenes.items.content("s1.png") == picture(1)
    assert scenes.group_of("s1.png") == "drive" and scenes.group_of("s2.png") == "s2.png"
    for number in range(3):
        found = scenes.label_map(f"s{number}.png")
        assert found.dtype == np.uint8 and np.array_equal(found, labels_of(number))


def test_parts_may_be_told_at_the_end(tmp_path: Path) -> None:
    seen: list[str] = []

    def rows() -> Iterator[SceneRow]:
        for number in range(3):
            seen.append(f"s{number}.png")
            yield row(number)

    write_scenes(tmp_path, CLASSES, rows(), parts=lambda: dict.fromkeys(seen, "test"))
    assert Scenes(tmp_path).ids("test") == ["s0.png", "s1.png", "s2.png"]


def test_label_maps_lie_in_many_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deponij.store.scenes._GROUP_BYTES", 200)
    write_scenes(tmp_path, CLASSES, (row(number) for number in range(9)))
    assert pq.ParquetFile(tmp_path / "labels.parquet").num_row_groups > 1
    scenes = Scenes(tmp_path)
    for number in (8, 0, 5, 5, 1):
        assert np.array_equal(scenes.label_map(f"s{number}.png"), labels_of(number))


def test_others_read_the_label_maps_in_their_colours(tmp_path: Path) -> None:
    write_scenes(tmp_path, CLASSES, [row(0)])
    stored = pq.read_table(tmp_path / "labels.parquet")["image"][0].as_py()
    assert stored["path"] == "s0.png.png"
    shown = np.asarray(Image.open(io.BytesIO(stored["bytes"])).convert("RGB"))
    palette = np.full((256, 3), (224, 224, 192), np.uint8)
    palette[:2] = [one.colour for one in CLASSES]
    assert np.array_equal(shown, palette[labels_of(0)])


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"labels": labels_of(0, 4, 6)}, r"\(6, 4\), its picture \(4, 6\)"),
        ({"labels": np.full((4, 6), 2, np.uint8)}, r"the classes \[2\], of which there are 2"),
        ({"labels": None}, "needs a picture and a label map"),
        ({"labels": labels_of(0).astype(np.int64)}, "uint8"),
    ],
)
def test_what_does_not_fit_is_refused_and_leaves_the_old(tmp_path: Path, other: dict, said: str) -> None:
    write_scenes(tmp_path / "scenes", CLASSES, [row(0)])
    with pytest.raises(DataError, match=said):
        write_scenes(tmp_path / "scenes", CLASSES, [row(1), row(2, **other)])
    assert Scenes(tmp_path / "scenes").items.ids == ["s0.png"]
    assert [path.name for path in tmp_path.iterdir()] == ["scenes"]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([], "1 to 255 classes, got 0"),
        ([f"c{k}" for k in range(256)], "1 to 255 classes, got 256"),
        (["road", "Road "], "'road' occurs twice"),
        (["road", " "], "cannot be named ' '"),
        (["road", "a\nb"], "cannot be named"),
    ],
)
def test_classes_that_cannot_be_told_apart(tmp_path: Path, names: list[str], said: str) -> None:
    with pytest.raises(DataError, match=said):
        write_scenes(tmp_path / "scenes", [SceneClass(name, (1, 2, 3)) for name in names], [row(0)])


def test_255_classes_and_void(tmp_path: Path) -> None:
    classes = [SceneClass(f"č {k}", (k, 0, 0)) for k in range(255)]
    labels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    core = {"item_id": "a", "key": key_of_bytes(b"a"), "width_px": 16, "height_px": 16}
    write_scenes(tmp_path, classes, [SceneRow(core, picture(0), labels)])
    assert np.array_equal(Scenes(tmp_path).label_map("a"), labels)


def test_absent_unknown_and_foreign(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there are no scenes at"):
        Scenes(tmp_path)
    write_scenes(tmp_path, CLASSES, [row(0), left_out("bad.png", "why")])
    scenes = Scenes(tmp_path)
    with pytest.raises(StoreError, match="no scene 'bad.png'.*left out"):
        scenes.label_map("bad.png")
    with pytest.raises(StoreError, match="no scene 'x'"):
        scenes.group_of("x")
    (tmp_path / "mine.txt").write_text("keep me")
    with pytest.raises(StoreError, match=r"holds other files.*mine\.txt"):
        write_scenes(tmp_path, CLASSES, [row(0)])


def test_files_of_two_writings_are_told(tmp_path: Path) -> None:
    for name, numbers in (("one", (0, 1)), ("two", (0, 2))):
        write_scenes(tmp_path / name, CLASSES, [row(number) for number in numbers])
    (tmp_path / "one" / "labels.parquet").write_bytes((tmp_path / "two" / "labels.parquet").read_bytes())
    with pytest.raises(StoreError, match="of other pictures"):
        Scenes(tmp_path / "one")


@pytest.mark.parametrize(
    "name", ["labels.parquet", "parts.parquet", "scenes.json", "items/items-00000.parquet"]
)
def test_flipped_bits_are_told(tmp_path: Path, name: str) -> None:
    write_scenes(tmp_path, CLASSES, [row(number) for number in range(3)])
    path = tmp_path / name
    whole = path.read_bytes()
    for at in np.random.default_rng(0).integers(0, len(whole), 60).tolist():
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 16]) + whole[at + 1 :])
        try:
            scenes = Scenes(tmp_path)
            assert scenes.classes == CLASSES and scenes.ids("train") == ["s0.png", "s1.png", "s2.png"]
            for number in range(3):
                assert np.array_equal(scenes.label_map(f"s{number}.png"), labels_of(number))
                assert scenes.items.content(f"s{number}.png") == picture(number)
        except StoreError:
            pass


def test_label_map_numbers_are_checked() -> None:
    with pytest.raises(DataError, match=r"\[h, w\] of uint8"):
        encode_labels(np.zeros((0, 4), np.uint8), CLASSES)
