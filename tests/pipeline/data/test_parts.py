"""Which names are parts of a split: layouts that people and programs write, and where it is left to the user."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from deponij.pipeline.data.parts import given_part, parts_of_files, places, refuse_unknown
from deponij.store.errors import DataError, UsageError


def read(*folders: str, **treat: Any) -> dict[str, tuple[str | None, str | None]]:
    """Part and label of each folder's pictures; those that are skipped are left out."""
    names: list[tuple[str, ...]] = [tuple(one.split("/")) if one else () for one in folders]
    refuse_unknown(treat, names)
    found = places(names, treat)
    return {
        "/".join(names): (place.given, place.others[0] if place.others else None)
        for names, place in found.items()
        if not place.is_skipped
    }


@pytest.mark.parametrize(
    ("part", "names"),
    [
        ("train", "train Train TRAINING trn training_set trainset train2017 train_images TrainSet trainval train_val2019"),
        ("val", "val valid Validation validation-split dev dev_set val2017 valid_data"),
        ("test", "test Testing test_set testset test2017 eval evaluation test-dev2017 images_test test-00000-of-00001"),
        (None, "cat latest trainer contest validity device testimony train_station test_tube traintest samples 2017 ''"),
        (None, "train_masks test_labels train-test training_shoes"),
    ],
)  # fmt: skip
def test_words_that_people_use(part: str | None, names: str) -> None:
    assert {name: given_part(name) for name in names.split()} == dict.fromkeys(names.split(), part)


