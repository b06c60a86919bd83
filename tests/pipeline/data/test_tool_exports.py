"""Exports of labelling tools, in the form that each tool's own documentation and code describe.

Label Studio's COCO: https://github.com/HumanSignal/label-studio-converter (README, COCO); its CSV: the module
`exports/csv2.py` there, choices as `prettify_result` writes them. CVAT's COCO 1.0 is Datumaro's, with the images in
`images/` and `annotations/instances_default.json`: https://docs.cvat.ai/docs/manual/advanced/formats/format-coco/.
Classification folders: https://docs.ultralytics.com/datasets/classify/, CVAT's with a `labels.json` beside them.
"""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from coco_made import noise

from deponij.pipeline.data.adapters.label_sets import LABEL_SET
from deponij.pipeline.data.adapters.registry import open_source
from deponij.pipeline.data.item import Item


def pictures(root: Path, *names: str) -> None:
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        noise(30, 20, number).save(root / name, "PNG")


def read(adapter: str, **options: Any) -> dict[str, Item]:
    return {item.item_id: item for item in open_source(adapter, options).items(workers=0)}


def test_label_studio_coco(tmp_path: Path) -> None:
    """Categories from 0 without a supercategory, no `segmentation`, `ignore`, names below `images/`."""
    pictures(tmp_path, "images/1f2e-a.png", "images/3c4d-b.png")
    boxes = [(0, 0, [2, 3, 10, 8]), (1, 0, [1, 1, 5, 5]), (0, 1, [0, 0, 9.5, 7.25])]
    document = {
        "images": [
            {"width": 30, "height": 20, "id": 0, "file_name": "images/1f2e-a.png"},
            {"width": 30, "height": 20, "id": 1, "file_name": "images/3c4d-b.png"},
        ],
        "categories": [{"id": 0, "name": "Planet"}, {"id": 1, "name": "Moonwalker"}],
        "annotations": [
            {
                "id": k,
                "image_id": image,
                "category_id": category,
                "segmentation": [],
                "bbox": box,
                "ignore": 0,
                "iscrowd": 0,
                "area": box[2] * box[3],
            }
            for k, (category, image, box) in enumerate(boxes)
        ],
        "info": {
            "year": 2023,
            "version": "1.0",
            "description": "",
            "contributor": "Label Studio",
            "url": "",
            "date_created": "2023-04-11 19:02:12.209886",
        },
    }
    (tmp_path / "result.json").write_text(json.dumps(document))
    found = read("coco", annotations=tmp_path / "result.json", images=tmp_path)
    assert {name: (item.metadata["category"], item.failure) for name, item in found.items()} == {
        "images/1f2e-a.png#0": ("Planet", None),
        "images/1f2e-a.png#1": ("Moonwalker", None),
        "images/3c4d-b.png#0": ("Planet", None),
    }


def cvat(root: Path) -> dict[str, Any]:
    """A task with a rectangle, a polygon with attributes and a photograph on which nothing is drawn."""
    pictures(root, "images/frame_000000.png", "images/frame_000001.png", "images/frame_000002.png")
    images = [
        {
            "id": k + 1,
            "width": 30,
            "height": 20,
            "file_name": f"frame_{k:06}.png",
            "license": 0,
            "flickr_url": "",
            "coco_url": "",
            "date_captured": 0,
        }
        for k in range(3)
    ]
    annotations = [
        {
            "id": 1,
            "image_id": 1,
            "category_id": 1,
            "segmentation": [],
            "area": 80.0,
            "bbox": [2.0, 3.0, 10.0, 8.0],
            "iscrowd": 0,
            "attributes": {"occluded": False, "rotation": 0.0},
        },
        {
            "id": 2,
            "image_id": 1,
            "category_id": 2,
            "segmentation": [[4.0, 4.0, 12.0, 4.0, 12.0, 10.0]],
            "area": 24.0,
            "bbox": [4.0, 4.0, 8.0, 6.0],
            "iscrowd": 0,
            "attributes": {"occluded": True},
        },
        {
            "id": 3,
            "image_id": 2,
            "category_id": 2,
            "segmentation": {"counts": [0, 600], "size": [20, 30]},
            "area": 600.0,
            "bbox": [0.0, 0.0, 30.0, 20.0],
            "iscrowd": 1,
            "attributes": {"occluded": False},
        },
    ]
    document = {
        "licenses": [{"name": "", "id": 0, "url": ""}],
        "info": {
            "contributor": "",
            "date_created": "",
            "description": "",
            "url": "",
            "version": "",
            "year": "",
        },
        "categories": [
            {"id": 1, "name": "can", "supercategory": ""},
            {"id": 2, "name": "lid", "supercategory": ""},
        ],
        "images": images,
        "annotations": annotations,
    }
    (root / "annotations").mkdir()
    (root / "annotations" / "instances_default.json").write_text(json.dumps(document))
    return {"annotations": root / "annotations" / "instances_default.json", "images": root / "images"}


