"""From annotation files and pictures to items: one item an annotation, one decoding a photograph."""

import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from coco_made import annotation, document, noise, write
from PIL import Image

from deponij.pipeline.data.adapters import instances
from deponij.pipeline.data.adapters.coco import read_coco
from deponij.pipeline.data.adapters.instances import CocoParams, CocoSource, crop_items
from deponij.pipeline.data.adapters.label_maps import LabelMap
from deponij.pipeline.data.crops import CropParams
from deponij.pipeline.data.item import Item
from deponij.pipeline.likeness.phash import phash
from deponij.store.errors import DataError, UsageError
from deponij.store.keys import key_of_pixels

ORIENTATION = 274


def made(root: Path, content: dict[str, Any], **pictures: Image.Image) -> list[Item]:
    """Write the annotation file and the pictures (`a=` is a.png) and crop."""
    path = write(root, content)
    for name, picture in pictures.items():
        picture.save(root / f"{name}.png")
    return list(crop_items(read_coco(path), root, CropParams(), workers=0))


def opened(item: Item) -> np.ndarray:
    assert item.content is not None
    return np.asarray(Image.open(io.BytesIO(item.content)))


def test_a_crop_is_the_pixels_of_its_box(tmp_path: Path) -> None:
    picture = noise(40, 30)
    (item,) = made(tmp_path, document([annotation(bbox=(2, 3, 10, 8), caption="a can")]), a=picture)
    crop = picture.crop((2, 3, 12, 11))
    assert np.array_equal(opened(item), np.asarray(crop))
    assert (item.item_id, item.image_id, item.failure, item.given) == ("a.png#0", "a.png", None, None)
    assert (item.width_px, item.height_px) == (10, 8)
    assert item.key == key_of_pixels("RGB", (10, 8), crop.tobytes())
    assert item.phash == phash(crop)
    assert item.metadata == {
        "annotation_index": 0, "annotation_id": 1, "category": "Can", "supercategory": "Metal",
        "bbox_x": 2.0, "bbox_y": 3.0, "bbox_w": 10.0, "bbox_h": 8.0, "area_px": 80.0, "iscrowd": False,
        "image_width_px": 40, "image_height_px": 30, "caption": "a can",
    }  # fmt: skip


def test_equal_crops_have_one_key_and_two_ids(tmp_path: Path) -> None:
    first, second = made(tmp_path, document([annotation(), annotation(category_id=2)]), a=noise(40, 30))
    assert first.key == second.key
    assert first.item_id != second.item_id


def test_every_annotation_is_one_item_in_file_order(tmp_path: Path) -> None:
    images = [
        {"id": k, "file_name": f"{name}.png", "width": 40, "height": 30} for k, name in enumerate("cab")
    ]
    entries = [annotation(2), annotation(0), annotation(99), annotation(2, bbox=(0, 0, 0, 1)), annotation(0)]
    path = write(tmp_path, document([*entries, "junk"], images))
    for name in "ca":
        noise(40, 30, ord(name)).save(tmp_path / f"{name}.png")
    dataset = read_coco(path)
    expected = ["c.png#0", "c.png#1", "b.png#0", "b.png#1", "unknown-image-99#0", "unknown-image-None#0"]
    runs = [list(crop_items(dataset, tmp_path, CropParams(), workers=workers)) for workers in (0, 1, 3)]
    assert [item.item_id for item in runs[0]] == expected
    assert runs[0] == runs[1] == runs[2]
    assert [item.failure is None for item in runs[0]] == [True, True, False, False, False, False]


def test_a_photograph_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: Counter[int] = Counter()
    real = instances.decode

    def counting(data: bytes) -> Image.Image:
        decoded[len(data)] += 1
        return real(data)

    monkeypatch.setattr(instances, "decode", counting)
    images = [{"id": k, "file_name": f"{name}.png"} for k, name in enumerate("ab")]
    boxes = [(k % 30, k % 20, 1 + k % 9, 1 + k % 7) for k in range(90)]
    entries = [annotation(0, bbox=box) for box in boxes] + [annotation(1, bbox=(0, 0, 0, 0))]
    items = made(tmp_path, document(entries, images), a=noise(40, 30), b=noise(50, 50))
    assert len(items) == 91
    # `b` has no annotation that could be cut, so it is not decoded at all.
    assert list(decoded.values()) == [1]


