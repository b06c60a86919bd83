"""The kinds of litter in the sample: names, sizes, how often they occur and what people call them."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from deponij.sample.painter import containers, flat
from deponij.sample.painter.canvas import Cutout, Pose


@dataclass(frozen=True, slots=True)
class Category:
    """One kind of litter.

    Attributes:
        name: the class name, as annotations and zero-shot prompts use it: a surveyor's label.
        plain: the everyday name.
        supercategory: what it is made of or belongs to.
        paint: draws one.
        size: length of the long axis; 1 is a drinks bottle.
        weight: how often it occurs, relative to the others.
        crush: probability of dents.
        bend: largest curvature of the long axis.
        calls: other things that people call it.
        vague: words that fit it and other kinds too.
    """

    name: str
    plain: str
    supercategory: str
    paint: Callable[[np.random.Generator, Pose], Cutout]
    size: float
    weight: float
    crush: float
    bend: float
    calls: tuple[str, ...]
    vague: tuple[str, ...]


_ROWS = (
    Category("PET flask", "plastic bottle", "bottle", containers.plastic_bottle, 1.0, 10, 0.5, 0.08,
             ("water bottle", "soda bottle", "empty PET bottle"),
             ("bottle", "container", "piece of plastic")),
    Category("glass flask", "glass bottle", "bottle", containers.glass_bottle, 1.05, 5, 0.0, 0.0,
             ("beer bottle", "wine bottle", "bottle of glass"),
             ("bottle", "container", "empty drink")),
    Category("beverage can", "drink can", "can", containers.drink_can, 0.66, 10, 0.55, 0.06,
             ("soda can", "beer can", "tin", "aluminium can"),
             ("container", "empty drink", "piece of metal")),
    Category("disposable cup", "paper cup", "cup", containers.paper_cup, 0.62, 7, 0.35, 0.04,
             ("coffee cup", "takeaway cup", "beaker"),
             ("container", "empty drink", "disposable")),
    Category("plastic lid", "cup lid", "closure", containers.cup_lid, 0.46, 5, 0.15, 0.0,
             ("coffee lid", "round lid", "cover of a drink"),
             ("piece of plastic", "round thing", "disposable")),
    Category("tobacco product", "cigarette", "tobacco", flat.cigarette, 0.34, 15, 0.3, 0.16,
             ("cigarette butt", "fag end", "smoked stub"),
             ("small thing", "rubbish", "bit of litter")),
    Category("polythene bag", "plastic bag", "bag", flat.plastic_bag, 1.1, 9, 0.2, 0.1,
             ("carrier bag", "shopping bag", "torn sack"),
             ("piece of plastic", "rubbish", "packaging")),
    Category("drinking straw", "straw", "straw", flat.straw, 0.85, 6, 0.0, 0.22,
             ("drinking straw", "thin tube", "bent sipper"),
             ("piece of plastic", "thin thing", "disposable")),
    Category("bottle closure", "bottle cap", "closure", containers.bottle_cap, 0.24, 10, 0.1, 0.0,
             ("crown cap", "screw cap", "bottle top"),
             ("small thing", "round thing", "bit of litter")),
    Category("food packaging", "crisp packet", "wrapper", flat.crisp_packet, 0.8, 8, 0.35, 0.08,
             ("bag of crisps", "snack wrapper", "chips bag"),
             ("packaging", "piece of plastic", "rubbish")),
    Category("glass fragments", "broken glass", "glass", flat.broken_glass, 0.46, 6, 0.0, 0.0,
             ("glass shards", "splinters", "smashed glass"),
             ("sharp thing", "rubbish", "bit of litter")),
    Category("waste paper", "paper", "paper", flat.paper, 0.72, 8, 0.15, 0.1,
             ("torn sheet", "crumpled note", "old receipt"),
             ("rubbish", "bit of litter", "flat thing")),
    Category("beverage carton", "drink carton", "carton", containers.drink_carton, 0.7, 5, 0.25, 0.04,
             ("juice box", "milk carton", "tetra pack"),
             ("container", "packaging", "empty drink")),
    Category("metal foil", "aluminium foil", "foil", flat.aluminium_foil, 0.5, 5, 0.1, 0.0,
             ("tin foil", "silver wrap", "kitchen foil"),
             ("piece of metal", "shiny thing", "packaging")),
    Category("glove", "glove", "glove", flat.glove, 0.8, 4, 0.0, 0.12,
             ("rubber glove", "lost glove", "work glove"),
             ("disposable", "rubbish", "thing")),
    Category("disposable cutlery", "plastic fork", "cutlery", flat.plastic_fork, 0.68, 4, 0.0, 0.1,
             ("disposable fork", "picnic cutlery", "takeaway fork"),
             ("piece of plastic", "disposable", "thin thing")),
)  # fmt: skip

CATEGORIES: dict[str, Category] = {row.name: row for row in _ROWS}
NAMES: tuple[str, ...] = tuple(CATEGORIES)
