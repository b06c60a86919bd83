"""Confusion matrices as SVG: well-formed, every count in its place, names escaped."""

from xml.etree import ElementTree

import numpy as np
import pytest

from deponij.pipeline.reports.confusion import Confused, confusion_svg, most_confused

SPACE = "{http://www.w3.org/2000/svg}"


def parse(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1))


def test_cells_by_hand() -> None:
    truth = np.array(["cup", "cup", "cup", "can", "lid"])
    answers = np.array(["cup", "cup", "can", "can", "cup"])
    cells = parse(confusion_svg(truth, answers, "title")).findall(f"{SPACE}g")
    told = {cell.findtext(f"{SPACE}title"): cell for cell in cells}
    assert set(told) == {
        "cup answered as cup: 2 of 3",
        "cup answered as can: 1 of 3",
        "can answered as can: 1 of 1",
        "lid answered as cup: 1 of 1",
    }
    hit, miss = told["cup answered as cup: 2 of 3"], told["cup answered as can: 1 of 3"]
    assert hit.find(f"{SPACE}rect").get("class") == "hit"
    assert miss.find(f"{SPACE}rect").get("class") == "miss"
    assert float(hit.find(f"{SPACE}rect").get("fill-opacity")) > float(
        miss.find(f"{SPACE}rect").get("fill-opacity")
    )
    assert hit.findtext(f"{SPACE}text") == "2"


def test_rows_fall_in_frequency() -> None:
    truth = np.array(["b", "b", "a", "c", "c", "c"])
    texts = parse(confusion_svg(truth, truth, "t")).findall(f"{SPACE}text")
    rows = [text for text in texts if text.get("text-anchor") == "end"]
    assert [row.findtext(f"{SPACE}title") for row in rows] == ["c", "b", "a"]


@pytest.mark.parametrize("n_classes", [2, 10, 20, 60])
def test_readable_for_few_and_many_classes(n_classes: int) -> None:
    truth = np.array([f"class number {i}" for i in range(n_classes)])
    svg = parse(confusion_svg(truth, np.roll(truth, 1), "t"))
    assert 100 < int(svg.get("width")) < 1000
    assert float(svg.get("font-size")) >= 9
    assert len(svg.findall(f"{SPACE}g")) == n_classes
    assert (svg.get("class") == "confusion fits") == (n_classes <= 14)


def test_names_are_escaped_and_shortened() -> None:
    name = '<script>alert("x")</script> & a very long name'
    svg = confusion_svg(np.array([name, "b"]), np.array(["b", name]), name)
    assert "<script>" not in svg
    texts = [text.text or "".join(text.itertext()) for text in parse(svg).findall(f"{SPACE}text")]
    assert any("…" in text for text in texts)


def test_long_names_that_begin_alike_are_told_apart() -> None:
    names = np.array([f"unsorted municipal waste of the kind {i}" for i in range(3)])
    texts = parse(confusion_svg(names, names, "t")).findall(f"{SPACE}text")
    shown = {"".join(text.itertext()).removeprefix(text.findtext(f"{SPACE}title")) for text in texts}
    assert {f"unsorted munici…the kind {i}" for i in range(3)} == shown & {
        f"unsorted munici…the kind {i}" for i in range(9)
    }


def test_most_confused_by_hand() -> None:
    truth = np.array(["a", "a", "a", "b", "b", "c"])
    answers = np.array(["b", "b", "c", "a", "b", "c"])
    assert most_confused(truth, answers, 2) == [Confused("a", "b", 2, 3), Confused("a", "c", 1, 3)]
    assert most_confused(truth, truth, 5) == []