def test_progress_counts_every_item(tmp_path: Path) -> None:
    images = [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "missing.png"}]
    dataset = read_coco(write(tmp_path, document([annotation(1), annotation(2), annotation(1)], images)))
    seen: list[int] = []
    n_items = sum(1 for _ in crop_items(dataset, tmp_path, CropParams(), progress=seen.append))
    assert sum(seen) == n_items == dataset.n_annotations == 3


@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_live_in_the_upright_photograph(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    stored = noise(40, 30)
    stored.save(tmp_path / "a.png", exif=exif)
    turn = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }  # fmt: skip
    upright = stored.transpose(turn[orientation]) if orientation in turn else stored
    images = [{"id": 1, "file_name": "a.png", "width": upright.width, "height": upright.height}]
    (item,) = made(tmp_path, document([annotation(bbox=(2, 3, 10, 8))], images))
    assert np.array_equal(opened(item), np.asarray(upright.crop((2, 3, 12, 11))))


@pytest.mark.parametrize(
    ("size", "said"),
    [
        ((30, 40), "before its EXIF rotation"),
        ((160, 120), "a copy at 0.25 of the annotated size"),
        ((20, 15), "a copy at 2 of the annotated size"),
        ((40, 31), "one pixel off"),
        ((39, 31), "one pixel off"),
        ((40, 33), None),
        ((40, 60), "another picture"),
    ],
)
def test_another_size_than_annotated_is_a_failure(
    tmp_path: Path, size: tuple[int, int], said: str | None
) -> None:
    images = [{"id": 1, "file_name": "a.png", "width": size[0], "height": size[1]}]
    (item,) = made(tmp_path, document([annotation()], images), a=noise(40, 30))
    assert item.failure is not None
    assert f"annotated as {size[0]} x {size[1]} px, but upright the picture has 40 x 30 px" in item.failure
    assert said is None or said in item.failure
    assert item.metadata["category"] == "Can"


def test_a_file_without_sizes_is_fine(tmp_path: Path) -> None:
    (item,) = made(tmp_path, document([annotation()], [{"id": 1, "file_name": "a.png"}]), a=noise(40, 30))
    assert item.failure is None
    assert item.metadata["image_width_px"] is None


def test_file_names_outside_the_folder_are_refused(tmp_path: Path) -> None:
    outside = tmp_path / "outside.png"
    noise(40, 30).save(outside)
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (root / "link.png").symlink_to(outside)
    (root / "up").symlink_to(tmp_path)
    names = [str(outside), "../outside.png", "sub/../../outside.png", "link.png", "up/outside.png"]
    images = [{"id": k, "file_name": name} for k, name in enumerate(names)]
    items = made(root, document([annotation(k) for k in range(len(names))], images))
    assert len(items) == len(names)
    for item in items:
        assert item.failure is not None
        assert item.failure.startswith("refused: ")
        assert item.content is None


def test_links_inside_the_folder_are_fine(tmp_path: Path) -> None:
    noise(40, 30).save(tmp_path / "real.png")
    (tmp_path / "a.png").symlink_to("real.png")
    (item,) = made(tmp_path, document([annotation()]))
    assert item.failure is None


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("none.png", "is missing"),
        ("sub\\none.png", "backslashes"),
        ("sub", "is not a regular file"),
        ("a\0.png", "not a file name"),
        ("x" * 300, "cannot be read"),
        ("text.jpg", "not a picture"),
    ],
)
def test_pictures_that_cannot_be_had_are_failures(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "text.jpg").write_text("<html>not found</html>")
    (item,) = made(tmp_path, document([annotation()], [{"id": 1, "file_name": name}]))
    assert item.failure is not None
    assert said in item.failure
    assert (item.content, item.key, item.width_px, item.phash) == (None, None, None, None)


def test_one_bad_annotation_does_not_cost_the_others(tmp_path: Path) -> None:
    entries = [
        annotation(bbox=(200, 200, 5, 5)),
        annotation(),
        annotation(category_id=9),
        annotation(iscrowd=1),
    ]
    items = made(tmp_path, document(entries), a=noise(40, 30))
    assert [item.failure is None for item in items] == [False, True, False, False]
    assert "outside the photograph" in str(items[0].failure)
    assert "category_id 9" in str(items[2].failure)
    assert "crowd" in str(items[3].failure)
    assert "--keep-crowds" in str(items[3].failure)
    assert items[3].metadata["iscrowd"] is True


