"""Folders of label maps: what people get wrong, and what must come out. Expected numbers are those that were drawn."""

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scenes_made import HEIGHT, N_CLASSES, WIDTH, numbers, picture, png, put

from deponij.pipeline.data.scenes.registry import Scene, open_scenes
from deponij.store.errors import DataError, UsageError
from deponij.store.label_maps import VOID

CLASSES = [{"name": name, "ids": [number]} for number, name in enumerate(("a", "b", "c"))]
COLOURS = [(10, 20, 30), (200, 0, 0), (0, 0, 0)]


def one(
    root: Path, label: bytes | None, *, jpeg: bytes | None = None, name: str = "x", **options: Any
) -> Scene:
    """One scene of a folder of two, of which the other is sound."""
    put(root / "images" / f"{name}.jpg", jpeg or picture(0))
    put(root / "images" / "zz.jpg", picture(1))
    put(root / "labels" / "zz.png", png(np.zeros((HEIGHT, WIDTH), np.uint8)))
    if label is not None:
        put(root / "labels" / f"{name}.png", label)
    values = {"classes": CLASSES, "void": [255], **options}
    scenes = open_scenes("label-maps", {"folder": root, **values}).scenes(workers=0)
    (wanted,) = (scene for scene in scenes if scene.item.item_id != "images/zz.jpg")
    return wanted


def told(scene: Scene) -> str:
    assert scene.labels is None and scene.item.content is None
    return str(scene.item.failure)


def rgb(values: np.ndarray) -> np.ndarray:
    palette = np.zeros((256, 3), np.uint8)
    palette[:N_CLASSES], palette[VOID] = COLOURS, (9, 9, 9)
    return palette[values]


def test_grey_ids(tmp_path: Path) -> None:
    assert np.array_equal(one(tmp_path, png(numbers(3))).labels, numbers(3))


def test_a_palette_is_read_as_ids(tmp_path: Path) -> None:
    label = png(numbers(3), [value for k in range(256) for value in (255 - k, k, 7)])
    assert Image.open(io.BytesIO(label)).mode == "P"
    assert np.array_equal(one(tmp_path, label).labels, numbers(3))


@pytest.mark.parametrize("bits", [np.uint16, np.uint8])
def test_ids_of_other_numbers_and_16_bits(tmp_path: Path, bits: Any) -> None:
    values = numbers(3).astype(bits)
    ids = [[7, 8], [40_000 if bits is np.uint16 else 200], [0]]
    written = np.select([values == k for k in range(3)], [7, ids[1][0], 0], 99).astype(bits)
    classes = [{"name": name, "ids": of} for name, of in zip("abc", ids, strict=True)]
    assert np.array_equal(one(tmp_path, png(written), classes=classes, void=[99, 255]).labels, numbers(3))


def test_colours(tmp_path: Path) -> None:
    classes = [{"name": name, "colours": [colour]} for name, colour in zip("abc", COLOURS, strict=True)]
    scene = one(tmp_path, png(rgb(numbers(3))), classes=classes, void=[], void_colours=[(9, 9, 9)])
    assert np.array_equal(scene.labels, numbers(3))


