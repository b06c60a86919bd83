"""YOLO data sets: the layouts that its documentation and labelling tools' exports have, and their bad cases.

Expected boxes are computed by hand from the shares.
"""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deponij.pipeline.data.adapters.registry import Source, open_source
from deponij.pipeline.data.item import Item
from deponij.pipeline.pictures import decode
from deponij.store.errors import DataError

SIZE = (40, 20)


def pixels(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*SIZE[::-1], 3), dtype=np.uint8))


def write(root: Path, files: dict[str, str]) -> Path:
    """Texts as they are; names of pictures with an empty text get pixels of their own."""
    for seed, (name, text) in enumerate(files.items()):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".png":
            pixels(seed).save(path)
        else:
            path.write_text(text)
    return root


def opened(path: Path) -> tuple[Source, dict[str, Item]]:
    source = open_source("yolo", {"data": path})
    return source, {item.item_id: item for item in source.items()}


NAMES = "names:\n  0: cat\n  1: dog\n"


def test_boxes_and_outlines_are_cut_from_the_upright_picture(tmp_path: Path) -> None:
    labels = "1 0.5 0.5 0.25 0.5\n0 0.1 0.2 0.5 0.2 0.5 0.8 0.1 0.8\n"
    root = write(
        tmp_path,
        {
            "data.yaml": NAMES + "path: ../datasets/elsewhere\ntrain: images/train\nval: images/val\ntest:\n",
            "images/train/a.png": "",
            "labels/train/a.txt": labels,
            "images/val/b.png": "",
            "labels/val/b.txt": "0 0.5 0.5 1 1 0.87\n",
        },
    )
    source, items = opened(root / "data.yaml")
    assert source.n_items == 3
    first, second, third = items.values()
    assert (first.metadata["category"], first.given, third.given) == ("dog", "train", "val")
    # 0.5 - 0.125 = 0.375 of 40 px, 0.25 of 20 px; 0.25 and 0.5 of the sides.
    assert [first.metadata[f"bbox_{side}"] for side in "xywh"] == [15, 5, 10, 10]
    assert [second.metadata[f"bbox_{side}"] for side in "xywh"] == pytest.approx([4, 4, 16, 12])
    assert first.content is not None
    whole = np.asarray(Image.open(root / "images/train/a.png"))
    np.testing.assert_array_equal(np.asarray(decode(first.content)), whole[5:15, 15:25])
    # A sixth number is a confidence.
    assert (third.width_px, third.height_px) == SIZE
    assert opened(root)[1] == items


def test_an_outline_masks_the_background(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        {"classes.txt": "cat\n", "images/a.png": "", "labels/a.txt": "0 0 0 1 0 0 1\n"},
    )
    source = open_source("yolo", {"data": root, "crop": {"background": "blank"}})
    (item,) = source.items()
    assert item.content is not None
    cut = np.asarray(decode(item.content))
    # The lower right half is outside the triangle.
    assert (cut[-3:, -6:] == cut[-1, -1]).all()
    assert not (cut[:3, :6] == cut[-1, -1]).all()


@pytest.mark.parametrize(
    "lists",
    [
        {"data.yaml": "names: [cat, dog]\ntrain: ../train/images\nval: ../valid/images\n"},
        {"data.yaml": "names: [cat, dog]\npath: /gone\ntrain: [train/images]\nval: valid/images\n"},
        {
            "data.yaml": "names: [cat, dog]\ntrain: train.txt\nval: val.txt\n",
            "train.txt": "./train/images/1.png\n",
            "val.txt": "valid/images/2.png\n",
        },
        {"classes.txt": "cat\ndog\n"},
    ],
    ids=["beside", "list", "text", "no description"],
)
def test_descriptions_as_exports_write_them(tmp_path: Path, lists: dict[str, str]) -> None:
    files = {"train/images/1.png": "", "train/labels/1.txt": "0 .5 .5 .5 .5\n"}
    files |= {"valid/images/2.png": "", "valid/labels/2.txt": "1 .5 .5 .5 .5\n"}
    _, items = opened(write(tmp_path, lists | files))
    assert {name: (item.metadata["category"], item.given) for name, item in items.items()} == {
        "train/images/1.png#0": ("cat", "train"),
        "valid/images/2.png#0": ("dog", "val"),
    }


def test_lists_name_pictures_from_their_own_folder(tmp_path: Path) -> None:
    """As Ultralytics reads `./`."""
    files = {f"lists/images/{n}.png": "" for n in "12"} | {
        f"lists/labels/{n}.txt": "0 .5 .5 1 1" for n in "12"
    }
    files |= {f"lists/{part}.txt": f"./images/{n}.png\n" for part, n in (("train", 1), ("val", 2))}
    description = "names: [cat]\ntrain: lists/train.txt\nval: lists/val.txt\n"
    _, items = opened(write(tmp_path, files | {"data.yaml": description}))
    assert {name: item.given for name, item in items.items()} == {
        "lists/images/1.png#0": "train",
        "lists/images/2.png#0": "val",
    }