LAYOUTS: dict[str, tuple[tuple[str, ...], Mapping[str, tuple[str | None, str | None]]]] = {
    "of a course": (
        ("training_set/cat", "training_set/dog", "test_set/cat"),
        {
            "training_set/cat": ("train", "cat"),
            "training_set/dog": ("train", "dog"),
            "test_set/cat": ("test", "cat"),
        },
    ),
    "COCO's own": (("train2017", "val2017"), {"train2017": ("train", None), "val2017": ("val", None)}),
    "below a folder": (
        ("images/train/cat", "images/val/cat"),
        {"images/train/cat": ("train", "cat"), "images/val/cat": ("val", "cat")},
    ),
    "below two folders and above one": (
        ("a/b/train/images/cat", "a/b/train/images/dog", "a/b/test/images/dog"),
        {
            "a/b/train/images/cat": ("train", "cat"),
            "a/b/train/images/dog": ("train", "dog"),
            "a/b/test/images/dog": ("test", "dog"),
        },
    ),
    "inside the classes": (
        ("cat/train", "cat/test", "dog/train", "dog/test"),
        {
            "cat/train": ("train", "cat"),
            "cat/test": ("test", "cat"),
            "dog/train": ("train", "dog"),
            "dog/test": ("test", "dog"),
        },
    ),
    "of industrial parts": (
        ("bottle/train/good", "bottle/test/good", "bottle/test/broken"),
        {
            "bottle/train/good": ("train", "good"),
            "bottle/test/good": ("test", "good"),
            "bottle/test/broken": ("test", "broken"),
        },
    ),
    "archives in a folder of their own name": (
        ("seg_train/seg_train/sea", "seg_train/seg_train/wood", "seg_test/seg_test/sea"),
        {
            "seg_train/seg_train/sea": ("train", "sea"),
            "seg_train/seg_train/wood": ("train", "wood"),
            "seg_test/seg_test/sea": ("test", "sea"),
        },
    ),
    "one part alone": (("train/cat", "train/dog"), {"train/cat": (None, "cat"), "train/dog": (None, "dog")}),
    "one part alone below pictures": (("", "train/cat"), {"": (None, None), "train/cat": (None, "cat")}),
    "pictures above the parts": (
        ("", "train/cat", "test/cat"),
        {"": (None, None), "train/cat": ("train", "cat"), "test/cat": ("test", "cat")},
    ),
    "no parts": (
        ("crash test dummy", "test_tube/old", "train station"),
        {
            "crash test dummy": (None, "crash test dummy"),
            "test_tube/old": (None, "test_tube"),
            "train station": (None, "train station"),
        },
    ),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_parts_wherever_they_stand(name: str) -> None:
    folders, expected = LAYOUTS[name]
    assert read(*folders) == expected


def test_what_lies_beside_parts_is_asked_for() -> None:
    folders = ("train/cat", "test/cat", "samples")
    with pytest.raises(
        DataError, match=r"'test', 'train'.* beside lie others: 'samples'.*--treat samples=skip"
    ):
        read(*folders)
    parts = {"train/cat": ("train", "cat"), "test/cat": ("test", "cat")}
    assert read(*folders, samples="skip") == parts
    assert read(*folders, samples="train") == parts | {"samples": ("train", None)}


def test_masks_beside_pictures_are_no_pictures_of_the_part() -> None:
    with pytest.raises(DataError, match="beside lie others: 'test_masks', 'train_masks'"):
        read("train/cat", "train_masks/cat", "test/cat", "test_masks/cat")


@pytest.mark.parametrize("name", ["test", "train", "valid", "dev"])
def test_a_class_named_like_a_part_is_asked_for(name: str) -> None:
    with pytest.raises(DataError, match=f"--treat {name}=class"):
        read("cat", "dog", name)
    assert read("cat", "dog", name, **{name: "class"}) == {one: (None, one) for one in ("cat", "dog", name)}


def test_a_class_named_like_a_part_within_parts_is_asked_for() -> None:
    folders = ("train/cat", "train/test", "test/cat", "test/test")
    with pytest.raises(DataError, match="in test/test both 'test' and 'test' are named after a part"):
        read(*folders)
    with pytest.raises(DataError, match="in test/test both"):
        read(*folders, **{"train/test": "class"})
    assert read(*folders, **{"train/test": "class", "test/test": "class"}) == {
        "train/cat": ("train", "cat"),
        "train/test": ("train", "test"),
        "test/cat": ("test", "cat"),
        "test/test": ("test", "test"),
    }
    # Alone in its folder it would be an archive's own name.
    treat = {"train/train": "class", "test/test": "class"}
    assert read("train/train", "test/test", **treat) == {
        "train/train": ("train", "train"),
        "test/test": ("test", "test"),
    }


def test_a_class_named_like_a_part_above_parts_has_a_name_of_its_own() -> None:
    folders = ("bus/train", "bus/test", "train/train", "train/test")
    with pytest.raises(DataError, match="--treat /train=class"):
        read(*folders)
    assert read(*folders, **{"/train": "class"}) == {
        "bus/train": ("train", "bus"),
        "bus/test": ("test", "bus"),
        "train/train": ("train", "train"),
        "train/test": ("test", "train"),
    }


def test_parts_and_classes_in_one_name_are_refused() -> None:
    with pytest.raises(DataError, match="both a part of a split and a class"):
        read("cats_train", "cats_test", "dogs_train", "dogs_test")


def test_a_treatment_of_what_is_not_there_is_refused() -> None:
    with pytest.raises(UsageError, match="nothing here is named 'sampels'"):
        read("train/cat", "test/cat", "samples", sampels="skip")


@pytest.mark.parametrize(
    ("files", "parts"),
    [
        (("default/train/0000.parquet", "default/test/0000.parquet"), ["train", "test"]),
        (
            (
                "default/partial-train/0000.parquet",
                "default/partial-train/0001.parquet",
                "default/test/0000.parquet",
            ),
            ["train", "train", "test"],
        ),
        (("data/train-00000-of-00001.parquet", "data/validation-00000-of-00001.parquet"), ["train", "val"]),
        (("a/train-00000-of-00001-b4aaeceff1d90ecb.parquet", "a/test.parquet"), ["train", "test"]),
        (("cifar10-train.parquet", "cifar10-test_b.parquet"), ["train", "test"]),
        (("/data/test/a.parquet", "/data/test/b.parquet"), [None, None]),
        (("train-0.parquet", "train-1.parquet"), [None, None]),
        (("a.parquet", "trainer.parquet"), [None, None]),
    ],
)
def test_files_of_parts(files: tuple[str, ...], parts: list[str | None]) -> None:
    assert parts_of_files([Path(name) for name in files], {}) == parts


def test_files_that_leave_it_open_are_asked_for() -> None:
    files = [Path(name) for name in ("train.parquet", "test.parquet", "extra.parquet")]
    with pytest.raises(DataError, match=r"others are not: 'extra\.parquet'; .*--treat extra\.parquet=skip"):
        parts_of_files(files, {})
    assert parts_of_files(files, {"extra.parquet": "train"}) == ["train", "test", "train"]
    assert parts_of_files(files, {"extra": "skip"}) == ["train", "test", "skip"]
    with pytest.raises(DataError, match="a folder of one part and is named after another"):
        parts_of_files([Path("train/test-0.parquet"), Path("test/0.parquet")], {})
