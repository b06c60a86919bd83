"""What goes wrong with people's inputs, over every format: an error that says so, a recorded failure, or a note.

Each case is a small data set as its tool writes it, with one thing wrong. Expected words are those that a user needs.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from coco_made import noise

from deponij.pipeline.data.adapters.registry import Source, open_source
from deponij.store.errors import DataError, UsageError

Options = dict[str, Any]


def pictures(root: Path, *names: str) -> None:
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        noise(30, 20, number).save(root / name, "PNG")


def table(text: str | bytes, *names: str, **options: Any) -> Callable[[Path], Options]:
    def make(root: Path) -> Options:
        pictures(root, *(names or ("a.png", "b.png")))
        data = text.replace("ROOT", str(root)).encode() if isinstance(text, str) else text
        (root / "t.csv").write_bytes(data)
        return {"table": root / "t.csv", **options}

    return make


def coco(file_name: str, *names: str, **options: Any) -> Callable[[Path], Options]:
    """One photograph of the name that the file states, and the pictures that there are."""

    def make(root: Path) -> Options:
        pictures(root, *names)
        box = {"id": 0, "image_id": 0, "category_id": 0, "bbox": [2, 3, 10, 8], "area": 80, "iscrowd": 0}
        document = {
            "images": [
                {"id": 0, "file_name": file_name.replace("ROOT", str(root)), "width": 30, "height": 20}
            ],
            "annotations": [box],
            "categories": [{"id": 0, "name": "can"}],
        }
        (root / "result.json").write_text(json.dumps(document))
        return {"annotations": root / "result.json", "images": root, **options}

    return make


def yolo(labels: dict[str, str], *names: str) -> Callable[[Path], Options]:
    def make(root: Path) -> Options:
        pictures(root, *names)
        (root / "data.yaml").write_text("names: [cat, dog]\ntrain: images/train\nval: images/val\n")
        for part in ("train", "val"):
            (root / "images" / part).mkdir(parents=True, exist_ok=True)
            (root / "labels" / part).mkdir(parents=True, exist_ok=True)
        for name, text in labels.items():
            (root / "labels" / name).write_text(text)
        return {"data": root / "data.yaml"}

    return make


def voc(xml: dict[str, str], *names: str) -> Callable[[Path], Options]:
    def make(root: Path) -> Options:
        pictures(root, *names)
        (root / "Annotations").mkdir()
        for name, text in xml.items():
            (root / "Annotations" / name).write_text(text)
        return {"folder": root}

    return make


BOX = "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>12</xmax><ymax>9</ymax></bndbox>"


def xml(file_name: str) -> str:
    return f"<annotation><filename>{file_name}</filename><object><name>cat</name>{BOX}</object></annotation>"


def parquet(**columns: Any) -> Callable[[Path], Options]:
    def make(root: Path) -> Options:
        pq.write_table(pa.table(columns), root / "p.parquet")
        return {"files": (root / "p.parquet",)}

    return make


def folder(*names: str) -> Callable[[Path], Options]:
    def make(root: Path) -> Options:
        pictures(root, *names)
        return {"folder": root}

    return make


@dataclass(frozen=True)
class Case:
    """What one input leads to: an error with these words, or items with so many failures of these words, and a note.

    Attributes:
        ids: of the items that are read.
    """

    adapter: str
    make: Callable[[Path], Options]
    error: str = ""
    failures: tuple[str, ...] = ()
    note: str = ""
    ids: tuple[str, ...] | None = None


CSV = "path,label\na.png,cat\nb.png,dog\n"
PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
CASES = {
    # Missing files and labels without pictures.
    "table: a picture is missing": Case(
        "listed", table("path,label\na.png,cat\nc.png,dog\n"), failures=("'c.png' is missing",)
    ),
    "table: a row without a picture": Case(
        "listed", table("path,label\na.png,cat\n,dog\n"), failures=("row 2 names no picture",)
    ),
    "coco: a picture is missing": Case("coco", coco("b.png", "a.png"), failures=("'b.png' is missing",)),
    "yolo: labels without a picture": Case(
        "yolo",
        yolo(
            {"train/a.txt": "0 0.5 0.5 0.2 0.2\n", "train/b.txt": "1 0.5 0.5 0.2 0.2\n"}, "images/train/a.png"
        ),
        failures=("no picture for the labels labels/train/b.txt",),
    ),
    "voc: an annotation without a picture": Case(
        "voc",
        voc({"a.xml": xml("a.png"), "b.xml": xml("b.png")}, "JPEGImages/a.png"),
        failures=("b.xml names the picture 'b.png', which is not there",),
    ),
    "parquet: a path without bytes": Case(
        "parquet",
        parquet(image=pa.array([{"bytes": None, "path": "a.png"}], PICTURE), label=["cat"]),
        failures=("does not hold its bytes",),
    ),
    "folder: a class without a picture": Case(
        "folder",
        lambda root: folder("cat/a.png", "dog/b.png")(root) | {"folder": beside(root / "elk" / "x.txt")},
        failures=("no picture in this folder",),
    ),
    # Names as Windows, servers and other folders have them.
    "table: Windows paths": Case(
        "listed",
        table("path,label\nx\\a.png,cat\n.\\x\\b.png,dog\n", "x/a.png", "x/b.png"),
        ids=("x/a.png", "x/b.png"),
    ),
    "table: a Windows drive": Case(
        "listed",
        table("path,label\nC:\\me\\x\\a.png,cat\nC:\\me\\x\\b.png,dog\n", "x/a.png", "x/b.png"),
        ids=("x/a.png", "x/b.png"),
        note="read otherwise: 2, such as 'C:/me/x/a.png' as 'x/a.png'",
    ),
    "table: absolute paths inside": Case(
        "listed", table("path,label\nROOT/a.png,cat\nROOT/b.png,dog\n"), ids=("a.png", "b.png")
    ),
    "table: absolute paths of another machine": Case(
        "listed",
        table("path,label\n/home/ann/set/a.png,cat\n/home/ann/set/gone.png,dog\n"),
        failures=("points outside the data set's folder",),
        note="such as '/home/ann/set/a.png' as 'a.png'",
    ),
    "table: addresses": Case(
        "listed",
        table("path,label\nhttps://host/set/a.png,cat\nhttps://host/set/c.png,dog\n"),
        failures=("row 2 names an address; --fetch",),
        note="'https://host/set/a.png' as 'a.png'",
    ),
    "table: names that begin with the folder itself": Case(
        "listed",
        lambda root: (
            table("path,label\nimgs/a.png,cat\nimgs/b.png,dog\n", "imgs/a.png", "imgs/b.png")(root)
            | {"images": root / "imgs"}
        ),
        ids=("a.png", "b.png"),
    ),
    "coco: Label Studio on Windows": Case(
        "coco", coco("images\\a.png", "images/a.png"), ids=("images/a.png#0",)
    ),
    "coco: Label Studio with a project's number": Case(
        "coco", coco("images\\1/a.png", "images/a.png"), ids=("images/a.png#0",)
    ),
    "coco: Label Studio with its media folder": Case(
        "coco",
        coco("..\\..\\label-studio\\media\\upload\\4\\ab-a.png", "images/x.png", "ab-a.png"),
        ids=("ab-a.png#0",),
        note="media",
    ),
    "coco: Label Studio's local files": Case(
        "coco", coco("/data/local-files/?d=set%2Fa.png", "set/a.png"), ids=("set/a.png#0",)
    ),
    "coco: --images names the folder that file names begin with": Case(
        "coco",
        lambda root: coco("images/a.png", "images/a.png")(root) | {"images": root / "images"},
        ids=("a.png#0",),
    ),
    "coco: an address": Case("coco", coco("https://host/a.png", "b.png"), failures=("is an address",)),
    "coco: a file above the folder": Case(
        "coco", coco("../secret.png", "a.png"), failures=("points outside the data set's folder",)
    ),
    # Rows that occur twice, and names of columns.
    "table: a picture twice": Case(
        "listed",
        table("path,label\na.png,cat\na.png,dog\nb.png,dog\n"),
        failures=("row 2 names the same picture as row 1",),
    ),
    "table: one picture by two names": Case(
        "listed",
        table("path,label\na.png,cat\n/elsewhere/a.png,cat\nb.png,dog\n"),
        failures=("row 2 names the same picture as row 1",),
    ),
    "table: two columns could be labels": Case(
        "listed",
        table("path,class,label\na.png,x,cat\nb.png,y,dog\n"),
        note="labels are those of column 'label'; 'class' could be meant too (--labels)",
    ),
    "table: two columns of one name": Case(
        "listed",
        table("path,label,label\na.png,x,cat\n"),
        error="two columns of the name 'label'; rename one",
    ),
    "table: no column of paths": Case(
        "listed",
        table("picture_of,label\na.png,cat\n"),
        error="no column of paths .*it has picture_of, label",
    ),
    "table: a column that is not there": Case(
        "listed",
        table(CSV, label_column="species"),
        error="no column 'species' for labels; it has path, label",
    ),
    "voc: two files for one picture": Case(
        "voc",
        voc({"a.xml": xml("a.png"), "b.xml": xml("a.png")}, "JPEGImages/a.png"),
        failures=("a second annotation file describes the picture",),
    ),
    "coco: the same photograph in two files": Case(
        "coco",
        lambda root: (
            coco("a.png", "a.png")(root)
            | {
                "annotations": (
                    root / "result.json",
                    written(root / "other.json", (root / "result.json").read_text()),
                )
            }
        ),
        failures=("an earlier annotation file is of the picture 'a.png' too",),
    ),
    # Encodings and separators.
    "table: semicolons": Case("listed", table(CSV.replace(",", ";")), ids=("a.png", "b.png")),
    "table: tabs": Case("listed", table(CSV.replace(",", "\t")), ids=("a.png", "b.png")),
    "table: a byte order mark": Case("listed", table(b"\xef\xbb\xbf" + CSV.encode()), ids=("a.png", "b.png")),
    "table: UTF-16": Case("listed", table(CSV.encode("utf-16")), ids=("a.png", "b.png")),
    "table: Latin-1, not said": Case(
        "listed",
        table("path,label\na.png,Käfer\n".encode("latin-1")),
        error="not in utf-8.*name its encoding",
    ),
    "table: Latin-1, said": Case(
        "listed", table("path,label\na.png,Käfer\n".encode("latin-1"), encoding="latin-1"), ids=("a.png",)
    ),
    "table: an encoding that nobody knows": Case("listed", table(CSV, encoding="klingon"), error="klingon"),
    "table: no rows": Case("listed", table("path,label\n"), error="has no rows"),
    "coco: no JSON": Case(
        "coco",
        lambda root: coco("a.png", "a.png")(root) | {"annotations": written(root / "x.json", "path,label")},
        error="not valid JSON",
    ),
    "yolo: a class that has no name": Case(
        "yolo",
        yolo(
            {"train/a.txt": "0 .5 .5 .2 .2\n", "val/b.txt": "7 .5 .5 .2 .2\n"},
            "images/train/a.png",
            "images/val/b.png",
        ),
        failures=("class 7 is not among the 2 names",),
    ),
    # Several labels a picture.
    "table: labels that look like sets are one class each": Case(
        "listed",
        table(
            "path,label\na.png,cat|dog\nb.png,cat|elk\nc.png,elk|dog\nd.png,elk|fox\ne.png,cat|fox\nf.png,fox\n"
        ),
        failures=("'c.png'", "'d.png'", "'e.png'", "'f.png'"),
        note="--label-separator '|' takes them apart",
    ),
    "table: a separator that no label has": Case(
        "listed", table(CSV, label_separator="|"), error=r"no value in column 'label' .* holds '\|'"
    ),
    "table: a letter as separator": Case(
        "listed", table(CSV, label_separator="a"), error="a label separator is a sign"
    ),
    "table: a column of a class that is neither 0 nor 1": Case(
        "listed",
        table("path,cat,dog\na.png,1,0\nb.png,0,2\n", label_columns=("cat", "dog")),
        error="column 'dog', row 2: got 2",
    ),
    "table: a column of a class that is not there": Case(
        "listed", table("path,cat\na.png,1\n", label_columns=("cat", "dog")), error="no column 'dog'"
    ),
    "parquet: a list with a gap": Case(
        "parquet",
        parquet(image=pa.array([{"bytes": b"x", "path": None}], PICTURE), label=[["cat", None]]),
        failures=("a label that has no name",),
    ),
}


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def beside(path: Path) -> Path:
    """The folder of class folders, one of them with a file that is no picture."""
    path.parent.mkdir()
    path.write_text("no picture")
    return path.parents[1]


@pytest.mark.parametrize("name", CASES)
def test_each_bad_case_is_said(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    if case.error:
        with pytest.raises((DataError, UsageError), match=f"(?s){case.error}"):
            opened(case, tmp_path)
        return
    source = opened(case, tmp_path)
    items = list(source.items(workers=0))
    assert len(items) == source.n_items == len({item.item_id for item in items})
    failed = [item.failure for item in items if item.failure is not None]
    assert len(failed) == len(case.failures), failed
    for said, wanted in zip(failed, case.failures, strict=True):
        assert wanted in said
    assert case.note in " ".join(source.notes)
    if case.ids is not None:
        assert tuple(item.item_id for item in items) == case.ids


def opened(case: Case, root: Path) -> Source:
    return open_source(case.adapter, case.make(root))
