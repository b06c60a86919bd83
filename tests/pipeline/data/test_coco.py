"""Annotation files: what is read, what is an annotation's problem, and what is an error of the file."""

import json
from pathlib import Path
from typing import Any

import pytest
from coco_made import annotation, document, write

from deponij.pipeline.data.adapters.annotated import each_once
from deponij.pipeline.data.adapters.coco import Photograph, read_coco
from deponij.store.errors import DataError


def test_annotations_are_grouped_by_photograph_in_file_order(tmp_path: Path) -> None:
    images = [{"id": 7, "file_name": "b/x.jpg", "width": 9, "height": 8}, {"id": 3, "file_name": "./a.jpg"}]
    entries = [annotation(3, id=1), annotation(7, id=2, category_id=2), annotation(3, id=9)]
    dataset = read_coco(write(tmp_path, document(entries, images)))
    first, second = dataset.photographs
    assert [(one.file_name, one.image_id, one.width_px) for one in dataset.photographs] == [
        ("b/x.jpg", "b/x.jpg", 9),
        ("./a.jpg", "a.jpg", None),
    ]
    assert [one.annotation_id for one in first.annotations] == [2]
    assert [(one.index, one.annotation_id) for one in second.annotations] == [(0, 1), (1, 9)]
    assert second.item_id(second.annotations[1]) == "./a.jpg#1"
    assert dataset.n_annotations == 3
    assert dataset.category_counts == {"Can": 2, "Bottle": 1}


def test_fields_of_an_annotation(tmp_path: Path) -> None:
    entry = annotation(bbox=(1.5, 2, 3, 4), id=5, caption="a dented can", area=7.25)
    (one,) = read_coco(write(tmp_path, document([entry]))).photographs[0].annotations
    assert one.category is not None
    assert (one.category.name, one.category.supercategory) == ("Can", "Metal")
    assert one.box_xywh_px == (1.5, 2.0, 3.0, 4.0)
    assert (one.area_px, one.caption, one.is_crowd, one.problem) == (7.25, "a dented can", False, None)


def test_annotation_ids_may_occur_twice_or_be_anything(tmp_path: Path) -> None:
    entries = [
        annotation(id=309),
        annotation(id=309),
        annotation(id="x"),
        annotation(id=2.0),
        annotation(id=True),
    ]
    (photograph,) = read_coco(write(tmp_path, document(entries))).photographs
    assert [one.annotation_id for one in photograph.annotations] == [309, 309, None, 2, None]
    assert len({photograph.item_id(one) for one in photograph.annotations}) == 5


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (annotation(bbox=(3, 3, 0, 5)), "no area: 0 x 5"),
        (annotation(bbox=(3, 3, 5, -1)), "no area"),
        (annotation(bbox=[float("nan"), 1, 2, 3]), "not finite"),
        (annotation(bbox=[0, 1, float("inf"), 3]), "not finite"),
        (annotation(bbox=[1, 2, 3]), "expected four numbers"),
        (annotation(bbox=["1", 2, 3, 4]), "expected four numbers"),
        (annotation(bbox=[10**400, 2, 3, 4]), "expected four numbers"),
        (annotation(bbox=None), "expected four numbers"),
        (annotation(category_id=99), "category_id 99 is not among"),
        (annotation(category_id=[1]), "is not among"),
    ],
)
def test_a_bad_annotation_has_a_problem_and_stays(tmp_path: Path, entry: Any, said: str) -> None:
    (photograph,) = read_coco(write(tmp_path, document([annotation(), entry, annotation()]))).photographs
    problems = [one.problem for one in photograph.annotations]
    assert problems[0] is None
    assert problems[2] is None
    assert problems[1] is not None
    assert said in problems[1]


@pytest.mark.parametrize("image_id", [2, "1", None, [1], True])
def test_annotations_of_unknown_images_are_kept_at_the_end(tmp_path: Path, image_id: Any) -> None:
    dataset = read_coco(write(tmp_path, document([annotation(image_id), annotation(), annotation(image_id)])))
    assert dataset.n_annotations == 3
    last = dataset.photographs[-1]
    assert len(last.annotations) == 2
    assert last.problem is not None
    assert "not among the file's images" in last.problem


def test_an_entry_that_is_no_object_is_a_problem_too(tmp_path: Path) -> None:
    dataset = read_coco(write(tmp_path, document([annotation(), "nonsense", 3])))
    assert dataset.n_annotations == 3
    assert [one.problem for one in dataset.photographs[-1].annotations] == [
        "the annotation is a JSON text, expected an object",
        "the annotation is a JSON number, expected an object",
    ]


def test_an_image_called_like_an_unknown_one_does_not_share_its_ids(tmp_path: Path) -> None:
    images = [{"id": 1, "file_name": "unknown-image-5"}]
    photographs = read_coco(write(tmp_path, document([annotation(1), annotation(5)], images))).photographs
    assert len({one.item_id(one.annotations[0]) for one in photographs}) == 2


def test_empty_categories_and_photographs_are_kept(tmp_path: Path) -> None:
    images = [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "empty.png"}]
    dataset = read_coco(write(tmp_path, document([annotation()], images)))
    assert dataset.category_counts == {"Can": 1, "Bottle": 0}
    assert [len(one.annotations) for one in dataset.photographs] == [1, 0]


