"""One scene: a ground, a light, litter on it, and what is annotated. A pure function of (seed, index, photograph).

What lies there is drawn from (seed, index); how it lies, the ground and the light also from the number of the
photograph, so that the same litter can be photographed again elsewhere.

Boxes and polygons describe an object's whole outline within the frame, whether or not something lies over
it; objects of which less than `MIN_VISIBLE` can be seen are not in the scene at all.
"""

import io
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from deponij.sample.painter.canvas import Array, Cutout, Points, Pose, clouds
from deponij.sample.painter.captions import caption
from deponij.sample.painter.categories import CATEGORIES, Category
from deponij.sample.painter.ground import GROUNDS, grain, overgrow

MIN_VISIBLE = 0.3
MIN_SIDE_PX = 10.0
_MAX_PER_SCENE = 20
_SIDES_PX = ((640, 480), (720, 540), (800, 600), (640, 640), (768, 512))


@dataclass(frozen=True, slots=True)
class Instance:
    """One annotated object; coordinates in scene pixels, polygons [k, 2] clipped to the frame.

    `number` is the object's among those of its (seed, index), the same in every photograph.
    """

    number: int
    category: str
    polygons: list[Points]
    caption: str


@dataclass(frozen=True, slots=True)
class Scene:
    """A finished picture (RGB), the quality to store it with, and its objects."""

    image: Image.Image
    jpeg_quality: int
    ground: str
    instances: list[Instance]

    def jpeg(self) -> bytes:
        """The picture as it is stored."""
        buffer = io.BytesIO()
        self.image.save(buffer, "JPEG", quality=self.jpeg_quality)
        return buffer.getvalue()


@dataclass(frozen=True, slots=True)
class _Object:
    category: Category
    look: int  # seed of its shape, print and colours


@dataclass(frozen=True, slots=True)
class _Placed:
    number: int
    category: Category
    cutout: Cutout
    corner: tuple[int, int]  # of the cut-out's picture, may lie outside the frame
    polygons: list[Points]
    pose: Pose


def render(seed: int, index: int, without: Collection[str] = (), photograph: int = 0) -> Scene:
    """Draw scene `index` of the sample `seed`.

    Args:
        seed: of the whole sample.
        index: number of the scene; scenes do not depend on each other.
        without: names of categories that shall not occur.
        photograph: the same objects in other poses, on another ground, in another light.
    """
    objects = _objects(np.random.default_rng([seed, index]), without)
    rng = np.random.default_rng([seed, index, photograph])
    width, height = _SIDES_PX[int(rng.integers(len(_SIDES_PX)))]
    if rng.random() < 0.45:
        width, height = height, width
    ground = list(GROUNDS)[int(rng.integers(len(GROUNDS)))]
    light = _light(rng)
    placed = _visible(_place(rng, objects, width, height, light), width, height)
    image = Image.fromarray(np.clip(GROUNDS[ground](rng, height, width), 0, 255).astype(np.uint8))
    softness = rng.uniform(0.25, 0.6)
    for item in placed:
        _cast_shadow(image, item, light, softness, afloat=ground == "water")
        image.paste(item.cutout.rgb, item.corner, item.cutout.alpha)
    owner = Image.new("L", (width, height))
    for number, item in enumerate(placed, start=1):
        owner.paste(number, item.corner, item.cutout.alpha.point(lambda a: 255 if a > 40 else 0))
    before = np.bincount(np.asarray(owner).ravel(), minlength=len(placed) + 1)
    covered, cover = owner.copy(), image.copy()
    overgrow(rng, ground, cover, covered)
    after = np.bincount(np.asarray(covered).ravel(), minlength=len(placed) + 1)
    # Leaves that would hide an object are left away altogether rather than one by one.
    if np.all(after[1:] >= 0.6 * before[1:]):
        image = cover
    instances = [_describe(rng, item, ground) for item in placed]
    return Scene(_develop(rng, image, light), int(rng.integers(78, 94)), ground, instances)


