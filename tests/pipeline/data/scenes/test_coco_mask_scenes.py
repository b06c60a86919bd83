"""Outlines of COCO files as label maps: which class, what lies on top, what is void. Expected squares are drawn by hand."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scenes_made
from pycocotools import mask as coco_mask
from scenes_made import HEIGHT, WIDTH, picture, put

from deponij.pipeline.data.scenes.registry import open_scenes
from deponij.sample.painter.writer import generate
from deponij.store.errors import DataError, UsageError
from deponij.store.label_maps import VOID


def drawn(root: Path, **options: Any) -> tuple[list[str], np.ndarray]:
    """Names of the classes, and the first photograph's label map."""
    source = open_scenes("coco-masks", {**scenes_made.coco(root), **options})
    first = next(iter(source.scenes(workers=0)))
    assert first.labels is not None, first.item.failure
    return [one.name for one in source.classes], first.labels


def by_hand(small: int, big: int, runs: int, ground: int, *, small_on_top: bool = True) -> np.ndarray:
    """What `scenes_made.coco` draws: the file has the small square (4 to 7) first, the big one (0 to 6) second."""
    expected = np.full((HEIGHT, WIDTH), ground, np.uint8)
    squares = [(slice(0, 6), big), (slice(4, 7), small)]
    for square, number in squares if small_on_top else squares[::-1]:
        expected[square, square] = number
    expected[:4, 11] = runs
    return expected


def test_categories_with_a_background(tmp_path: Path) -> None:
    names, labels = drawn(tmp_path)
    assert names == ["background", "Pop tab", "Drink can", "Cigarette"]
    assert np.array_equal(labels, by_hand(1, 2, 3, 0))


def test_the_later_one_on_top(tmp_path: Path) -> None:
    _, labels = drawn(tmp_path, on_top="later")
    assert np.array_equal(labels, by_hand(1, 2, 3, 0, small_on_top=False))


def test_without_a_background_the_rest_is_void(tmp_path: Path) -> None:
    names, labels = drawn(tmp_path, background=None)
    assert names == ["Pop tab", "Drink can", "Cigarette"]
    assert np.array_equal(labels, by_hand(0, 1, 2, VOID))


def test_supercategories_and_a_category_without_one(tmp_path: Path) -> None:
    names, labels = drawn(tmp_path, classes="supercategory")
    assert names == ["background", "metal", "Cigarette"]
    assert np.array_equal(labels, by_hand(1, 1, 2, 0))


def test_litter_and_background(tmp_path: Path) -> None:
    names, labels = drawn(tmp_path, classes={"*": "litter"}, descriptions="litter")
    assert names == ["background", "litter"]
    assert np.array_equal(labels, by_hand(1, 1, 1, 0))


def test_taco10(tmp_path: Path) -> None:
    source = open_scenes("coco-masks", {**scenes_made.coco(tmp_path), "classes": "taco10"})
    assert [one.name for one in source.classes] == ["background", "Pop tab", "Can", "Cigarette"]
    assert all(one.description for one in source.classes)


@pytest.mark.parametrize(("unmapped", "number"), [("void", VOID), ("background", 0)])
def test_categories_that_a_table_leaves_out(tmp_path: Path, unmapped: str, number: int) -> None:
    names, labels = drawn(tmp_path, classes={"Cigarette": "tobacco"}, unmapped=unmapped)
    assert names == ["background", "tobacco"]
    assert np.array_equal(labels, by_hand(number, number, 1, 0))


def test_what_is_in_no_class_is_told(tmp_path: Path) -> None:
    source = open_scenes("coco-masks", {**scenes_made.coco(tmp_path), "classes": {"Cigarette": "tobacco"}})
    assert any("in no class, void here: Pop tab, Drink can" in told for told in source.notes)


def changed(root: Path, change: Any, **options: Any) -> list[str | None]:
    """Failures of photographs after a change of the annotation file."""
    made = scenes_made.coco(root)
    path = root / "annotations.json"
    document = json.loads(path.read_bytes())
    change(document)
    path.write_text(json.dumps(document))
    return [scene.item.failure for scene in open_scenes("coco-masks", {**made, **options}).scenes()]


def set_first(field: str, value: Any) -> Any:
    return lambda document: document["annotations"][0].update({field: value})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (set_first("segmentation", []), r"annotation 0 \(Pop tab\): it has no outline"),
        (set_first("segmentation", [[1, 2, 3]]), "malformed: a polygon must be"),
        (
            set_first("segmentation", {"size": [3, 3], "counts": [9]}),
            "malformed: its run lengths are for 3 x 3 px",
        ),
        (set_first("category_id", 77), "category_id 77 is not among"),
        (
            lambda document: document["images"][0].update(width=HEIGHT, height=WIDTH),
            "EXIF rotation, or its sizes are swapped",
        ),
        (lambda document: document["images"][0].update(width=2 * WIDTH, height=2 * HEIGHT), "a copy at 0.5"),
    ],
)
def test_what_leaves_a_photograph_out(tmp_path: Path, change: Any, said: str) -> None:
    failures = changed(tmp_path, change)
    assert re.search(said, str(failures[0])), failures[0]
    assert failures[1] is None