def named(*pairs: tuple[str, Any]) -> list[dict[str, Any]]:
    """Images of these file names, with a field `split` where there is one."""
    return [
        {"id": k, "file_name": name, **({} if split is None else {"split": split})}
        for k, (name, split) in enumerate(pairs)
    ]


def given(tmp_path: Path, images: list[dict[str, Any]], **treat: Any) -> dict[str, str | None]:
    dataset = read_coco(write(tmp_path, document([annotation(0)], images)), treat=treat)
    return {photograph.file_name: photograph.given for photograph in dataset.photographs}


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("train", "train"),
        ("Valid", "val"),
        ("validation", "val"),
        ("test-dev", "test"),
        (3, None),
        (" ", None),
    ],
)
def test_a_split_that_the_file_brings(tmp_path: Path, name: Any, part: str | None) -> None:
    other = "train" if part != "train" else "test"
    assert given(tmp_path, named(("a.png", name), ("b.png", other), ("c.png", "dev"))) == {
        "a.png": part,
        "b.png": other,
        "c.png": "val",
    }
    assert given(tmp_path, named(("a.png", name), ("b.png", None))) == {"a.png": None, "b.png": None}


def test_the_folders_of_photographs_are_parts_where_no_field_says_it(tmp_path: Path) -> None:
    parts = {"train2017/a.png": "train", "val2017/b.png": "val"}
    assert given(tmp_path, named(*((name, None) for name in parts))) == parts
    batches = {"batch_1/a.png": None, "batch_2/b.png": None}
    assert given(tmp_path, named(*((name, None) for name in batches))) == batches
    assert given(tmp_path, named(("train/a.png", "test"), ("test/b.png", "train"))) == {
        "train/a.png": "test",
        "test/b.png": "train",
    }


def test_parts_that_are_open_are_asked_for(tmp_path: Path) -> None:
    # As in Karpathy's split of COCO.
    images = named(("a.png", "train"), ("b.png", "restval"), ("c.png", "test"))
    with pytest.raises(DataError, match="beside lie others: 'restval'"):
        given(tmp_path, images)
    assert given(tmp_path, images, restval="train") == {"a.png": "train", "b.png": "train", "c.png": "test"}
    assert given(tmp_path, images, restval="skip") == {"a.png": "train", "c.png": "test"}


def image(**fields: Any) -> dict[str, Any]:
    return {"id": 1, "file_name": "a.png", "width": 40, "height": 30, **fields}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([], "holds a JSON list"),
        ({"images": [], "categories": []}, "has no 'annotations'"),
        ({"images": {}, "annotations": [], "categories": []}, "'images' is a object, expected lists"),
        (
            document([], [image(), image(file_name="b.png")]),
            r"images\[1\] has id 1, which an earlier entry has",
        ),
        (document([], [image(), image(id=2)]), r"images\[1\] names 'a.png', as images\[0\] does"),
        (document([], [image(), image(id=2, file_name="./a.png")]), "names 'a.png'"),
        (document([], [image(file_name=5)]), "has file_name 5, expected a text"),
        (document([], [image(file_name="")]), "expected a text"),
        (document([], [image(file_name="\ud800.png")]), "expected a text"),
        (document([], [{"file_name": "a.png"}]), "has id None"),
        (document([], ["a.png"]), r"images\[0\] is a text"),
        (document([], [image(width=0)]), "width and height 0 and 30"),
        (document([], [image(width=None)]), "width and height None and 30"),
        (document([], [image(height="30")]), "whole numbers above 0"),
        (
            document([], categories=[{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]),
            r"categories\[1\] has id 1",
        ),
        (document([], categories=[{"id": 1}]), r"categories\[0\] has name None"),
        (document([], [image(id=number, file_name="") for number in range(9)]), r"\(and 4 more\)"),
    ],
)
def test_a_broken_file_is_an_error_that_says_what_is_wrong(tmp_path: Path, content: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        read_coco(write(tmp_path, content))


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff\xfe\x00", b"[" * 100_000, b'{"images": 1}}'])
def test_what_is_no_json_is_an_error(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "broken.json"
    path.write_bytes(raw)
    with pytest.raises(DataError, match="not valid JSON"):
        read_coco(path)


def test_a_missing_file_and_a_folder_are_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        read_coco(tmp_path / "none.json")
    with pytest.raises(DataError, match="cannot be read"):
        read_coco(tmp_path)


def test_a_byte_order_mark_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "windows.json"
    path.write_text(json.dumps(document([annotation()])), encoding="utf-8-sig")
    assert read_coco(path).n_annotations == 1


def test_a_second_entry_takes_no_other_pictures_name() -> None:
    names = ["a.png", "a.png", "a.png~2"]
    entries = [Photograph(name, name, 30, 20, None, ()) for name in names]
    checked = each_once(entries, "a second entry of {}")
    assert len({one.image_id for one in checked}) == 3
    assert [one.problem for one in checked] == [None, "a second entry of 'a.png'", None]
