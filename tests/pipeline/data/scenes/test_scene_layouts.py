"""Layouts of folders: which file belongs to which, of which part. Published data sets are made small, by their own names."""

from pathlib import Path

import numpy as np
import pytest
import scenes_made
from scenes_made import HEIGHT, WIDTH, numbers, picture, png, put

from deponij.pipeline.data.scenes.layouts import Pair, find_pairs
from deponij.pipeline.data.scenes.registry import open_scenes
from deponij.store.errors import DataError
from deponij.store.label_maps import VOID


def blank(value: int) -> bytes:
    return png(np.full((HEIGHT, WIDTH), value, np.uint8))


def test_camvid_by_its_names(tmp_path: Path) -> None:
    found = find_pairs(scenes_made.segnet(tmp_path)["folder"], None, None, None)  # type: ignore[arg-type]
    assert (found.layout, found.classes) == ("segnet", "camvid")
    assert found.pairs[0] == Pair("test/Seq05VD_f02.jpg", "testannot/Seq05VD_f02.png", "test", "Seq05VD")
    assert [pair.group for pair in found.pairs] == ["Seq05VD", "0001TP", "0016E5", "0016E5", "0006R0"]


def test_other_pictures_so_laid_out_need_a_table(tmp_path: Path) -> None:
    put(tmp_path / "train" / "cow.jpg", picture(0))
    put(tmp_path / "trainannot" / "cow.png", blank(0))
    with pytest.raises(DataError, match="which classes"):
        open_scenes("label-maps", {"folder": tmp_path})


def test_voc(tmp_path: Path) -> None:
    root = tmp_path / "VOCdevkit" / "VOC2012"
    for name in ("2007_000032", "2007_000033", "2008_000001"):
        put(root / "JPEGImages" / f"{name}.jpg", picture(0))
    for name, value in (("2007_000032", 20), ("2007_000033", 255)):
        put(root / "SegmentationClass" / f"{name}.png", blank(value))
    put(root / "ImageSets" / "Segmentation" / "train.txt", b"2007_000032\n")
    put(root / "ImageSets" / "Segmentation" / "val.txt", b"2007_000033\n")
    put(root / "ImageSets" / "Segmentation" / "trainval.txt", b"2007_000032\n2007_000033\n")
    source = open_scenes("label-maps", {"folder": tmp_path})
    assert [one.name for one in source.classes][20] == "tvmonitor" and source.classes[
        20
    ].spoken == "television monitor"
    # https://github.com/pytorch/vision: the palette of class 20 (tvmonitor) is (0, 64, 128), of 1 (aeroplane) (128, 0, 0).
    assert source.classes[20].colour == (0, 64, 128) and source.classes[1].colour == (128, 0, 0)
    first, second = source.scenes()
    assert first.item.given == "train" and first.labels is not None and set(first.labels.ravel()) == {20}
    assert second.item.given == "val" and "void" in str(second.item.failure)


def test_a_name_in_two_lists(tmp_path: Path) -> None:
    put(tmp_path / "JPEGImages" / "a.jpg", picture(0))
    put(tmp_path / "SegmentationClass" / "a.png", blank(1))
    for part in ("train", "val"):
        put(tmp_path / "ImageSets" / "Segmentation" / f"{part}.txt", b"a\n")
    with pytest.raises(DataError, match=r"val.txt lists 'a', which is in 'train' too"):
        open_scenes("label-maps", {"folder": tmp_path})


@pytest.mark.parametrize(("ending", "value"), [("labelIds", 33), ("labelTrainIds", 18)])
def test_cityscapes(tmp_path: Path, ending: str, value: int) -> None:
    name = "train/aachen/aachen_000003_000019"
    put(tmp_path / "leftImg8bit" / f"{name}_leftImg8bit.png", picture(0))
    put(tmp_path / "gtFine" / f"{name}_gtFine_{ending}.png", blank(value))
    put(tmp_path / "gtFine" / f"{name}_gtFine_instanceIds.png", blank(9))
    put(tmp_path / "gtFine" / f"{name}_gtFine_color.png", blank(9))
    source = open_scenes("label-maps", {"folder": tmp_path})
    assert len(source.classes) == 19 and all(one.description for one in source.classes)
    (scene,) = source.scenes()
    assert scene.item.metadata["group"] == "aachen_000003" and scene.item.given == "train"
    # Bicycle is id 33 and train id 18 (labels.py of cityscapesScripts).
    assert scene.labels is not None and set(scene.labels.ravel()) == {18}
    assert source.classes[18].name == "bicycle"


