"""Pascal VOC: as the development kit lays it out, as labelling tools write it, and its bad cases.

Expected boxes are computed by hand: the kit counts pixels from 1 and includes the last one.
"""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deponij.pipeline.data.adapters.registry import open_source
from deponij.pipeline.data.item import Item
from deponij.pipeline.pictures import decode
from deponij.store.errors import DataError

SIZE = (40, 20)


def document(name: str, *objects: tuple[str, int, int, int, int], size: tuple[int, int] = SIZE) -> str:
    boxes = "".join(
        f"<object><name>{kind}</name><bndbox><xmin>{left}</xmin><ymin>{top}</ymin><xmax>{right}</xmax>"
        f"<ymax>{bottom}</ymax></bndbox></object>"
        for kind, left, top, right, bottom in objects
    )
    return (
        f"<annotation><folder>C:\\x</folder><filename>{name}</filename><size><width>{size[0]}</width>"
        f"<height>{size[1]}</height><depth>3</depth></size>{boxes}</annotation>"
    )


def write(root: Path, files: dict[str, str]) -> Path:
    for seed, (name, text) in enumerate(files.items()):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".png":
            array = np.random.default_rng(seed).integers(0, 256, (*SIZE[::-1], 3), dtype=np.uint8)
            Image.fromarray(array).save(path)
        else:
            path.write_text(text)
    return root


def items(root: Path) -> dict[str, Item]:
    return {item.item_id: item for item in open_source("voc", {"folder": root}).items()}


def test_the_kits_boxes_count_from_one_and_include_the_last_pixel(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        {
            "Annotations/1.xml": document("1.png", ("cat", 1, 1, 40, 20), ("dog", 11, 6, 11, 15)),
            "JPEGImages/1.png": "",
            "Annotations/2.xml": document("2.png", ("cat", 2, 3, 4, 5), size=(0, 0)),
            "JPEGImages/2.png": "",
            "ImageSets/Main/train.txt": "1\n",
            "ImageSets/Main/test.txt": "2\n",
            "ImageSets/Main/cat_train.txt": "1  1\n2 -1\n",
        },
    )
    whole, narrow, small = found = list(items(root).values())
    assert [one.failure for one in found] == [None] * 3
    assert (whole.width_px, whole.height_px) == SIZE
    assert [narrow.metadata[f"bbox_{side}"] for side in "xywh"] == [10, 5, 1, 10]
    assert narrow.content is not None
    pixels = np.asarray(Image.open(root / "JPEGImages/1.png"))
    np.testing.assert_array_equal(np.asarray(decode(narrow.content)), pixels[5:15, 10:11])
    assert (whole.given, small.given) == ("train", "test")
    assert (whole.metadata["category"], narrow.metadata["category"]) == ("cat", "dog")


def test_tools_that_count_from_zero(tmp_path: Path) -> None:
    files = {"1.xml": document("1.png", ("cat", 0, 0, 40, 20), ("dog", 10, 5, 20, 15)), "1.png": ""}
    _, second = items(write(tmp_path, files)).values()
    assert [second.metadata[f"bbox_{side}"] for side in "xywh"] == [10, 5, 10, 10]


def test_boxes_of_no_width_are_told_and_one_list_alone_is_no_split(tmp_path: Path) -> None:
    text = document("1.png", ("cat", 0, 0, 40, 20), ("dog", 10, 5, 10, 15))
    files = {"Annotations/1.xml": text, "JPEGImages/1.png": "", "ImageSets/Main/train.txt": "1\n"}
    cat, dog = items(write(tmp_path, files)).values()
    assert (cat.failure, cat.given, dog.given) == (None, None, None)
    assert dog.failure == "the object's box has no area: 0 x 10 px"


def test_files_beside_their_pictures_in_folders_of_parts(tmp_path: Path) -> None:
    files = {}
    for part, name in (("train", "a"), ("valid", "b"), ("test", "c")):
        files |= {
            f"{part}/{name}.xml": document("other name.jpg", ("cat", 1, 1, 9, 9)),
            f"{part}/{name}.png": "",
        }
    found = items(write(tmp_path, files))
    assert {name: item.given for name, item in found.items()} == {
        "train/a.png#0": "train",
        "valid/b.png#0": "val",
        "test/c.png#0": "test",
    }


def test_bad_files_are_recorded_failures(tmp_path: Path) -> None:
    good = document("1.png", ("cat", 1, 1, 9, 9), ("cat", 9, 9, 1, 1)).replace(
        "</annotation>", "<object><name>dog</name></object><object/></annotation>"
    )
    root = write(
        tmp_path,
        {
            "Annotations/1.xml": good,
            "JPEGImages/1.png": "",
            "Annotations/2.xml": "<annotation><object>",
            "Annotations/3.xml": document("3.png", ("cat", 1, 1, 9, 9)),
            "Annotations/4.xml": "<!DOCTYPE a [<!ENTITY b 'c'>]><annotation/>",
            "Annotations/5.xml": "<svg/>",
            "Annotations/6.xml": document("1.png", ("cat", 1, 1, 9, 9)),
        },
    )
    failures = [item.failure for item in items(root).values()]
    said = [None, "no area", "expected the numbers", "no name", "cannot be read as XML", "is not there"]
    said += ["declares entities", "<svg>", "second annotation file"]
    assert len(failures) == len(said)
    for failure, part in zip(failures, said, strict=True):
        assert (failure is None) if part is None else (failure is not None and part in failure)


def test_folders_that_are_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        items(tmp_path / "none")
    with pytest.raises(DataError, match=r"holds no \.xml file"):
        items(tmp_path)
    write(
        tmp_path,
        {"ImageSets/Main/train.txt": "1\n", "ImageSets/Main/val.txt": "1\n", "1.xml": "<annotation/>"},
    )
    with pytest.raises(DataError, match="lists '1'"):
        items(tmp_path)