def test_cvat_coco(tmp_path: Path) -> None:
    found = read("coco", **cvat(tmp_path))
    told = {name: (item.metadata["category"], item.failure is None) for name, item in found.items()}
    assert told == {
        "frame_000000.png#0": ("can", True),
        "frame_000000.png#1": ("lid", True),
        "frame_000001.png#0": ("lid", False),
    }
    assert "--keep-crowds" in str(found["frame_000001.png#0"].failure)


def test_cvat_whole_photographs_have_all_their_categories(tmp_path: Path) -> None:
    """A crowd is there, too; and a photograph without an annotation shows none, which is something to learn from."""
    source = open_source("coco", {**cvat(tmp_path), "whole": True})
    found = {item.item_id: item for item in source.items(workers=0)}
    assert {name: item.metadata["label"] for name, item in found.items()} == {
        "frame_000000.png": ["can", "lid"],
        "frame_000001.png": ["lid"],
        "frame_000002.png": [],
    }
    assert source.metadata_schema.field("label").type == LABEL_SET
    assert "which show none of the classes: 1" in " ".join(source.notes)
    assert found["frame_000000.png"].content == (tmp_path / "images" / "frame_000000.png").read_bytes()


def test_a_photograph_with_an_unknown_category_has_no_known_set(tmp_path: Path) -> None:
    options = cvat(tmp_path)
    document = json.loads(options["annotations"].read_text())
    document["annotations"][1]["category_id"] = 77
    options["annotations"].write_text(json.dumps(document))
    found = read("coco", **options, whole=True)
    assert "category_id 77" in str(found["frame_000000.png"].failure)
    assert found["frame_000000.png"].metadata["label"] is None


def test_several_coco_files_say_their_parts_by_their_names(tmp_path: Path) -> None:
    """Roboflow's folders: https://roboflow.com/formats/coco-json, an annotation file beside the pictures of each part."""
    for part, names in (("train", ("a", "b")), ("valid", ("c",)), ("test", ("d",))):
        pictures(tmp_path, *(f"{part}/{name}.png" for name in names))
        document = {
            "images": [
                {"id": k, "file_name": f"{name}.png", "width": 30, "height": 20}
                for k, name in enumerate(names)
            ],
            "categories": [{"id": 0, "name": "cans"}, {"id": 1, "name": f"only-{part}"}],
            "annotations": [
                {"id": k, "image_id": k, "category_id": k % 2, "bbox": [1, 1, 9, 8]}
                for k in range(len(names))
            ],
        }
        (tmp_path / part / "_annotations.coco.json").write_text(json.dumps(document))
    files = tuple(tmp_path / part / "_annotations.coco.json" for part in ("train", "valid", "test"))
    found = read("coco", annotations=files, images=tmp_path)
    assert {name: (item.given, item.metadata["category"]) for name, item in found.items()} == {
        "train/a.png#0": ("train", "cans"),
        "train/b.png#0": ("train", "only-train"),
        "valid/c.png#0": ("val", "cans"),
        "test/d.png#0": ("test", "cans"),
    }
    assert all(item.failure is None for item in found.values())


@pytest.mark.parametrize("adapter", ["yolo", "voc"])
def test_whole_photographs_of_other_formats(adapter: str, tmp_path: Path) -> None:
    """A picture without a label file is a background picture: https://docs.ultralytics.com/datasets/detect/."""
    if adapter == "yolo":
        pictures(tmp_path, "images/a.png", "images/b.png")
        (tmp_path / "labels").mkdir()
        (tmp_path / "labels" / "a.txt").write_text("1 .5 .5 .2 .2\n0 .5 .5 .2 .2\n1 .2 .2 .1 .1\n")
        (tmp_path / "classes.txt").write_text("cat\ndog\n")
        found = read("yolo", data=tmp_path, whole=True)
        assert {name: item.metadata["label"] for name, item in found.items()} == {
            "images/a.png": ["cat", "dog"],
            "images/b.png": [],
        }
    else:
        pictures(tmp_path, "JPEGImages/a.png")
        (tmp_path / "Annotations").mkdir()
        box = "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>12</xmax><ymax>9</ymax></bndbox>"
        objects = "".join(f"<object><name>{name}</name>{box}</object>" for name in ("dog", "cat", "dog"))
        (tmp_path / "Annotations" / "a.xml").write_text(
            f"<annotation><filename>a.png</filename>{objects}</annotation>"
        )
        found = read("voc", folder=tmp_path, whole=True)
        assert found["JPEGImages/a.png"].metadata["label"] == ["cat", "dog"]