def test_ade20k_needs_its_table(tmp_path: Path) -> None:
    for part in ("training", "validation"):
        put(tmp_path / "images" / part / "ADE_1.jpg", picture(0))
        put(
            tmp_path / "annotations" / part / "ADE_1.png",
            png(np.where(numbers(1) == VOID, 0, numbers(1) + 1)),
        )
    with pytest.raises(DataError, match=r"objectInfo150\.txt"):
        open_scenes("label-maps", {"folder": tmp_path})
    lines = [
        "Idx\tRatio\tTrain\tVal\tName",
        "1\t0.2\t1\t1\twall",
        "2\t0.1\t1\t1\tbuilding, edifice",
        "3\t0.1\t1\t1\tsky",
    ]
    put(tmp_path / "objectInfo150.txt", "\n".join(lines).encode())
    source = open_scenes("label-maps", {"folder": tmp_path})
    assert [one.name for one in source.classes] == ["wall", "building", "sky"]
    first, second = source.scenes()
    assert np.array_equal(first.labels, numbers(1))
    assert (first.item.given, second.item.given) == ("train", "val")


def test_folders_with_an_ending_and_parts(tmp_path: Path) -> None:
    for part, name in (("train", "a"), ("val", "b")):
        put(tmp_path / "imgs" / part / f"{name}.jpg", picture(0))
        put(tmp_path / "masks" / part / f"{name}_mask.png", blank(1))
    found = find_pairs(tmp_path, None, None, None)
    assert found.pairs == (
        Pair("imgs/train/a.jpg", "masks/train/a_mask.png", "train"),
        Pair("imgs/val/b.jpg", "masks/val/b_mask.png", "val"),
    )


def test_folders_of_other_names(tmp_path: Path) -> None:
    put(tmp_path / "photos" / "a.jpg", picture(0))
    put(tmp_path / "truth" / "a.png", blank(1))
    with pytest.raises(DataError, match=r"has not a known layout.*in it lie 'photos', 'truth'"):
        find_pairs(tmp_path, None, None, None)
    assert find_pairs(tmp_path, None, "photos", "truth").pairs == (Pair("photos/a.jpg", "truth/a.png"),)
    with pytest.raises(DataError, match="there is no folder"):
        find_pairs(tmp_path, None, "photos", "labels")
    with pytest.raises(DataError, match="has not the layout voc"):
        find_pairs(tmp_path, "voc", None, None)


def test_nothing_that_belongs_together(tmp_path: Path) -> None:
    put(tmp_path / "images" / "a.jpg", picture(0))
    (tmp_path / "labels").mkdir()
    with pytest.raises(DataError, match="no picture in it has a label map"):
        find_pairs(tmp_path, None, None, None)


def test_a_copy_of_camvid_with_all_its_colours(tmp_path: Path) -> None:
    """`train_labels/NAME_L.png` in RGB, and class_dict.csv beside: the 32 classes."""
    put(tmp_path / "train" / "0001TP_006690.png", picture(0))
    pixels = np.full((HEIGHT, WIDTH, 3), (64, 128, 64), np.uint8)
    pixels[0] = (0, 0, 0)
    put(tmp_path / "train_labels" / "0001TP_006690_L.png", png(pixels))
    put(tmp_path / "class_dict.csv", b"name,r,g,b\nAnimal,64,128,64\nRoadShoulder,128,128,192\nVoid,0,0,0\n")
    source = open_scenes("label-maps", {"folder": tmp_path})
    assert [one.spoken for one in source.classes] == ["animal", "road shoulder"]
    (scene,) = source.scenes()
    assert scene.labels is not None and scene.item.metadata["group"] == "0001TP"
    assert (scene.labels[0] == VOID).all() and (scene.labels[1:] == 0).all()


@pytest.mark.parametrize("second", ["images/a.png", "labels/a.tif"])
def test_two_files_of_one_name(tmp_path: Path, second: str) -> None:
    put(tmp_path / "images" / "a.jpg", picture(0))
    put(tmp_path / "labels" / "a.png", blank(1))
    put(tmp_path / second, blank(1))
    with pytest.raises(DataError, match=r"'\w+/a\.\w+' and '\w+/a\.\w+' have the same name"):
        find_pairs(tmp_path, None, None, None)


@pytest.mark.parametrize(("images", "labels"), [(".", "masks"), ("photos", ".")])
def test_one_folder_in_the_other(tmp_path: Path, images: str, labels: str) -> None:
    put(tmp_path / images / "a.png", picture(0))
    put(tmp_path / labels / "a.png", blank(1))
    pairs = find_pairs(tmp_path, None, images, labels).pairs
    assert pairs == (
        Pair("a.png" if images == "." else "photos/a.png", "a.png" if labels == "." else "masks/a.png"),
    )
