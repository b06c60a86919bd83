"""Made-up maps for tests of reading: an item's maps follow from its number, so that any reader can be checked."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from depot_world import CLIP, keys_of

from deponij.store.depot import FeatureStore
from deponij.store.identity import Identity
from deponij.store.view import View, write_view

# 360 / 32 is no whole number: 45 rows at stride 8 are more than four for each of 11 at stride 32.
SHAPES = {"stride4": (3, 90, 120), "stride8": (80, 45, 60), "stride16": (5, 22, 30), "stride32": (7, 11, 15)}
INPUT_PX = (360, 480)
Shapes = Mapping[str, tuple[int, int, int]]


def identity(kind: str = "pyramid@4", input_px: tuple[int, int] = INPUT_PX) -> Identity:
    transform = json.dumps({"crop_px": None, "resize_px": list(input_px)})
    return replace(CLIP, kind=kind, stored="float16", transform=transform)


PYRAMID = identity()


def maps_of(numbers: Sequence[int] | range, shapes: Shapes = SHAPES) -> dict[str, np.ndarray]:
    """Name -> [n, C, h, w] float16."""
    return {
        name: np.stack(
            [
                np.random.default_rng([number, *shape]).standard_normal(shape, np.float32).astype(np.float16)
                for number in numbers
            ]
        )
        for name, shape in shapes.items()
    }


def ids_of(numbers: Sequence[int] | range) -> list[str]:
    return [f"item{number}" for number in numbers]


def write_maps(
    folder: Path,
    numbers: range,
    *,
    shard_rows: int = 4,
    kind: str = PYRAMID.kind,
    shapes: Shapes = SHAPES,
    input_px: tuple[int, int] = INPUT_PX,
) -> View:
    """A depot with these items' maps at `folder / "depot"`, and their view `maps.h5`, opened with it."""
    store = FeatureStore(folder / "depot", create=True)
    keys, made = keys_of(numbers), identity(kind, input_px)
    with store.writer(made, {"torch": "2"}, shard_rows=shard_rows) as writer:
        for start in range(0, len(numbers), 2):
            writer.add(keys[start : start + 2], maps_of(numbers[start : start + 2], shapes))
    checksums = store.read(keys, made, ["checksums"])["checksums"]
    path = folder / "maps.h5"
    write_view(
        path,
        identity=made,
        backbone="tiny",
        ids=ids_of(numbers),
        keys=keys,
        checksums=checksums,
        arrays={},
    )
    return View(path, depot=FeatureStore(folder / "depot"))
