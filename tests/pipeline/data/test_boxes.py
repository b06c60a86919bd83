"""The forms of boxes: none is doubted in honest files of many kinds, others are named. Files are simulated."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from coco_made import annotation, document, noise, write

from deponij.pipeline.data.adapters.instances import CocoParams, CocoSource
from deponij.pipeline.data.boxes import Boxes, doubt, to_xywh_px
from deponij.store.errors import DataError

SIZE_PX = (640, 480)
# Boxes as left, top, width, height in shares of the frame, of n objects.
Objects = Callable[[np.random.Generator, int], np.ndarray]


def objects(low: float, high: float) -> Objects:
    """Sides between two shares, anywhere in the frame."""

    def draw(rng: np.random.Generator, n: int) -> np.ndarray:
        sides = rng.uniform(low, high, (n, 2))
        return np.hstack([rng.uniform(0, 1, (n, 2)) * (1 - sides), sides])

    return draw


def whole(_: np.random.Generator, n: int) -> np.ndarray:
    return np.tile([0.0, 0.0, 1.0, 1.0], (n, 1))


def sloppy(draw: Objects, share: float, sides: tuple[int, ...]) -> Objects:
    """Some boxes reach past the frame by up to a tenth of it, on one of these sides (left, top, right, bottom)."""

    def drawn(rng: np.random.Generator, n: int) -> np.ndarray:
        boxes = draw(rng, n)
        for row in np.flatnonzero(rng.random(n) < share):
            side, past = rng.choice(sides), rng.uniform(0.02, 0.1)
            if side < 2:
                boxes[row, side] = -past
            else:
                boxes[row, side] = 1 - boxes[row, side - 2] + past
        return boxes

    return drawn


HONEST: dict[str, Objects] = {
    "some": objects(0.02, 0.3),
    "small": objects(0.005, 0.03),
    "large": objects(0.3, 0.9),
    "close by": objects(0.6, 0.98),
    "whole pictures": whole,
    "reach past every side": sloppy(objects(0.02, 0.3), 0.2, (0, 1, 2, 3)),
    "reach past right and bottom": sloppy(objects(0.02, 0.3), 0.1, (2, 3)),
    "close by, past right and bottom": sloppy(objects(0.6, 0.98), 0.2, (2, 3)),
}


def world(
    draw: Objects, seed: int, n: int, *, area: str, has_outlines: bool, has_sizes: bool
) -> list[np.ndarray]:
    """Boxes as COCO has them, sizes, areas and extents of outlines."""
    rng = np.random.default_rng((seed, n))
    boxes = draw(rng, n) * np.tile(SIZE_PX, 2)
    full = boxes[:, 2] * boxes[:, 3]
    areas = {"none": np.full(n, np.nan), "box": full, "mask": full * rng.uniform(0.3, 0.95, n)}[area]
    extents = np.hstack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]])
    sizes = np.tile(SIZE_PX, (n, 1)).astype(float)
    return [
        boxes,
        sizes if has_sizes else np.full((n, 2), np.nan),
        areas,
        extents if has_outlines else np.full((n, 4), np.nan),
    ]


def written(boxes: np.ndarray, form: Boxes) -> np.ndarray:
    """COCO's boxes in another form."""
    start, sides = boxes[:, :2], boxes[:, 2:]
    pairs = {"xywh": (start, sides), "xyxy": (start, start + sides), "cxcywh": (start + sides / 2, sides)}
    found = np.hstack(pairs[form.removesuffix("-normalised")])
    return found / np.tile(SIZE_PX, 2) if form.is_normalised else found


