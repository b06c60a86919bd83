"""Maps of embeddings: each item a point, coloured and shaped by class, one layer for each backbone and layout.

A map is one SVG with a path for each layer and class, so that thousands of points stay a few hundred
elements. Which layer is seen, and which class stands out, the page's style decides (`map_rules`); names
and pictures of points are added by the page's script from `points_json`.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deponij.pipeline.metrics.classification import Names
from deponij.pipeline.reports.palette import class_codes, colour_of, marker_of
from deponij.pipeline.reports.svg import element, escaped
from deponij.pipeline.reports.wording import number
from deponij.store.texts import one_line

SIDE = 1000
_MARGIN = 24
# (up to how many points, their radius).
_RADII = ((300, 10.0), (1200, 8.0), (3000, 6.5), (10**9, 5.0))
# Items without a label are points too.
NO_CLASS = ""


@dataclass(frozen=True, slots=True)
class Embedding:
    """Where one backbone's items lie.

    Attributes:
        backbone, fingerprint: whose features.
        ids: item ids [n].
        layouts: places [n, 2] by name of the layout; NaN for items that were not laid out.
    """

    backbone: str
    fingerprint: str
    ids: Names
    layouts: Mapping[str, NDArray[np.floating]]


@dataclass(frozen=True, slots=True)
class LegendEntry:
    """One class: its number on this map, name, items, and the mark that stands for it here and everywhere."""

    code: int
    name: str
    n: int
    mark: str


@dataclass(frozen=True, slots=True)
class EmbeddingMap:
    """One label set's map.

    Attributes:
        labels: the label column.
        svg: all layers.
        legend: classes by falling number of items.
        rows: for each class the items of its points, in the order of the points.
        backbones, layouts: names of the layers.
    """

    labels: str
    svg: str
    legend: Sequence[LegendEntry]
    rows: Sequence[Sequence[int]]
    backbones: Sequence[str]
    layouts: Sequence[str]


def choose_items(embeddings: Sequence[Embedding], n: int, seed: int) -> list[str]:
    """Ids of items that have a place in every layout of an embedding; of more than n a random n, in order."""
    every = list(dict.fromkeys(item_id for one in embeddings for item_id in _laid_out(one).tolist()))
    if len(every) <= n:
        return every
    chosen = np.sort(np.random.default_rng(seed).permutation(len(every))[:n])
    return [every[row] for row in chosen.tolist()]


def _laid_out(one: Embedding) -> Names:
    there = np.ones(len(one.ids), dtype=np.bool_)
    for places in one.layouts.values():
        there &= np.isfinite(places).all(axis=1)
    ids: Names = one.ids[there]
    return ids


def embedding_map(
    embeddings: Sequence[Embedding], ids: Sequence[str], classes: Mapping[str, str], labels: str
) -> EmbeddingMap:
    """The map of these items, coloured by their class; items that `classes` lacks have none."""
    names = [classes.get(item_id, NO_CLASS) for item_id in ids]
    counts = Counter(names)
    ranked = sorted(counts, key=lambda name: (name == NO_CLASS, -counts[name], name))
    codes = class_codes(classes[i] for one in embeddings for i in one.ids.tolist() if i in classes)
    marks = [codes.get(name, -1) for name in ranked]
    rows = [[row for row, name in enumerate(names) if name == one] for one in ranked]
    radius = next(radius for limit, radius in _RADII if len(ids) <= limit)
    layouts = list(dict.fromkeys(name for one in embeddings for name in one.layouts))
    layers = []
    for b, embedding in enumerate(embeddings):
        for name, places in embedding.layouts.items():
            k = layouts.index(name)
            at = _places(embedding.ids, in_square(places), ids)
            # Rare classes are drawn last, above the frequent ones.
            paths = [
                _points(at[rows[code]], code, marks[code], ranked[code], radius)
                for code in range(len(ranked))
            ]
            layers.append(element("g", "".join(paths), class_=f"layer b{b} l{k}"))
    svg = element(
        "svg",
        "".join(layers),
        class_="points",
        role="img",
        aria_label=f"map of {len(ids)} items" + (f", by class of {labels}" if labels else ""),
        viewBox=f"0 0 {SIDE} {SIDE}",
    )
    legend = [
        LegendEntry(code, name, counts[name], _key(marks[code], name)) for code, name in enumerate(ranked)
    ]
    return EmbeddingMap(labels, svg, legend, rows, [one.backbone for one in embeddings], layouts)


def map_rules(n_backbones: int, n_layouts: int, n_classes: int) -> str:
    """Style rules by which chosen radio buttons show their layer and let their class stand out."""
    rules = [f".map:not(:has(.pb{i}:checked)) .b{i}" for i in range(n_backbones)]
    rules += [f".map:not(:has(.pl{i}:checked)) .l{i}" for i in range(n_layouts)]
    shown = [f".map:has(.pc{i}:checked) .c{i}" for i in range(n_classes)]
    # Hidden layers and the chosen class; the page's style makes the others faint.
    return f"{','.join(rules)}{{display:none}}{','.join(shown)}{{opacity:1}}"


def points_json(ids: Sequence[str], pictures: Mapping[str, int], maps: Sequence[EmbeddingMap]) -> str:
    """Names of points, place of their picture in the sprite (-1 for none), and each map's points.

    It may stand in a script element: no name can end that.
    """
    value = {
        "ids": [one_line(item_id) for item_id in ids],
        "pictures": [pictures.get(item_id, -1) for item_id in ids],
        "maps": [
            {
                "classes": [one_line(entry.name) for entry in one.legend],
                "rows": [list(rows) for rows in one.rows],
            }
            for one in maps
        ],
    }
    packed = json.dumps(value, ensure_ascii=True, separators=(",", ":"))
    return packed.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def in_square(places: NDArray[np.floating]) -> NDArray[np.float64]:
    """Places [n, 2] of a layout within 0..1, as every map shows them; NaN stays.

    One scale for both axes, for distances are what a map is about; what is shorter in one direction lies in the middle.
    Downwards is growing y, as on screens: the layout's own y grows upwards, as on charts.
    """
    points = np.asarray(places, np.float64)
    if not np.isfinite(points).any():
        return points
    low, high = np.nanmin(points, axis=0), np.nanmax(points, axis=0)
    span = float((high - low).max()) or 1.0
    square: NDArray[np.float64] = (points - (low + high) / 2) / span * np.array([1.0, -1.0]) + 0.5
    return square


def _places(own: Names, square: NDArray[np.float64], ids: Sequence[str]) -> NDArray[np.float64]:
    """Places [n, 2] of the wanted items within the drawing; NaN for absent ones."""
    index = {item_id: row for row, item_id in enumerate(own.tolist())}
    points = np.full((len(ids), 2), np.nan)
    known = [(i, index[item_id]) for i, item_id in enumerate(ids) if item_id in index]
    if known:
        here, there = np.array(known).T
        points[here] = square[there]
    drawn: NDArray[np.float64] = _MARGIN + points * (SIDE - 2 * _MARGIN)
    return drawn


def _points(places: NDArray[np.float64], code: int, mark: int, name: str, radius: float) -> str:
    """One class's points. An absent one moves the pen and draws nothing, so that the count stays."""
    shape = _shape(mark, name, radius)
    parts = ["M-99-99" if np.isnan(x) else f"M{round(x)} {round(y)}{shape}" for x, y in places.tolist()]
    title = element("title", escaped(name or "without a label"))
    return element("path", title, d="".join(parts), class_=f"class {_colour(mark, name)} c{code}")


def _key(mark: int, name: str) -> str:
    shape = element("path", d=f"M10 10{_shape(mark, name, 6.5)}", class_=_colour(mark, name))
    return element("svg", shape, class_="key", viewBox="0 0 20 20", width=16, height=16, aria_hidden="true")


def _shape(mark: int, name: str, radius: float) -> str:
    return marker_of(mark)(radius) if name != NO_CLASS else f"h{number(radius)}"


def _colour(mark: int, name: str) -> str:
    return colour_of(mark) if name != NO_CLASS else "none"
