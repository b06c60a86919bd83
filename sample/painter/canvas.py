"""A supersampled canvas on which one litter object is drawn, shaded and cut out.

Here: geometry (pose, warps), filling, shading, the finished cut-out with its exact outline.
Not here: what a bottle looks like (`containers`, `flat`) and where it lies (`scene`).

Objects are drawn in *unit* coordinates: x to the right, y down, the long axis from -1 to 1.
Letters: H, W canvas rows and columns (supersampled); k points of an outline.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw

Array = NDArray[np.float32]
Points = NDArray[np.float64]
Rgb = tuple[float, float, float]

# Small objects need more samples a pixel for a clean edge; big ones would only be slow.
_FINE_BELOW_PX = 70


@dataclass(frozen=True, slots=True)
class Pose:
    """How an object lies and how it is lit.

    Attributes:
        length_px: length of the long axis (unit -1 to 1) on the scene.
        angle: rotation in radians.
        squash: scale of the short axis, for objects seen aslant.
        flip: -1 mirrors the object, 1 does not.
        bend: curvature of the long axis in units.
        dents: (position on the long axis, depth, width) of each dent, in units.
        light: direction to the light (x, y, z), of length 1.
        dirt: 0 (clean) to 1.
    """

    length_px: float
    angle: float
    squash: float
    flip: int
    bend: float
    dents: tuple[tuple[float, float, float], ...]
    light: tuple[float, float, float]
    dirt: float


@dataclass(frozen=True, slots=True)
class Cutout:
    """A drawn object: `rgb` and `alpha`, pictures of one size, and `polygons` in pixels from their centre."""

    rgb: Image.Image
    alpha: Image.Image
    polygons: list[Points]
    traits: dict[str, str] = field(default_factory=dict)


def rounded(function: np.ufunc, *x: ArrayLike) -> Array:
    """A function such as `np.exp` in double precision, rounded to float32: the same on every processor.

    NumPy's float32 exp, sin, cos, arctan2 and power differ in their last bits between vector units, which
    is enough to change pictures by a grey value here and there.
    """
    values: Array = function(*x, dtype=np.float64).astype(np.float32)
    return values


def smooth(points: Points | list[tuple[float, float]], steps: int = 5) -> Points:
    """Closed Catmull-Rom curve through k points -> [k * steps, 2]."""
    p1 = np.asarray(points, dtype=np.float64)
    p0, p2, p3 = np.roll(p1, 1, 0), np.roll(p1, -1, 0), np.roll(p1, -2, 0)
    t = (np.arange(steps) / steps)[None, :, None]
    a, b, c, d = (p[:, None] for p in (p0, p1, p2, p3))
    curve = 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
    return curve.reshape(-1, 2)


def turns(n: int) -> Points:
    """n angles around the circle, from 0."""
    return np.linspace(0, 2 * np.pi, n, endpoint=False)


def around(turn: Points, across: Points | float, along: Points | float, x: float = 0, y: float = 0) -> Points:
    """Points about (x, y) at these angles, as far off as `across` and `along` say -> [n, 2]."""
    return np.stack([x + across * np.cos(turn), y + along * np.sin(turn)], axis=1)


def ellipse(x: float, y: float, rx: float, ry: float, n: int = 28) -> Points:
    """Outline of an ellipse about (x, y) -> [n, 2]."""
    return around(turns(n), rx, ry, x, y)


def box(x0: float, y0: float, x1: float, y1: float, n: int = 6) -> Points:
    """Outline of a rectangle with n points a side, so that warps can bend it -> [4 n, 2]."""
    t = np.linspace(0, 1, n, endpoint=False)
    x, y = x0 + (x1 - x0) * t, y0 + (y1 - y0) * t
    top, right = np.stack([x, np.full(n, y0)], 1), np.stack([np.full(n, x1), y], 1)
    bottom, left = np.stack([x0 + x1 - x, np.full(n, y1)], 1), np.stack([np.full(n, x0), y0 + y1 - y], 1)
    return np.concatenate([top, right, bottom, left])


def profile(rows: list[tuple[float, float]], steps: int = 4) -> Points:
    """Outline of a body of revolution from (y, half width) rows, straight between the rows."""
    y, half = np.array(rows, dtype=np.float64).T
    t = np.linspace(0, len(rows) - 1, steps * (len(rows) - 1) + 1)
    ys, halves = np.interp(t, np.arange(len(rows)), y), np.interp(t, np.arange(len(rows)), half)
    right, left = np.stack([halves, ys], 1), np.stack([-halves, ys], 1)[::-1]
    return np.concatenate([right, left])


def ribbon(path: Points | list[tuple[float, float]], half_width: float) -> Points:
    """Outline of a line of even width along a path -> [2 k, 2]."""
    path = np.asarray(path, dtype=np.float64)
    along = np.gradient(path, axis=0)
    across = np.stack([-along[:, 1], along[:, 0]], 1)
    across /= np.maximum(np.linalg.norm(across, axis=1, keepdims=True), 1e-9)
    return np.concatenate([path + half_width * across, (path - half_width * across)[::-1]])


def rough(points: Points, amount: float, rng: np.random.Generator) -> Points:
    """Move every point by a normal step of `amount` units."""
    return points + rng.normal(0, amount, points.shape)


def clouds(rng: np.random.Generator, height: int, width: int, cells: float, octaves: int = 1) -> Array:
    """Smooth noise, mean 0, spread about 1, `cells` bumps along the longer side -> [height, width]."""
    total = np.zeros((height, width), dtype=np.float32)
    weight, power = 1.0, 0.0
    for _ in range(octaves):
        unit = max(height, width) / cells
        rows, columns = max(2, round(height / unit)) + 1, max(2, round(width / unit)) + 1
        small = rng.standard_normal((rows, columns), dtype=np.float32)
        total += weight * np.asarray(
            Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC), dtype=np.float32
        )
        power += weight**2
        weight, cells = weight / 2, cells * 2.1
    return total / np.float32(np.sqrt(power))


def raster(pixels: Points, width: int, height: int, left: int = 0, top: int = 0) -> Array:
    """1 inside an outline and 0 elsewhere, of a window that begins at (left, top) -> [height, width]."""
    mask = Image.new("L", (width, height))
    ImageDraw.Draw(mask).polygon([(float(x) - left, float(y) - top) for x, y in pixels], fill=1)
    return np.asarray(mask, dtype=np.float32)


class Canvas:
    """Pixels around an object's silhouette; everything drawn is cut to the silhouette at the end."""

    def __init__(self, outlines: list[Points], pose: Pose, colour: Rgb, rng: np.random.Generator):
        self.pose, self.rng = pose, rng
        self.fine = 3 if pose.length_px < _FINE_BELOW_PX else 2
        scale = pose.length_px / 2 * self.fine
        cos, sin = np.cos(pose.angle), np.sin(pose.angle)
        self._matrix = np.array([[cos, -sin], [sin, cos]]) @ np.diag([pose.flip * pose.squash, 1.0]) * scale
        placed = [self._warp(points) @ self._matrix.T for points in outlines]
        corners = np.concatenate(placed)
        low, high = corners.min(0) - 2 * self.fine, corners.max(0) + 2 * self.fine
        self._origin = np.floor(low / self.fine) * self.fine
        size = (np.ceil((high - self._origin) / self.fine) * self.fine).astype(int)
        self.width, self.height = int(size[0]), int(size[1])
        self.polygons = [(points / self.fine) for points in placed]
        self.inside = np.zeros((self.height, self.width), dtype=np.float32)
        for points in placed:
            np.maximum(self.inside, self._raster(points - self._origin), out=self.inside)
        self.rgb = np.full((self.height, self.width, 3), colour, dtype=np.float32)
        self.opacity = np.ones((self.height, self.width), dtype=np.float32)
        inverse = np.linalg.inv(self._matrix).astype(np.float32)
        x = np.arange(self.width, dtype=np.float32)[None] + np.float32(self._origin[0] + 0.5)
        y = np.arange(self.height, dtype=np.float32)[:, None] + np.float32(self._origin[1] + 0.5)
        self.u = inverse[0, 0] * x + inverse[0, 1] * y  # [H, W] across, in units
        self.v = inverse[1, 0] * x + inverse[1, 1] * y  # [H, W] along, in units
        self.u = self.u - np.float32(pose.bend) * (self.v**2 - np.float32(1 / 3))
        across, along = self._matrix[:, 0], self._matrix[:, 1]
        lx, ly, _ = pose.light
        self.light_across = float(across @ (lx, ly) / max(float(np.hypot(*across)), 1e-9))
        self.light_along = float(along @ (lx, ly) / max(float(np.hypot(*along)), 1e-9))

    def _warp(self, points: Points) -> Points:
        x, y = points[:, 0].copy(), points[:, 1]
        for at, depth, width in self.pose.dents:
            side = np.sign(depth)
            pull = abs(depth) * np.exp(-(((y - at) / width) ** 2))
            wide = np.abs(x).max()
            x -= side * pull * np.clip(0.5 + 0.5 * side * x / (wide + 1e-9), 0, 1) * wide * 2
        return np.stack([x + self.pose.bend * (y**2 - 1 / 3), y], axis=1)

    def _raster(self, pixels: Points) -> Array:
        return raster(pixels, self.width, self.height)

    def mask(self, points: Points) -> Array:
        """Pixels inside an outline given in units -> [H, W] of 0 and 1."""
        return self._raster(self._warp(points) @ self._matrix.T - self._origin)

    def paint(
        self,
        where: Array,
        colour: Rgb,
        strength: float = 1.0,
        opacity: float | None = None,
        part: tuple[slice, slice] = np.s_[:, :],
    ) -> None:
        """Mix `colour` into the pixels of `where` (0 to 1, of the size of `part`); with `opacity`, set their density."""
        weight = (where * np.float32(strength))[..., None]
        self.rgb[part] += weight * (np.array(colour, dtype=np.float32) - self.rgb[part])
        if opacity is not None:
            self.opacity[part] += where * (np.float32(opacity) - self.opacity[part])

    def fill(self, points: Points, colour: Rgb, strength: float = 1.0, opacity: float | None = None) -> None:
        """Paint the inside of an outline given in units."""
        pixels = self._warp(points) @ self._matrix.T - self._origin
        # Only the pixels around the outline: most fills are a small part of the object.
        left, top = (max(int(low), 0) for low in pixels.min(0))
        right, bottom = int(pixels[:, 0].max()) + 2, int(pixels[:, 1].max()) + 2
        width, height = min(right, self.width) - left, min(bottom, self.height) - top
        if width <= 0 or height <= 0:
            return
        where = raster(pixels, width, height, left, top)
        self.paint(where, colour, strength, opacity, np.s_[top : top + height, left : left + width])

    def shade(self, factor: Array) -> None:
        """Multiply the colours by `factor` [H, W]."""
        self.rgb *= factor[..., None]

    def shine(self, amount: Array, colour: Rgb = (255, 255, 250)) -> None:
        """Add highlights: `amount` [H, W] from 0 (none) to 1 (the highlight's colour, and dense)."""
        amount = np.clip(amount, 0, 1)
        self.paint(amount, colour)
        self.opacity = np.maximum(self.opacity, amount)

    def round_body(self, half_width: float, gloss: float) -> None:
        """Light an upright cylinder: Lambert over its curved surface and a streak where light is mirrored."""
        t = np.clip(self.u / np.float32(half_width), -1, 1)
        up = np.sqrt(np.maximum(1 - t**2, 0))
        lit = t * np.float32(self.light_across) + up * np.float32(self.pose.light[2])
        self.shade(np.float32(0.42) + np.float32(0.68) * np.clip(lit, 0, 1))
        if gloss > 0:
            self.shine(np.float32(gloss) * rounded(np.power, np.clip(lit, 0, 1), 24))
            edge = t + np.float32(np.sign(self.light_across or 1.0) * 0.72)
            self.shine(np.float32(gloss * 0.35) * rounded(np.exp, -((edge / np.float32(0.07)) ** 2)))

    def dome(self, x: float, y: float, radius: float, gloss: float) -> None:
        """Light a flat spherical cap."""
        dx, dy = (self.u - np.float32(x)) / np.float32(radius), (self.v - np.float32(y)) / np.float32(radius)
        lit = (dx * np.float32(self.light_across) + dy * np.float32(self.light_along)) * np.float32(0.3)
        self.shade(np.float32(0.95) + lit)
        if gloss > 0:
            hx, hy = dx - np.float32(self.light_across * 0.45), dy - np.float32(self.light_along * 0.45)
            self.shine(np.float32(gloss) * rounded(np.exp, -(hx**2 + hy**2) * 9))

    def folds(self, cells: float, strength: float, gloss: float = 0.0) -> None:
        """Folds of thin film: ridges in one main direction, lit from the side."""
        rng, turn = self.rng, self.rng.uniform(0, np.pi)
        warp = clouds(rng, self.height, self.width, 3, octaves=2)
        run = self.u * np.float32(np.cos(turn)) + self.v * np.float32(np.sin(turn))
        phase = run * np.float32(cells) + warp * np.float32(1.3)
        relief = np.abs(phase - np.round(phase)) * clouds(rng, self.height, self.width, 4)
        slope_y, slope_x = np.gradient(relief)
        lx, ly, _ = self.pose.light
        lit = slope_x * np.float32(lx) + slope_y * np.float32(ly)
        lit = np.clip(lit / np.float32(lit.std(dtype=np.float64) + 1e-6), -2.5, 2.5)
        self.shade(1 + np.float32(strength) * lit)
        if gloss > 0:
            self.shine(np.float32(gloss) * np.clip(lit - 1, 0, 1))

    def crumple(self, facets: int, strength: float, gloss: float = 0.0) -> None:
        """Sharp creases: flat facets (a Voronoi diagram), each with a tilt of its own."""
        sites = self.rng.uniform(0, 1, (facets, 2)).astype(np.float32) * (self.width, self.height)
        tilt = self.rng.normal(0, 1, (facets, 3)).astype(np.float32)
        # A quarter of the resolution is enough for facets and keeps the diagram cheap.
        step = 3
        x = np.arange(0, self.width, step, dtype=np.float32)[None, :, None]
        y = np.arange(0, self.height, step, dtype=np.float32)[:, None, None]
        near = ((x - sites[:, 0]) ** 2 + (y - sites[:, 1]) ** 2).argmin(-1)
        reach = np.float32(np.sqrt(self.width * self.height / facets))
        ramp = tilt[near, 1] * (x[..., 0] - sites[near, 0]) + tilt[near, 2] * (y[..., 0] - sites[near, 1])
        small = (tilt[near, 0] * 0.8 + 0.5 * ramp / reach).astype(np.float32)
        size = (self.width, self.height)
        lit = np.asarray(Image.fromarray(small).resize(size, Image.Resampling.BILINEAR), dtype=np.float32)
        self.shade(np.clip(1 + np.float32(strength) * lit, 0.3, 1.6))
        if gloss > 0:
            self.shine(np.float32(gloss) * np.clip(lit - 0.9, 0, 1))

    def finish(self, traits: dict[str, str], density: float = 1.0) -> Cutout:
        """Add dirt and a dark edge, cut to the silhouette and bring to scene pixels."""
        if self.pose.dirt > 0.05:
            stain = clouds(self.rng, self.height, self.width, 4, octaves=3) - np.float32(
                1.5 - 1.7 * self.pose.dirt
            )
            self.paint(np.clip(stain, 0, 1), (92, 74, 52), strength=0.75)
        rgb = Image.fromarray(np.clip(self.rgb, 0, 255).astype(np.uint8)).reduce(self.fine)
        alpha = np.clip(self.inside * self.opacity * np.float32(density) * 255, 0, 255).astype(np.uint8)
        cut = Image.fromarray(alpha).reduce(self.fine)
        # The picture's top left corner lies at `origin`; polygons are given about the picture's centre.
        centre = self._origin / self.fine + np.array([cut.width, cut.height]) / 2
        return Cutout(rgb, cut, [points - centre for points in self.polygons], traits)