def test_labels_lie_beside_the_last_folder_images(tmp_path: Path) -> None:
    """And the list of names that labelling tools put beside them is of no picture; one part alone is no split."""
    files = {"images/train/images/1.png": "", "images/train/labels/1.txt": "0 .5 .5 1 1"}
    files |= {"images/train/labels/classes.txt": "cat\n", "data.yaml": "names: [cat]\ntrain: images/train\n"}
    _, items = opened(write(tmp_path, files))
    assert {name: (item.failure, item.given) for name, item in items.items()} == {
        "images/train/images/1.png#0": (None, None)
    }


def test_of_poses_the_boxes_are_read_and_classes_go_by_number(tmp_path: Path) -> None:
    description = "kpt_shape: [2, 3]\nnames: {3: dog, 1: cat}\ntrain: images\n"
    lines = "3 .5 .5 .25 .5 .1 .1 2 .2 .2 1\n1 .5 .5 .25 .5 0 0 0 0 0 0\n1.5 .5 .5 .25 .5 0 0 0 0 0 0\n"
    root = write(tmp_path, {"data.yaml": description, "images/1.png": "", "labels/1.txt": lines})
    _, items = opened(root)
    dog, cat, neither = items.values()
    assert [item.metadata["category"] for item in (dog, cat)] == ["dog", "cat"]
    assert [dog.metadata[f"bbox_{side}"] for side in "xywh"] == [15, 5, 10, 10]
    assert "class 1.5 is not among the 2 names" in str(neither.failure)


def test_labels_beside_the_pictures(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        {"obj.names": "cat\n", "obj_train_data/1.png": "", "obj_train_data/1.txt": "0 .5 .5 .5 .5\n"},
    )
    _, items = opened(root)
    assert [(item.failure, item.given) for item in items.values()] == [(None, None)]


def test_pictures_that_no_list_names_are_not_of_the_data_set(tmp_path: Path) -> None:
    files = {"data.yaml": "names: [cat]\ntrain: train.txt\n", "train.txt": "./images/1.png\n"}
    for name in ("1", "2"):
        files |= {f"images/{name}.png": "", f"labels/{name}.txt": "0 .5 .5 .5 .5\n"}
    source, items = opened(write(tmp_path, files))
    assert (list(items), source.n_items) == (["images/1.png#0"], 1)


def test_what_is_left_out_is_told(tmp_path: Path) -> None:
    files = {"classes.txt": "cat\n"}
    for part in ("train", "val", "draft"):
        files |= {f"{part}/images/1.png": "", f"{part}/labels/1.txt": "0 .5 .5 .5 .5\n"}
    source = open_source("yolo", {"data": write(tmp_path, files), "treat": {"draft": "skip"}})
    assert {item.item_id: item.given for item in source.items()} == {
        "train/images/1.png#0": "train",
        "val/images/1.png#0": "val",
    }
    assert source.notes == ("photographs that are left out as asked: 1",)


def test_what_is_wrong_with_a_line_is_a_recorded_failure(tmp_path: Path) -> None:
    lines = ["7 .5 .5 .1 .1", "x .5 .5 .1 .1", "0 12 14 30 40", "0 .5 .5", "0 .5 .5 0 .1", "0 nan .5 .1 .1"]
    root = write(
        tmp_path,
        {
            "classes.txt": "cat\n",
            "images/a.png": "",
            "labels/a.txt": "\n".join([*lines, "0 .5 .5 .5 .5"]) + "\n",
            "labels/gone.txt": "0 .5 .5 .5 .5\n",
        },
    )
    _, items = opened(root)
    *failures, good, without = [item.failure for item in items.values()]
    assert good is None
    for number, (failure, said) in enumerate(
        zip(failures, ["class 7", "numbers", "shares", "3 numbers", "no area", "shares"], strict=True), 1
    ):
        assert failure is not None
        assert f"labels/a.txt, line {number}" in failure
        assert said in failure
    assert without == "there is no picture for the labels labels/gone.txt"


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "neither data.yaml nor classes.txt"),
        ({"data.yaml": "train: images\n"}, "no `names`"),
        ({"data.yaml": "names: [a, a]\n"}, "none twice"),
        ({"data.yaml": "names: [a, b\n"}, "cannot be read as YAML"),
        ({"data.yaml": "names: [a, b]\ntrain: images/train\n"}, "which is not there"),
        ({"data.yaml": "names: [a]\ntrain: p\nval: p\n", "p/1.png": ""}, "tests nothing"),
        ({"data.yaml": "names: [a]\ntrain: /\n"}, "outside the data set"),
    ],
)
def test_data_sets_that_cannot_be_used(tmp_path: Path, files: dict[str, str], said: str) -> None:
    if "/\n" in files.get("data.yaml", ""):
        files = {"data.yaml": f"names: [a]\ntrain: {tmp_path.parent}/beside.txt\n"}
        write(tmp_path.parent, {"beside.txt": "/etc/1.png\n"})
    write(tmp_path, files)
    with pytest.raises(DataError, match=said):
        opened(tmp_path)
