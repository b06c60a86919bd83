"""Tables of classes and descriptions: files as others write them, and our own."""

import json
from importlib.resources import files
from pathlib import Path

import pytest

from deponij.pipeline.data.adapters.label_maps import BUILT_IN as LABEL_MAPS
from deponij.pipeline.data.adapters.label_maps import read_label_map
from deponij.pipeline.data.scenes.class_tables import BUILT_IN, class_table, colour_of
from deponij.pipeline.data.scenes.descriptions import described, described_sets, readable
from deponij.sample.painter.categories import CATEGORIES
from deponij.store.errors import DataError
from deponij.store.label_maps import SceneClass

# The first lines of CamVid's label_colors.txt, and a grouping of four of its 32 colours to two classes.
LABEL_COLORS = "64 128 64\tAnimal\n192 0 128\tArchway\n0 128 192\tBicyclist\n0 0 0\t\tVoid\n"
GROUPED = """r,g,b,name,class
0,128,192,Bicyclist,Bicyclist
192,0,128,Archway,Building
128,0,0,Building,Building
64,128,64,Animal,
"""


def test_label_colors(tmp_path: Path) -> None:
    path = tmp_path / "label_colors.txt"
    path.write_text(LABEL_COLORS)
    table = class_table(path)
    assert [one.name for one in table.classes] == ["Animal", "Archway", "Bicyclist"]
    assert table.colours == {(64, 128, 64): 0, (192, 0, 128): 1, (0, 128, 192): 2, (0, 0, 0): None}
    assert table.ids == {}


def test_colours_that_are_grouped(tmp_path: Path) -> None:
    path = tmp_path / "camvid.csv"
    path.write_text(GROUPED)
    table = class_table(path)
    assert [(one.name, one.colour) for one in table.classes] == [
        ("Bicyclist", (0, 128, 192)),
        ("Building", (192, 0, 128)),
    ]
    assert table.colours == {(0, 128, 192): 0, (192, 0, 128): 1, (128, 0, 0): 1, (64, 128, 64): None}


@pytest.mark.parametrize(
    "text",
    [
        "name,id,colour\nroad,3,#804080\n",
        "Name;Id;Color\nroad;3;128 64 128\n",
        "id,name,r,g,b\n3,road,128,64,128\n",
    ],
)
def test_headings(tmp_path: Path, text: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    table = class_table(tmp_path / "t.csv")
    assert table.ids == {3: 0} and table.colours == {(128, 64, 128): 0}


def test_names_alone_are_numbered(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("name\nsky\nroad\n")
    assert class_table(tmp_path / "t.csv", [255]).ids == {0: 0, 1: 1, 255: None}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no column 'name'"),
        ("sky\nroad\n", "has no column 'name'"),
        ("name,id\nsky\n", "line 2: 1 fields, the heading has 2"),
        ("name,id\nsky,x\n", "row 1"),
        ("name,id\nsky,70000\n", "row 1"),
        ("name,r,g,b\nsky,1,2,300\n", "row 1"),
        ("name,r,g,b\nsky,1,2,\n", "row 1"),
        ("name,id\nsky,1\nsky,2\n", "'sky' occurs twice"),
        ("name,id\nvoid,1\n", "names no class"),
        ("1 2 3 sky\nroad\n", "line 2"),
    ],
)
def test_tables_that_cannot_be_read(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DataError, match=said):
        class_table(tmp_path / "t.csv")
    with pytest.raises(DataError, match="cannot be read"):
        class_table(tmp_path / "absent.csv")


def test_built_in_tables_are_whole() -> None:
    # 11, 21 and 19 classes, as published; of CamVid's ids 11 is void.
    assert [len(class_table(name).classes) for name in ("camvid", "voc", "cityscapes")] == [11, 21, 19]
    assert class_table("camvid").ids[11] is None
    # Every id of Cityscapes' labels.py from 0 to 33 means something.
    assert set(range(34)) <= set(class_table("cityscapes").ids)


def test_colours_by_number() -> None:
    # The Pascal VOC development kit: background, aeroplane, bicycle, bird, boat, bottle.
    expected = [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (128, 0, 128)]
    assert [colour_of(number) for number in range(6)] == expected
    assert len({colour_of(number) for number in range(256)}) == 256


@pytest.mark.parametrize("name", sorted({one.removesuffix("-train-ids") for one in BUILT_IN}))
def test_every_class_of_a_built_in_table_is_described(name: str) -> None:
    found = described(class_table(name).classes, name)
    assert found.without == () and all(one.words == one.words.strip() for one in found.classes)


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("taco10", {*read_label_map(LABEL_MAPS["taco10"], "x").labels.values(), "background"}),
        ("litter", {"litter", "background"}),
        (
            "sample",
            {*CATEGORIES, *(one.supercategory for one in CATEGORIES.values()), "background", "litter"},
        ),
    ],
)
def test_descriptions_are_of_the_classes_that_there_are(name: str, names: set[str]) -> None:
    classes = [SceneClass(one, (0, 0, 0)) for one in sorted(names)]
    assert described(classes, name).without == ()


def test_words_of_the_sample_are_what_people_say() -> None:
    found = described([SceneClass(one, (0, 0, 0)) for one in CATEGORIES], "sample").classes
    assert [one.words for one in found] == [one.plain for one in CATEGORIES.values()]


def test_no_two_descriptions_are_alike() -> None:
    for name in described_sets():
        path = files("deponij.pipeline.data.scenes") / "descriptions" / f"{name}.json"
        classes = json.loads(path.read_bytes())["classes"]
        texts = [one["description"] for one in classes.values()]
        assert len(set(texts)) == len(texts) and all(len(text) < 140 for text in texts)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("SignSymbol", "sign symbol"),
        ("sign_symbol", "sign symbol"),
        ("Plastic bag + wrapper", "plastic bag + wrapper"),
        ("PET flask", "PET flask"),
        ("traffic-light", "traffic light"),
        ("A", "a"),
    ],
)
def test_readable(name: str, words: str) -> None:
    assert readable(name) == words


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"classes": {"road": {"description": "road, flat"}}}))
    found = described([SceneClass("Road", (1, 1, 1)), SceneClass("SkyLine", (2, 2, 2))], path)
    assert [(one.spoken, one.description) for one in found.classes] == [
        ("road", "road, flat"),
        ("sky line", ""),
    ]
    assert found.without == ("SkyLine",)
    path.write_text("{}")
    with pytest.raises(DataError, match=r"expected \{\"classes\""):
        described([SceneClass("road", (1, 1, 1))], path)