def _light(rng: np.random.Generator) -> tuple[float, float, float]:
    azimuth, elevation = rng.uniform(0, 2 * np.pi), rng.uniform(0.6, 1.3)
    flat = np.cos(elevation)
    return float(flat * np.cos(azimuth)), float(flat * np.sin(azimuth)), float(np.sin(elevation))


def _objects(rng: np.random.Generator, without: Collection[str]) -> list[_Object]:
    pool = [category for name, category in CATEGORIES.items() if name not in without]
    weights = np.array([category.weight for category in pool])
    n_objects = int(np.clip(rng.gamma(2.0, 3.2), 1, _MAX_PER_SCENE))
    kinds = rng.choice(len(pool), n_objects, p=weights / weights.sum())
    return [_Object(pool[int(kind)], int(rng.integers(2**63))) for kind in kinds]


def _place(
    rng: np.random.Generator,
    objects: list[_Object],
    width: int,
    height: int,
    light: tuple[float, float, float],
) -> list[_Placed]:
    zoom = min(width, height) / 540 * np.exp(rng.uniform(np.log(135), np.log(300)))
    placed: list[_Placed] = []
    for number, thing in enumerate(objects):
        category = thing.category
        length_px = float(
            np.clip(zoom * category.size**0.85 * rng.uniform(0.75, 1.25), 28, 0.7 * min(width, height))
        )
        pose = _pose(rng, category, length_px, light)
        cutout = category.paint(np.random.default_rng(thing.look), pose)
        if placed and rng.random() < 0.22:  # litter gathers where litter lies
            near = placed[int(rng.integers(len(placed)))]
            middle = np.array(near.corner) + np.array(near.cutout.rgb.size) / 2
            centre = middle + rng.normal(0, 0.5, 2) * (length_px + near.pose.length_px) / 2
        else:
            centre = rng.uniform(0.05, 0.95, 2) * (width, height)
        corner = np.round(centre - np.array(cutout.rgb.size) / 2).astype(int)
        middle = corner + np.array(cutout.rgb.size) / 2
        polygons = [clip(points + middle, width, height) for points in cutout.polygons]
        polygons = [points for points in polygons if len(points) >= 3 and area(points) >= 1]
        full = sum(area(points) for points in cutout.polygons)
        if (
            not polygons
            or sum(map(area, polygons)) < MIN_VISIBLE * full
            or _short_side(polygons) < MIN_SIDE_PX
        ):
            continue
        placed.append(_Placed(number, category, cutout, (int(corner[0]), int(corner[1])), polygons, pose))
    return placed


def _pose(
    rng: np.random.Generator, category: Category, length_px: float, light: tuple[float, float, float]
) -> Pose:
    dents: tuple[tuple[float, float, float], ...] = ()
    if rng.random() < category.crush:
        n_dents, depth = int(rng.integers(1, 4)), rng.uniform(0.1, 0.38)
        sides = rng.choice([-1, 1], n_dents)
        dents = tuple((rng.uniform(-0.7, 0.8), float(side * depth), rng.uniform(0.12, 0.4)) for side in sides)
    # Who photographs litter tends to hold the camera so that it stands upright.
    angle = rng.normal(0, 0.35) if rng.random() < 0.8 else rng.uniform(0, 2 * np.pi)
    return Pose(
        length_px=length_px,
        angle=float(angle),
        squash=float(rng.uniform(0.72, 1.0)),
        flip=int(rng.choice([-1, 1])),
        bend=float(rng.uniform(-category.bend, category.bend)),
        dents=dents,
        light=light,
        dirt=float(rng.uniform(0, 1) ** 3),
    )


def _visible(placed: list[_Placed], width: int, height: int) -> list[_Placed]:
    """Without the objects that others cover too much, judged from the top down."""
    taken = np.zeros((height, width), dtype=bool)
    kept = []
    for item in reversed(placed):
        x, y = item.corner
        left, top = max(x, 0), max(y, 0)
        right, bottom = min(x + item.cutout.alpha.width, width), min(y + item.cutout.alpha.height, height)
        own = np.asarray(item.cutout.alpha)[top - y : bottom - y, left - x : right - x] > 40
        region = taken[top:bottom, left:right]
        if (own & ~region).sum() >= MIN_VISIBLE * max(own.sum(), 1) and own.any():
            region |= own
            kept.append(item)
    return kept[::-1]


