"""Scenes whose label maps can be read off their stored maps: pictures of three classes that lean to one side, with maps
that hold each cell's shares of the classes under noise, also of the mirrored pictures."""

import io
import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from depot_world import CLIP
from PIL import Image

from deponij.project.segmentation.sources import StoredScenes
from deponij.store.depot import FeatureStore
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
    rows, keys = [], []
    for number, part in enumerate(PARTS):
        content = picture_of(number)
        keys.append(key_of_bytes(content))
        core = {"item_id": f"{number}.png", "key": keys[-1], "given": part}
        core |= {"width_px": WIDTH_PX, "height_px": HEIGHT_PX}
        rows.append(SceneRow(core, content, label_map_of(number)))
    write_scenes(street.scenes, CLASSES, iter(rows))
    transform = json.dumps({"crop_px": None, "resize_px": [HEIGHT_PX, WIDTH_PX]})
    store = FeatureStore(street.depot, create=True)
    for view, kind in ((street.maps, "pyramid@3"), (street.flipped, "pyramid@3+flip")):
        identity = replace(CLIP, kind=kind, stored="float16", transform=transform)
        with store.writer(identity, {"torch": "2"}) as writer:
            made = [maps_of(number, mirrored=kind.endswith("flip")) for number in range(len(PARTS))]
            writer.add(keys, {name: np.stack([one[name] for one in made]) for name in made[0]})
        write_view(
            view,
            identity=identity,
            backbone="tiny",
            ids=[f"{number}.png" for number in range(len(PARTS))],
            keys=keys,
            checksums=store.read(keys, identity, ["checksums"])["checksums"],
            arrays={},
        )
    return street