def test_classification_folders_of_yolo_and_cvat(tmp_path: Path) -> None:
    """train/CLASS and val/CLASS; CVAT's `labels.json` is no picture."""
    pictures(
        tmp_path, "train/cat/1.png", "train/dog/2.png", "val/cat/3.png", "val/dog/4.png", "test/dog/5.png"
    )
    (tmp_path / "train" / "labels.json").write_text("{}")
    found = read("folder", folder=tmp_path)
    assert {name: (item.metadata["label"], item.given) for name, item in found.items()} == {
        "test/dog/5.png": ("dog", "test"),
        "train/cat/1.png": ("cat", "train"),
        "train/dog/2.png": ("dog", "train"),
        "val/cat/3.png": ("cat", "val"),
        "val/dog/4.png": ("dog", "val"),
    }


def test_label_studio_csv_of_choices(tmp_path: Path) -> None:
    """One choice is a text, several are a JSON document; the picture is an upload's path on the server."""
    pictures(tmp_path, "1f2e-a.png", "3c4d-b.png", "5e6f-c.png")
    rows = [
        '"annotation_id","annotator","choice","created_at","id","image","lead_time","updated_at"',
        '1,1,"Cat","2024-01-01T00:00:00Z",1,"/data/upload/1/1f2e-a.png",3.1,"2024-01-01T00:00:00Z"',
        '2,1,"{""choices"": [""Dog"", ""Cat""]}","2024-01-01T00:00:00Z",2,"/data/upload/1/3c4d-b.png",2.0,""',
        '3,1,"","2024-01-01T00:00:00Z",3,"/data/upload/1/5e6f-c.png",2.0,""',
    ]
    (tmp_path / "project-1.csv").write_text("\n".join(rows) + "\n")
    found = read("listed", table=tmp_path / "project-1.csv")
    assert {name: item.metadata["label"] for name, item in found.items()} == {
        "1f2e-a.png": ["Cat"],
        "3c4d-b.png": ["Cat", "Dog"],
        "5e6f-c.png": None,
    }


def test_columns_of_0_and_1(tmp_path: Path) -> None:
    pictures(tmp_path, "a.png", "b.png", "c.png")
    (tmp_path / "t.csv").write_text("image,dog,cat,camera\na.png,1,1,A\nb.png,0,0,B\nc.png,1,,B\n")
    found = read("listed", table=tmp_path / "t.csv", label_columns=("dog", "cat"))
    assert {name: item.metadata for name, item in found.items()} == {
        "a.png": {"label": ["cat", "dog"], "camera": "A"},
        "b.png": {"label": [], "camera": "B"},
        "c.png": {"label": None, "camera": "B"},
    }


def test_texts_with_a_separator(tmp_path: Path) -> None:
    """Nothing is no label, the sign alone is none of the classes, spaces and repeats say nothing."""
    pictures(tmp_path, "a.png", "b.png", "c.png", "d.png")
    (tmp_path / "t.csv").write_text("path,label\na.png,dog; cat;dog\nb.png,;\nc.png,\nd.png,dog\n")
    # The header's comma, not the labels' semicolon, separates fields.
    found = read("listed", table=tmp_path / "t.csv", label_separator=";")
    assert [item.metadata["label"] for item in found.values()] == [["cat", "dog"], [], None, ["dog"]]


@pytest.mark.parametrize("kind", [pa.list_(pa.string()), pa.large_list(pa.string())])
def test_lists_of_a_parquet_table(kind: pa.DataType, tmp_path: Path) -> None:
    pictures(tmp_path, "a.png", "b.png", "c.png")
    lists = pa.array([["dog", "cat"], [], None], kind)
    pq.write_table(pa.table({"path": ["a.png", "b.png", "c.png"], "labels": lists}), tmp_path / "t.parquet")
    found = read("listed", table=tmp_path / "t.parquet")
    assert [item.metadata["label"] for item in found.values()] == [["cat", "dog"], [], None]


def test_hugging_face_lists_of_class_numbers(tmp_path: Path) -> None:
    """`Sequence(ClassLabel)` and its newer name `List`, as the schema's metadata has them."""
    pictures(tmp_path, "a.png")
    cell = {"bytes": (tmp_path / "a.png").read_bytes(), "path": None}
    columns = {
        "image": pa.array([cell, cell], pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        "labels": pa.array([[1, 0], []], pa.list_(pa.int64())),
    }
    for name in ("Sequence", "List"):
        feature = {"feature": {"names": ["cat", "dog"], "_type": "ClassLabel"}, "_type": name}
        features = {"image": {"_type": "Image"}, "labels": feature}
        table = pa.table(columns).replace_schema_metadata(
            {"huggingface": json.dumps({"info": {"features": features}})}
        )
        pq.write_table(table, tmp_path / "t.parquet")
        found = read("parquet", files=(tmp_path / "t.parquet",))
        assert [item.metadata["label"] for item in found.values()] == [["cat", "dog"], []]