def _cast_shadow(
    image: Image.Image, item: _Placed, light: tuple[float, float, float], softness: float, afloat: bool
) -> None:
    height_px = min(item.pose.length_px * 0.09, 11) * (0.4 if afloat else 1)
    blur_px = 1 + height_px * softness
    pad = int(3 * blur_px) + 2
    size = (item.cutout.alpha.width + 2 * pad, item.cutout.alpha.height + 2 * pad)
    mask = Image.new("L", size)
    mask.paste(item.cutout.alpha.point(lambda a: int(a * 0.62)), (pad, pad))
    mask = mask.filter(ImageFilter.BoxBlur(blur_px))
    reach = height_px / max(light[2], 0.5)
    x = round(item.corner[0] - pad - light[0] * reach)
    y = round(item.corner[1] - pad - light[1] * reach)
    image.paste((16, 15, 20), (x, y), mask)


def _describe(rng: np.random.Generator, item: _Placed, ground: str) -> Instance:
    traits = dict(item.cutout.traits)
    if item.pose.dents:
        traits["state"] = "crushed"
    elif item.pose.dirt > 0.45:
        traits["state"] = "dirty"
    text = caption(rng, item.category, traits, ground=ground, length_px=item.pose.length_px)
    return Instance(item.number, item.category.name, item.polygons, text)


def _develop(rng: np.random.Generator, image: Image.Image, light: tuple[float, float, float]) -> Image.Image:
    """Light, shade of trees, colour cast, focus and sensor noise."""
    width, height = image.size
    if rng.random() < 0.3:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.4, 1.1)))
    pixels = np.asarray(image, dtype=np.float32)
    exposure, warmth = rng.normal(1.0, 0.13), rng.normal(0, 0.06)
    x = np.linspace(-1, 1, width, dtype=np.float32)[None]
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    field = 1 + np.float32(rng.uniform(0, 0.2)) * (x * np.float32(light[0]) + y * np.float32(light[1]))
    if rng.random() < 0.3:
        shade = np.clip(clouds(rng, height, width, rng.uniform(3, 8), 3) * rng.uniform(0.8, 1.8), -1, 1)
        field = field * (1 - np.float32(rng.uniform(0.1, 0.24)) * (shade + 1))
    gain = np.array([1 + warmth, 1.0, 1 - warmth], np.float32) * np.float32(np.clip(exposure, 0.6, 1.4))
    pixels = pixels * field[..., None] * gain
    noise: Array = grain(rng, height, width)
    pixels += (noise * np.float32(rng.uniform(0.5, 6)))[..., None]
    haze = np.float32(rng.uniform(0, 0.08))
    pixels = pixels * (1 - haze) + haze * 190
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def area(points: Points) -> float:
    """Area of a polygon [k, 2] by the shoelace formula, in square pixels."""
    x, y = points[:, 0], points[:, 1]
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)


def _short_side(polygons: list[Points]) -> float:
    corners = np.concatenate(polygons)
    return float((corners.max(0) - corners.min(0)).min())


def clip(points: Points, width: int, height: int) -> Points:
    """The part of a polygon within the frame (Sutherland and Hodgman, 1974) -> [k, 2], perhaps empty."""
    edges = ((0, 0.0, 1.0), (0, float(width), -1.0), (1, 0.0, 1.0), (1, float(height), -1.0))
    for axis, limit, sign in edges:
        if len(points) == 0:
            break
        inside = sign * (points[:, axis] - limit) >= 0
        if inside.all():
            continue
        kept: list[Points] = []
        for i in range(len(points)):
            a, b = points[i - 1], points[i]
            if inside[i] != inside[i - 1]:
                t = (limit - a[axis]) / (b[axis] - a[axis])
                kept.append(a + t * (b - a))
            if inside[i]:
                kept.append(b)
        points = np.array(kept).reshape(-1, 2)
    return np.clip(points, 0, (width, height))  # a crossing may be off by a rounding error
