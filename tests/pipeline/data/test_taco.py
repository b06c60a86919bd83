"""TACO's layout and its two columns of labels; the counts stand in `test_label_maps`."""

import json
from pathlib import Path

import pytest
from coco_made import noise

from deponij.pipeline.data.adapters.coco import read_coco
from deponij.pipeline.data.adapters.taco import (
    N_CATEGORIES,
    N_IMAGES,
    N_INSTANCES,
    N_POOL,
    TacoParams,
    TacoSource,
)
from deponij.store.errors import DataError


def test_published_numbers(shared: Path) -> None:
    dataset = read_coco(shared / "data" / "taco" / "annotations.json")
    assert (len(dataset.photographs), dataset.n_annotations) == (N_IMAGES, N_INSTANCES)
    assert len(dataset.categories) == N_CATEGORIES
    assert N_POOL == N_INSTANCES - 5


def test_what_is_not_there_is_said_with_the_way_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="deponij data fetch taco"):
        TacoSource(TacoParams(root=tmp_path))


def test_photographs_that_were_not_fetched_are_failures_with_labels(tmp_path: Path, shared: Path) -> None:
    document = json.loads((shared / "data" / "taco" / "annotations.json").read_bytes())
    first = document["images"][0]
    document["images"] = document["images"][:2]
    ids = [image["id"] for image in document["images"]]
    document["annotations"] = [one for one in document["annotations"] if one["image_id"] in ids]
    (tmp_path / "annotations.json").write_text(json.dumps(document))
    path = tmp_path / first["file_name"]
    path.parent.mkdir()
    noise(first["width"], first["height"]).save(path, "JPEG")
    source = TacoSource(TacoParams(root=tmp_path))
    items = list(source.items(workers=1))
    assert source.n_items == len(items) == len(document["annotations"])
    for item in items:
        assert (item.failure is None) == (item.image_id == first["file_name"])
        assert item.metadata["taco10"] is not None
        assert item.metadata["taco56"] == item.metadata["category"]
