"""Scenes whose label maps can be read off their stored maps: pictures of three classes that lean to one side, with maps
that hold each cell's shares of the classes under noise, also of the mirrored pictures."""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from depot_world import CLIP
from PIL import Image

from deponij.project.segmentation.sources import StoredScenes
from deponij.store.depot import FeatureStore
from deponij.store.items import Items
from deponij.store.keys import key_of_bytes
from deponij.store.label_maps import VOID, SceneClass
from deponij.store.scenes import SceneRow, write_scenes
from deponij.store.view import write_view

CLASSES = (
    SceneClass("sky", (70, 130, 180)),
    SceneClass("road", (128, 64, 128)),
    SceneClass("car", (0, 0, 142)),
)
HEIGHT_PX, WIDTH_PX = 64, 96
STRIDES = (8, 16, 32)
N_CHANNELS = 5
PARTS = ("train",) * 12 + ("val",) * 4 + ("test",) * 4


def label_map_of(number: int) -> np.ndarray:
    """uint8 [h, w]: sky above road, a car on the left, a row of void below."""
    rng = np.random.default_rng(number)
    labels = np.zeros((HEIGHT_PX, WIDTH_PX), np.uint8)
    horizon = int(rng.integers(16, 40))
    labels[horizon:] = 1
    left = int(rng.integers(0, 24))
    labels[horizon - 8 : horizon + 16, left : left + 24] = 2
    labels[-4:] = VOID
    return labels


def picture_of(number: int) -> bytes:
    colours = np.array([*(one.colour for one in CLASSES), *[(0, 0, 0)] * 253], np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(colours[label_map_of(number)] + np.uint8(number)).save(buffer, "PNG")
    return buffer.getvalue()


def maps_of(number: int, *, mirrored: bool) -> dict[str, np.ndarray]:
    """Name -> float16 [C, h, w]: shares of the classes in each cell, and noise."""
    labels = label_map_of(number)[:, ::-1] if mirrored else label_map_of(number)
    found = {}
    for stride in STRIDES:
        rng = np.random.default_rng([number, stride, int(mirrored)])
        cells = (HEIGHT_PX // stride, WIDTH_PX // stride)
        shares = [
            (labels == number).reshape(cells[0], stride, cells[1], stride).mean(axis=(1, 3))
            for number in range(3)
        ]
        values = np.concatenate([np.stack(shares), rng.normal(size=(N_CHANNELS - 3, *cells))])
        found[f"stride{stride}"] = (values + 0.05 * rng.normal(size=values.shape)).astype(np.float16)
    return found


@dataclass(frozen=True)
class Street:
    """Where it all lies."""

    scenes: Path
    maps: Path
    flipped: Path
    depot: Path

    def open(self, *, mirrored: bool = True) -> StoredScenes:
        return StoredScenes.open(self.scenes, self.maps, self.flipped if mirrored else None, str(self.depot))


def make(root: Path) -> Street:
    """Twenty scenes, each its own group, and their maps."""
    street = Street(root / "scenes", root / "maps.h5", root / "maps.flip.h5", root / "depot")
    write_street(street.scenes, range(len(PARTS)))
    write_maps(street.maps, street.depot, street.scenes)
    write_maps(street.flipped, street.depot, street.scenes, kind="pyramid@3+flip")
    return street


def write_street(folder: Path, shown: Sequence[int]) -> Path:
    """Scenes `0.png`, `1.png`, … of the pictures of these numbers."""
    rows = []
    for place, number in enumerate(shown):
        content = picture_of(number)
        core = {"item_id": f"{place}.png", "key": key_of_bytes(content), "given": (*PARTS, "test")[place]}
        core |= {"width_px": WIDTH_PX, "height_px": HEIGHT_PX}
        rows.append(SceneRow(core, content, label_map_of(number)))
    write_scenes(folder, CLASSES, iter(rows))
    return folder


def write_maps(path: Path, depot: Path, scenes: Path, backbone: str = "tiny", **identity: str) -> Path:
    """A view of the maps of scenes, in their order those of the pictures 0, 1, …; their rows go into the depot.

    Args:
        identity: what is otherwise than in that of `pyramid@3`.
    """
    transform = json.dumps({"crop_px": None, "resize_px": [HEIGHT_PX, WIDTH_PX]})
    given = replace(CLIP, **{"kind": "pyramid@3", "stored": "float16", "transform": transform} | identity)
    store, items = FeatureStore(depot, create=True), Items(scenes / "items")
    keys = [key for key in items.keys if key is not None]
    made = [maps_of(number, mirrored=given.kind.endswith("flip")) for number in range(len(keys))]
    new = [keys.index(key) for key in store.missing(given, keys)]
    if new:
        with store.writer(given, {"torch": "2"}) as writer:
            writer.add(
                [keys[row] for row in new],
                {name: np.stack([made[row][name] for row in new]) for name in made[0]},
            )
    write_view(
        path,
        identity=given,
        backbone=backbone,
        ids=list(items.ids),
        keys=keys,
        checksums=store.read(keys, given, ["checksums"])["checksums"],
        arrays={},
    )
    return path