@pytest.mark.parametrize("has_sizes", [True, False])
@pytest.mark.parametrize(("area", "has_outlines"), [("none", False), ("box", False), ("mask", True)])
@pytest.mark.parametrize("name", HONEST)
def test_honest_files_are_hardly_ever_doubted(
    name: str, area: str, has_outlines: bool, has_sizes: bool
) -> None:
    facts = {"area": area, "has_outlines": has_outlines, "has_sizes": has_sizes}
    files = [(seed, n) for n in (1, 2, 3, 6, 20, 200) for seed in range(40)]
    doubted = [one for one in files if doubt(*world(HONEST[name], *one, **facts)) is not None]
    # None where there are areas or outlines; of a few boxes alone some look like centres by chance.
    assert len(doubted) <= (len(files) // 100 if area == "none" else 0), doubted


@pytest.mark.parametrize("form", [form for form in Boxes if form is not Boxes.XYWH])
@pytest.mark.parametrize("name", ["some", "large", "close by"])
@pytest.mark.parametrize(("area", "has_outlines"), [("none", False), ("box", False), ("mask", True)])
def test_other_forms_are_named(name: str, form: Boxes, area: str, has_outlines: bool) -> None:
    for seed in range(20):
        boxes, *facts = world(HONEST[name], seed, 200, area=area, has_outlines=has_outlines, has_sizes=True)
        found = doubt(written(boxes, form), *facts)
        assert found is not None
        assert form in found.forms


@pytest.mark.parametrize("n", [1, 6])
@pytest.mark.parametrize("form", [form for form in Boxes if form.is_normalised])
def test_few_boxes_that_are_shares_are_seen(form: Boxes, n: int) -> None:
    boxes, sizes, areas, extents = world(
        HONEST["some"], 0, n, area="none", has_outlines=False, has_sizes=False
    )
    found = doubt(written(boxes, form), sizes, areas, extents)
    assert found is not None
    assert form in found.forms


def test_boxes_of_no_known_form_are_doubted() -> None:
    boxes, *facts = world(HONEST["some"], 0, 50, area="none", has_outlines=False, has_sizes=True)
    found = doubt(boxes / np.tile(SIZE_PX, 2) * 1000, *facts)  # thousandths of the sides
    assert found is not None
    assert found.forms == ()
    assert found.reason.endswith("of 50 boxes lie outside the frame")


def test_one_odd_box_is_no_doubt() -> None:
    boxes, *facts = world(HONEST["some"], 0, 50, area="box", has_outlines=True, has_sizes=True)
    for odd in ([600.0, 400.0, 300.0, 300.0], [0.1, 0.1, 0.2, 0.2], [700.0, 500.0, 9.0, 9.0]):
        boxes[7] = odd
        assert doubt(boxes, *facts) is None


def test_pictures_of_two_pixels_have_boxes_of_one() -> None:
    boxes = np.array([[0.0, 0.0, 1.0, 1.0]] * 5)
    assert doubt(boxes, np.full((5, 2), 2.0), np.full(5, np.nan), np.full((5, 4), np.nan)) is None


@pytest.mark.parametrize("form", list(Boxes))
def test_every_form_is_read_back(form: Boxes) -> None:
    boxes = world(HONEST["some"], 1, 20, area="none", has_outlines=False, has_sizes=True)[0]
    for box, other in zip(boxes, written(boxes, form), strict=True):
        assert to_xywh_px(tuple(other.tolist()), form, SIZE_PX) == pytest.approx(tuple(box))


def test_shares_need_a_size() -> None:
    with pytest.raises(ValueError, match="need the photograph's width and height"):
        to_xywh_px((0.1, 0.1, 0.2, 0.2), Boxes.XYXY_NORMALISED, None)


# Left, top, width, height in a.png, 40 x 30 px.
BOXES = [(4, 3, 8, 6), (20, 3, 12, 6), (4, 15, 8, 12), (20, 15, 16, 12), (30, 20, 8, 9), (2, 2, 36, 26)]


def source(root: Path, form: Boxes, **params: Any) -> CocoSource:
    entries = []
    for x, y, w, h in BOXES:
        box = {"xywh": (x, y, w, h), "xyxy": (x, y, x + w, y + h), "cxcywh": (x + w / 2, y + h / 2, w, h)}[
            form.removesuffix("-normalised")
        ]
        shares = [value / side for value, side in zip(box, (40, 30, 40, 30), strict=True)]
        entries.append(annotation(bbox=shares if form.is_normalised else [*map(float, box)], area=w * h))
    noise(40, 30).save(root / "a.png")
    return CocoSource(CocoParams(annotations=write(root, document(entries)), images=root, **params))


@pytest.mark.parametrize("form", [form for form in Boxes if form is not Boxes.XYWH])
def test_a_file_of_another_form_is_refused_and_read_as_it_is_named(tmp_path: Path, form: Boxes) -> None:
    if form is not Boxes.CXCYWH:  # Only three of the six centres, read as corners, leave the frame.
        with pytest.raises(DataError, match=rf"cannot all be meant as COCO's .*--boxes {form}( |$)"):
            source(tmp_path, form)
    crops = [(item.key, item.failure) for item in source(tmp_path, form, boxes=form).items(workers=0)]
    assert all(failure is None for _, failure in crops)
    expected = source(tmp_path, Boxes.XYWH)
    assert crops == [(item.key, None) for item in expected.items(workers=0)]
    # Taken as COCO's all the same, they are clipped and said to be.
    taken = source(tmp_path, form, boxes=Boxes.XYWH)
    assert form.is_normalised or any("boxes that reach past the frame" in note for note in taken.notes)


def test_a_file_of_no_known_form_is_refused(tmp_path: Path) -> None:
    noise(40, 30).save(tmp_path / "a.png")
    boxes = [[x * 25, y * 33, w * 25, h * 33] for x, y, w, h in BOXES]
    path = write(tmp_path, document([annotation(bbox=box) for box in boxes]))
    with pytest.raises(DataError, match="fit no form that is known here.*--boxes xywh takes them"):
        CocoSource(CocoParams(annotations=path, images=tmp_path))
    assert CocoSource(CocoParams(annotations=path, images=tmp_path, boxes=Boxes.XYWH)).n_items == len(boxes)


def test_shares_without_a_size_are_failures(tmp_path: Path) -> None:
    images = [{"id": 1, "file_name": "a.png"}]
    path = write(tmp_path, document([annotation(bbox=[0.1, 0.1, 0.2, 0.2])], images))
    noise(40, 30).save(tmp_path / "a.png")
    params = CocoParams(annotations=path, images=tmp_path, boxes=Boxes.XYWH_NORMALISED)
    (item,) = CocoSource(params).items(workers=0)
    assert "need the photograph's width and height" in str(item.failure)


def test_taco_is_not_doubted(shared: Path, tmp_path: Path) -> None:
    path = shared / "data" / "taco" / "annotations.json"
    source = CocoSource(CocoParams(annotations=path, images=tmp_path))
    assert source.n_items == 4784
    assert source.notes[0] == "boxes that reach past the frame, clipped to it: 1"


@pytest.mark.parametrize("form", [form for form in Boxes if form is not Boxes.XYWH])
def test_taco_in_another_form_is_seen_without_outlines_and_areas(
    shared: Path, tmp_path: Path, form: Boxes
) -> None:
    content = json.loads((shared / "data" / "taco" / "annotations.json").read_text())
    sizes = {one["id"]: (one["width"], one["height"]) for one in content["images"]}
    for one in content["annotations"]:
        x, y, w, h = one["bbox"]
        pairs = {"xywh": (x, y, w, h), "xyxy": (x, y, x + w, y + h), "cxcywh": (x + w / 2, y + h / 2, w, h)}
        box = pairs[form.removesuffix("-normalised")]
        sides = sizes[one["image_id"]] * 2 if form.is_normalised else (1, 1, 1, 1)
        one["bbox"] = [value / side for value, side in zip(box, sides, strict=True)]
        del one["segmentation"], one["area"]
    with pytest.raises(DataError, match=f"--boxes {form}( |$)"):
        CocoSource(CocoParams(annotations=write(tmp_path, content), images=tmp_path))
