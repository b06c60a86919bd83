"""Maps: places of known points, classes by frequency, rules for choosing, and names that stay names."""

import json
import re
from xml.etree import ElementTree

import numpy as np
import pytest

from deponij.pipeline.reports.embedding_map import (
    Embedding,
    choose_items,
    embedding_map,
    map_rules,
    points_json,
)
from deponij.pipeline.reports.palette import MARKERS

IDS = np.array(["a", "b", "c", "d"])
PLACES = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 5.0], [10.0, 5.0]])
CLASSES = {"a": "can", "b": "can", "c": "lid"}


def embedding(name: str = "x", ids: np.ndarray = IDS, places: np.ndarray = PLACES) -> Embedding:
    return Embedding(name, "f" * 20, ids, {"PCA": places, "t-SNE": places[::-1]})


def points(path: ElementTree.Element) -> list[tuple[int, int]]:
    return [(int(x), int(y)) for x, y in re.findall(r"M(-?\d+) ?(-?\d+)", path.get("d"))]


def layer(svg: str, name: str) -> dict[str, list[tuple[int, int]]]:
    """Places by class name."""
    group = next(g for g in ElementTree.fromstring(svg) if g.get("class") == f"layer {name}")
    return {path.findtext("title"): points(path) for path in group}


def test_places_by_hand() -> None:
    # 10 wide and 5 high, on 952 of 1000 units: half as high as wide, in the middle, y upwards.
    found = layer(embedding_map([embedding()], IDS.tolist(), CLASSES, "label").svg, "b0 l0")
    assert found == {"can": [(24, 738), (976, 738)], "lid": [(24, 262)], "without a label": [(976, 262)]}
    turned = layer(embedding_map([embedding()], IDS.tolist(), CLASSES, "label").svg, "b0 l1")
    assert turned["can"] == [(976, 262), (24, 262)]


def test_legend_by_frequency_and_items_without_label_last() -> None:
    found = embedding_map([embedding()], IDS.tolist(), CLASSES | {"d": "lid", "e": "x"}, "label")
    assert [(entry.code, entry.name, entry.n) for entry in found.legend] == [(0, "can", 2), (1, "lid", 2)]
    assert found.rows == [[0, 1], [2, 3]]
    without = embedding_map([embedding()], IDS.tolist(), {"a": "can"}, "label")
    assert [(entry.name, entry.n) for entry in without.legend] == [("can", 1), ("", 3)]


def test_an_item_that_a_backbone_lacks_keeps_its_turn() -> None:
    both = [embedding(), embedding("y", IDS[1:], PLACES[1:])]
    found = layer(embedding_map(both, IDS.tolist(), CLASSES, "label").svg, "b1 l0")
    # It moves the pen far out and draws nothing; the others come in the same order.
    assert found["can"][0] == (-99, -99)
    assert found["can"][1][0] > 0


def test_every_point_at_one_place() -> None:
    found = layer(embedding_map([embedding(places=np.ones((4, 2)))], IDS.tolist(), {}, "label").svg, "b0 l0")
    assert found == {"without a label": [(500, 500)] * 4}


def test_items_are_chosen_from_those_that_every_layout_has() -> None:
    places = PLACES.copy()
    places[2] = np.nan
    one = Embedding("x", "f", IDS, {"PCA": PLACES, "t-SNE": places})
    assert choose_items([one], 10, seed=0) == ["a", "b", "d"]
    many = [f"i{i}" for i in range(100)]
    wide = Embedding("x", "f", np.array(many), {"PCA": np.zeros((100, 2))})
    some = choose_items([wide], 10, seed=0)
    assert len(set(some)) == 10
    assert some == sorted(some, key=many.index)
    assert some == choose_items([wide], 10, seed=0) != choose_items([wide], 10, seed=1)


@pytest.mark.parametrize("marker", MARKERS)
def test_markers_are_closed_and_lie_around_their_middle(marker: object) -> None:
    shape = marker(10.0)
    assert shape.startswith("m")
    assert shape.endswith("z")


def test_rules() -> None:
    rules = map_rules(1, 2, 1)
    assert rules == (
        ".map:not(:has(.pb0:checked)) .b0,.map:not(:has(.pl0:checked)) .l0,.map:not(:has(.pl1:checked)) .l1"
        "{display:none}.map:has(.pc0:checked) .c0{opacity:1}"
    )


def test_names_cannot_leave_their_place() -> None:
    hostile = "</script><script>alert(1)</script>"
    found = embedding_map([embedding()], IDS.tolist(), {"a": hostile}, hostile)
    assert "<script" not in found.svg
    packed = points_json([hostile, "b"], {"b": 0}, [found])
    assert "<" not in packed
    value = json.loads(packed)
    assert value["ids"] == [hostile, "b"]
    assert value["pictures"] == [-1, 0]
    assert value["maps"][0]["classes"][0] == hostile


def test_thousands_of_points_are_few_elements() -> None:
    n, rng = 5000, np.random.default_rng(0)
    ids = np.array([f"i{i}" for i in range(n)])
    classes = {item_id: f"c{i % 56}" for i, item_id in enumerate(ids.tolist())}
    found = embedding_map(
        [embedding(ids=ids, places=rng.normal(size=(n, 2)))], ids.tolist(), classes, "label"
    )
    assert found.svg.count("<path") == 2 * 56
    # Two layouts of 5,000 points.
    assert len(found.svg) < 500_000
