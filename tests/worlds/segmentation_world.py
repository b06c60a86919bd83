"""Drawn street scenes with label maps, and result folders of approaches that err more or less: no decoder learns here."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import zoom

from deponij.pipeline.metrics.segmentation import scores
from deponij.pipeline.metrics.segmentation_result import SegmentationResult
from deponij.project.frame.layout import Layout
from deponij.project.segmentation.result_files import PictureCounter, write_segmentation
from deponij.store.keys import key_of_bytes
from deponij.store.label_maps import VOID, Labels, SceneClass
from deponij.store.scenes import SceneRow, Scenes, write_scenes

CLASSES = (
    SceneClass("sky", (70, 130, 180)),
    SceneClass("building", (70, 70, 70)),
    SceneClass("road", (128, 64, 128)),
    SceneClass("tree", (107, 142, 35)),
    SceneClass("car", (0, 0, 142)),
    SceneClass("pedestrian", (220, 20, 60)),
    SceneClass("boat", (0, 60, 100)),
)
HEIGHT, WIDTH = 96, 128
PARTS = {"train": 8, "val": 6, "test": 24}
# Class vectors as the classes' names might have them.
_VECTORS = np.random.default_rng(3).normal(size=(len(CLASSES), 12)) + 0.8


def scene(number: int) -> tuple[bytes, Labels]:
    """A photograph, as a PNG, and its label map; no boats, and pedestrians in a third of the scenes."""
    rng = np.random.default_rng(number)
    drawn = Image.new("L", (WIDTH, HEIGHT), 0)
    draw = ImageDraw.Draw(drawn)
    horizon = int(rng.integers(40, 56))
    for left in range(-10, WIDTH, 30):
        top = int(rng.integers(10, 36))
        draw.rectangle((left, top, left + 24, horizon), fill=1)
    draw.rectangle((0, horizon, WIDTH, HEIGHT), fill=2)
    x = int(rng.integers(0, 90))
    draw.ellipse((x, horizon - 30, x + 34, horizon - 2), fill=3)
    for _ in range(int(rng.integers(1, 3))):
        x, y = int(rng.integers(0, 100)), int(rng.integers(horizon + 4, HEIGHT - 16))
        draw.rounded_rectangle((x, y, x + 26, y + 12), 4, fill=4)
    if number % 3 == 0:
        x = int(rng.integers(0, 116))
        draw.rectangle((x, horizon - 4, x + 6, horizon + 18), fill=5)
    labels = np.array(drawn)
    colours = np.array([one.colour for one in CLASSES], np.float64)
    light = rng.uniform(0.6, 1.3) + 0.25 * zoom(rng.normal(size=(6, 8)), 16, order=1)[..., None]
    pixels = colours[labels] * light + rng.normal(0, 14, (HEIGHT, WIDTH, 3)) + 30
    edge = np.zeros(labels.shape, bool)
    edge[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    edge[1:] |= labels[1:] != labels[:-1]
    labels[edge] = VOID
    buffer = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue(), labels


def answer(truth: Labels, skill: float, seed: int) -> Labels:
    """An answer that is wrong in patches: fewer, the more skill (0 to 1) there is; of some scenes less than of others."""
    rng = np.random.default_rng(seed)
    noise = zoom(rng.normal(size=(HEIGHT // 8, WIDTH // 8)), 8, order=1)
    wrong = noise > np.quantile(noise, min(1.0, max(0.0, skill + rng.normal(0, 0.06))))
    other = zoom(rng.integers(0, len(CLASSES) - 1, (HEIGHT // 16, WIDTH // 16)), 16, order=0)
    filled = np.where(truth == VOID, other, truth)
    return np.where(wrong, other, filled).astype(np.uint8)


def make_scenes(folder: Path, parts: Mapping[str, int] = PARTS) -> Scenes:
    """Scenes of three frames a film."""
    rows, number = [], 0
    for part, n in parts.items():
        for _ in range(n):
            content, labels = scene(number)
            core = {
                "item_id": f"{part}/{number:03}.png",
                "key": key_of_bytes(content),
                "width_px": WIDTH,
                "height_px": HEIGHT,
                "given": part,
            }
            rows.append(SceneRow(core, content, labels, group=f"film{number // 2}"))
            number += 1
    write_scenes(folder, CLASSES, rows)
    return Scenes(folder)


@dataclass(frozen=True)
class Approach:
    """What stands for a decoder: which, and how good it is."""

    method: str
    title: str
    words: str
    skill: float
    n_weights: int
    backbone: str = "mini-convnext"


APPROACHES = (
    Approach("bilinear", "bilinear", "names", 0.35, 0),
    Approach("linear", "linear", "learned", 0.8, 6_492),
    Approach("swiftnet-160", "SwiftNet-like, SPP 160", "names", 0.9, 13_040_000),
)


def make_results(scenes: Scenes, at: Layout, approaches: Sequence[Approach] = APPROACHES) -> list[Path]:
    """Result folders of approaches that answered validation and test."""
    return [make_result(scenes, at, one, seed) for seed, one in enumerate(approaches)]


def make_result(scenes: Scenes, at: Layout, approach: Approach, seed: int = 0) -> Path:
    counter, names = PictureCounter(scenes.classes), [one.name for one in scenes.classes]
    for part in ("val", "test"):
        for place, item_id in enumerate(scenes.ids(part)):
            truth = scenes.label_map(item_id)
            said = answer(truth, approach.skill, 1000 * seed + place)
            counter.add(item_id, part, scenes.group_of(item_id), truth, said)
    counts, parts = counter.counts(), {}
    for part in ("val", "test"):
        one = counts.of(part)
        parts[part] = scores(one.confusions, one.boundaries, names, one.groups, "groups")
    unit = _VECTORS / np.linalg.norm(_VECTORS, axis=1, keepdims=True)
    result = SegmentationResult(
        method=approach.method,
        title=approach.title,
        backbone=approach.backbone,
        fingerprint="f" * 20,
        words=approach.words,
        classes=tuple(names),
        colours=tuple(one.colour for one in scenes.classes),
        protocol="drawn answers, learned from nothing; windows of 64x64 px cut from maps of whole pictures",
        windows="cut" if approach.n_weights else "none",
        learned_from=("train",) if approach.n_weights else (),
        seed=0 if approach.n_weights else None,
        n_weights=approach.n_weights,
        seconds=139.0 if approach.n_weights else None,
        parts=parts,
        class_cosines=tuple(tuple(round(float(x), 6) for x in row) for row in unit @ unit.T),
        notes=(),
    )
    folder = at.segmented(approach.method, approach.backbone, approach.words)
    write_segmentation(folder, result, counts, counter.answers, {})
    return folder