def test_grey_by_colours_where_the_table_knows_no_ids(tmp_path: Path) -> None:
    classes = [{"name": "dark", "colours": [(0, 0, 0)]}, {"name": "light", "colours": [(255, 255, 255)]}]
    mask = np.where(numbers(3) == 0, 255, 0).astype(np.uint8)
    assert np.array_equal(one(tmp_path, png(mask), classes=classes, void=[]).labels, mask // 255)


def test_colours_without_a_palette_are_named(tmp_path: Path) -> None:
    said = r"RGB colours, and the table of classes names none: .*\(200, 0, 0\) \(\d+ px\).*name,r,g,b"
    with pytest.raises(DataError, match=said):
        one(tmp_path, png(rgb(numbers(3))))


def test_a_colour_that_the_palette_lacks(tmp_path: Path) -> None:
    classes = [{"name": "a", "colours": [COLOURS[0]]}, {"name": "b", "colours": [COLOURS[1], COLOURS[2]]}]
    scene = one(tmp_path, png(rgb(numbers(3))), classes=classes, void=[])
    n_px = int((numbers(3) == VOID).sum())
    assert f"does not name: (9, 9, 9) ({n_px} px)" in told(scene)


def test_ids_out_of_range(tmp_path: Path) -> None:
    values = numbers(3)
    values[0, :5] = 77
    said = told(one(tmp_path, png(values)))
    assert "ids that the table of classes does not name: 77 (5 px); it names 0 to 2, 255" in said


def test_another_size(tmp_path: Path) -> None:
    said = told(one(tmp_path, png(numbers(3, 5, 4))))
    assert "is 5 x 4 px, the picture 12 x 8 px" in said


def test_a_label_map_of_the_turned_picture(tmp_path: Path) -> None:
    """EXIF 6 turns a stored 12 x 8 into 8 x 12."""
    turned = one(tmp_path, png(numbers(3, HEIGHT, WIDTH)), jpeg=picture(0, orientation=6))
    assert turned.labels is not None and turned.labels.shape == (WIDTH, HEIGHT)


def test_a_label_map_of_the_picture_before_its_turn(tmp_path: Path) -> None:
    said = told(one(tmp_path, png(numbers(3)), jpeg=picture(0, orientation=6)))
    assert "EXIF orientation" in said and "turn it, too" in said


def test_all_void(tmp_path: Path) -> None:
    assert "all of it is void" in told(one(tmp_path, png(np.full((HEIGHT, WIDTH), 255, np.uint8))))


@pytest.mark.parametrize("label", [b"", b"nonsense", png(numbers(3))[:60]])
def test_an_unreadable_label_map(tmp_path: Path, label: bytes) -> None:
    assert "label map 'labels/x.png'" in told(one(tmp_path, label))


def test_a_jpeg_is_no_label_map(tmp_path: Path) -> None:
    assert "a JPEG picture, whose values" in told(one(tmp_path, picture(0)))


def test_a_damaged_picture(tmp_path: Path) -> None:
    assert told(one(tmp_path, png(numbers(3)), jpeg=picture(0)[:200]))


def test_a_picture_without_a_label_map_and_the_reverse(tmp_path: Path) -> None:
    assert told(one(tmp_path, None)) == "there is no label map for it"
    (tmp_path / "images" / "x.jpg").unlink()
    put(tmp_path / "labels" / "x.png", png(numbers(3)))
    source = open_scenes("label-maps", {"folder": tmp_path, "classes": CLASSES})
    scenes = {scene.item.item_id: scene.item.failure for scene in source.scenes()}
    assert scenes == {"images/zz.jpg": None, "labels/x.png": "the label map 'labels/x.png' has no picture"}
    assert any("label maps without a picture: 1" in note for note in source.notes)


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        ([], "1 to 255 classes, got 0"),
        ([{"name": f"c{k}"} for k in range(256)], "1 to 255 classes, got 256"),
        ([{"name": "a"}, {"name": "A"}], "'a' occurs twice"),
        ([{"name": "a\x1b[2J"}], "cannot be named"),
        ([{"name": "a", "ids": [1]}, {"name": "b", "ids": [1]}], "id 1 means both 'a' and 'b'"),
        ([{"name": "a", "ids": [255]}], "id 255 means both 'a' and void"),
    ],
)
def test_classes_that_cannot_be(tmp_path: Path, classes: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        one(tmp_path, png(numbers(3)), classes=classes)


def test_parameters_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"less than or equal to 65535.*got 70000"):
        one(tmp_path, png(numbers(3)), void=[70_000])
    with pytest.raises(UsageError, match="unknown table of classes 'camvd'. Did you mean 'camvid'"):
        one(tmp_path, png(numbers(3)), classes="camvd")
    with pytest.raises(UsageError, match="unknown descriptions 'camvd'"):
        one(tmp_path, png(numbers(3)), descriptions="camvd")
    with pytest.raises(DataError, match="of none of the classes a, b, c"):
        one(tmp_path, png(numbers(3)), descriptions="camvid")


def test_without_a_table(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"which classes do the label maps.*built-in one: camvid, voc, cityscapes"
    ):
        one(tmp_path, png(numbers(3)), classes=None)


@pytest.mark.parametrize("name", ["č æ'\"#?", "a;b,c", "%20 [x]{y}", "-rf", "a\tb"])
def test_strange_names(tmp_path: Path, name: str) -> None:
    scene = one(tmp_path, png(numbers(3)), name=name)
    assert scene.item.item_id == f"images/{name}.jpg" and np.array_equal(scene.labels, numbers(3))


def test_a_name_that_is_no_unicode(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9")
    scene = one(tmp_path, png(numbers(3)), name=name)
    assert scene.item.item_id == "images/caf\\xe9.jpg" and scene.labels is not None


def test_a_link_that_leads_out(tmp_path: Path) -> None:
    put(tmp_path / "elsewhere" / "x.png", png(numbers(3)))
    (tmp_path / "data" / "labels").mkdir(parents=True)
    (tmp_path / "data" / "labels" / "x.png").symlink_to(tmp_path / "elsewhere" / "x.png")
    assert "refused" in told(one(tmp_path / "data", None))
    allowed = one(tmp_path / "data", None, links_into=[tmp_path / "elsewhere"])
    assert np.array_equal(allowed.labels, numbers(3))