def test_an_outline_outside_the_photograph_covers_nothing(tmp_path: Path) -> None:
    assert changed(tmp_path, set_first("segmentation", [[50, 50, 60, 50, 60, 60]]))[0] is None


def test_a_photograph_without_annotations_is_all_background(tmp_path: Path) -> None:
    def without(document: Any) -> None:
        document["annotations"] = [one for one in document["annotations"] if one["image_id"] != 0]

    assert changed(tmp_path, without)[0] is None
    assert "says nothing: all of it is void" in str(changed(tmp_path, without, background=None)[0])


def test_files_without_outlines_and_unknown_names(tmp_path: Path) -> None:
    def bare(document: Any) -> None:
        for one in document["annotations"]:
            del one["segmentation"]

    with pytest.raises(DataError, match="has no outline"):
        changed(tmp_path, bare)
    with pytest.raises(UsageError, match=r"category, supercategory"):
        drawn(tmp_path, classes="categories")
    with pytest.raises(UsageError, match="no category is named 'Cigarettes'"):
        drawn(tmp_path, classes={"Cigarettes": "x"})


def test_the_drawn_sample(tmp_path: Path) -> None:
    """Its file lists what lies on top last: the last instance covers all of its own outline."""
    generate(tmp_path, scenes=3, seed=7, workers=1)
    source = open_scenes(
        "coco-masks",
        {
            "annotations": tmp_path / "annotations.json",
            "images": tmp_path / "images",
            "on_top": "later",
            "descriptions": "sample",
        },
    )
    assert len(source.classes) == 17 and all(one.description for one in source.classes)
    document = json.loads((tmp_path / "annotations.json").read_bytes())
    names = {one["id"]: one["name"] for one in document["categories"]}
    for scene in source.scenes():
        assert scene.labels is not None
        image_id = int(scene.item.item_id.removesuffix(".jpg"))
        last = [one for one in document["annotations"] if one["image_id"] == image_id][-1]
        shown = [one.name for one in source.classes].index(names[last["category_id"]])
        # Polygons are filled to within half a pixel of their edges.
        perimeter = sum(
            np.hypot(*np.diff(np.reshape(ring + ring[:2], (-1, 2)), axis=0).T).sum()
            for ring in last["segmentation"]
        )
        assert (scene.labels == shown).sum() >= last["area"] - perimeter


def test_descriptions_of_supercategories(tmp_path: Path) -> None:
    generate(tmp_path, scenes=1, seed=7, workers=1)
    source = open_scenes(
        "coco-masks",
        {
            "annotations": tmp_path / "annotations.json",
            "images": tmp_path / "images",
            "classes": "supercategory",
            "descriptions": "sample",
        },
    )
    assert all(one.description for one in source.classes)


def test_groups_by_the_path(tmp_path: Path) -> None:
    source = open_scenes("coco-masks", {**scenes_made.coco(tmp_path), "group": "[0-3]"})
    assert [scene.item.metadata["group"] for scene in source.scenes()] == ["0", "1", "2", "3", None]


def test_outlines_of_taco_are_filled_as_pycocotools_fills_them(shared: Path, tmp_path: Path) -> None:
    """On pictures made for the purpose, of the photographs' sizes: those of TACO are not at hand."""
    document = json.loads((shared / "data" / "taco" / "annotations.json").read_bytes())
    # The smallest has an outline past its frame, which pycocotools draws along the edge.
    wanted = sorted(document["images"], key=lambda one: one["width"] * one["height"])[1:6]
    for number, one in enumerate(wanted):
        one["file_name"] = f"{number}.jpg"
        put(tmp_path / one["file_name"], picture(number, one["width"], one["height"]))
    document["images"] = wanted
    ids = [one["id"] for one in wanted]
    document["annotations"] = [one for one in document["annotations"] if one["image_id"] in ids]
    put(tmp_path / "annotations.json", json.dumps(document).encode())
    options = {"annotations": tmp_path / "annotations.json", "images": tmp_path, "classes": {"*": "litter"}}
    for scene, one in zip(open_scenes("coco-masks", options).scenes(), wanted, strict=True):
        height, width = one["height"], one["width"]
        outlines = [
            annotation["segmentation"]
            for annotation in document["annotations"]
            if annotation["image_id"] == one["id"]
        ]
        expected = np.zeros((height, width), np.uint8)
        for outline in outlines:
            found = coco_mask.merge(coco_mask.frPyObjects(outline, height, width))
            expected |= np.array(coco_mask.decode([found]))[..., 0]
        # They are filled from their own corners on, where a pixel's half may round to the other side.
        assert (scene.labels != expected).sum() <= len(outlines)
        assert expected.any()