def test_crowds_are_cut_on_request_with_their_run_lengths(tmp_path: Path) -> None:
    runs = [0, 30 * 20, 30 * 20]  # the left half of 40 x 30 px, column by column
    entry = annotation(bbox=(0, 0, 40, 30), iscrowd=1, segmentation={"size": [30, 40], "counts": runs})
    noise(40, 30).save(tmp_path / "a.png")
    dataset = read_coco(write(tmp_path, document([entry])))
    params = CropParams(keep_crowds=True, background="blank")
    (item,) = crop_items(dataset, tmp_path, params, workers=0)
    crop = opened(item)
    assert np.array_equal(crop[:, :20], np.asarray(noise(40, 30))[:, :20])
    assert (crop[:, 20:] == 128).all()


def test_no_outline_matters_only_where_one_is_needed(tmp_path: Path) -> None:
    noise(40, 30).save(tmp_path / "a.png")
    dataset = read_coco(write(tmp_path, document([annotation(segmentation=None)])))
    failures = {
        background: next(crop_items(dataset, tmp_path, CropParams(background=background), workers=0)).failure
        for background in ("keep", "blank", "blur")
    }
    assert failures["keep"] is None
    assert "no segmentation" in str(failures["blank"])
    assert "no segmentation" in str(failures["blur"])


@pytest.mark.parametrize("mode", ["RGBA", "P", "L", "LA", "I;16", "1"])
def test_every_mode_gives_rgb_crops(tmp_path: Path, mode: str) -> None:
    picture = noise(40, 30)
    if mode == "I;16":
        picture = Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257)
    else:
        picture = picture.convert(mode)
    (item,) = made(tmp_path, document([annotation()]), a=picture)
    assert item.failure is None
    assert opened(item).shape == (8, 10, 3)


def test_label_maps_are_columns(tmp_path: Path) -> None:
    noise(40, 30).save(tmp_path / "a.png")
    dataset = read_coco(write(tmp_path, document([annotation(), annotation(category_id=2)])))
    maps = [LabelMap("kind", {"Can": "metal"}), LabelMap("all", {"Can": "x", "Bottle": "y"})]
    items = list(crop_items(dataset, tmp_path, CropParams(), label_maps=maps, workers=0))
    assert [(item.metadata["kind"], item.metadata["all"]) for item in items] == [("metal", "x"), (None, "y")]


def source(root: Path, content: dict[str, Any], *maps: str) -> CocoSource:
    return CocoSource(CocoParams(annotations=write(root, content), images=root, label_maps=maps))


def test_source_describes_itself(tmp_path: Path) -> None:
    noise(40, 30).save(tmp_path / "a.png")
    (tmp_path / "kinds.csv").write_text("Can,metal\nFork,metal\n")
    images = [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "empty.png"}]
    opened_source = source(tmp_path, document([annotation()], images), str(tmp_path / "kinds.csv"))
    assert opened_source.n_items == 1
    assert opened_source.notes == (
        "photographs without an annotation: 1",
        "label map kinds: no category is named Fork",
    )
    assert opened_source.metadata_schema.field("kinds").type == pa.string()
    (item,) = opened_source.items(workers=1)
    assert item.metadata["kinds"] == "metal"
    table = pa.Table.from_pylist([item.metadata], schema=opened_source.metadata_schema)
    assert table.column_names == list(item.metadata)


def test_source_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="annotates nothing"):
        source(tmp_path, document([], []))
    with pytest.raises(UsageError, match="columns category would occur twice"):
        source(tmp_path, document([annotation()]), "category=min-count:1")
    path = write(tmp_path, document([annotation()]))
    with pytest.raises(DataError, match=r"photographs: .* does not exist"):
        CocoSource(CocoParams(annotations=path, images=tmp_path / "none"))


def test_same_inputs_give_the_same_bytes(tmp_path: Path) -> None:
    content = document([annotation(bbox=(0, 0, 40, 30))])
    first = made(tmp_path / "one", content, a=noise(40, 30))
    second = made(tmp_path / "two", json.loads(json.dumps(content)), a=noise(40, 30))
    assert first == second
