"""The grounds on which litter lies, from grass to planks.

Every painter takes a generator and a size and gives an RGB picture as float32 [height, width, 3].
"""

from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from deponij.sample.painter.canvas import Array, Rgb, around, clouds, rounded, turns

_AUTUMN: Sequence[Rgb] = (
    *((134, 92, 48), (164, 110, 44), (112, 74, 42), (176, 132, 62), (142, 66, 36), (122, 108, 52)),
    (96, 70, 50),
)

Painter = Callable[[np.random.Generator, int, int], Array]


def grain(rng: np.random.Generator, height: int, width: int) -> Array:
    """Pixel noise of spread 1, a tile repeated with an offset -> [height, width]."""
    tile = rng.standard_normal((251, 241), dtype=np.float32)
    rows, columns = -(-height // 251), -(-width // 241)
    return np.tile(tile, (rows, columns))[:height, :width]


def leaf(rng: np.random.Generator, x: float, y: float, length_px: float) -> list[tuple[float, float]]:
    """Outline of a leaf about (x, y)."""
    angle, plump = rng.uniform(0, 2 * np.pi), rng.uniform(0.4, 0.75)
    t = np.linspace(0, 1, 6)
    half = plump * np.sin(np.pi * t) ** 0.8 * length_px / 2
    along = (t - 0.5) * length_px
    points = np.concatenate(
        [np.stack([along, half], 1), np.stack([along, -half * rng.uniform(0.6, 1)], 1)[::-1]]
    )
    cos, sin = np.cos(angle), np.sin(angle)
    turned = points @ np.array([[cos, sin], [-sin, cos]]) + (x, y)
    return [(float(a), float(b)) for a, b in turned]


def leaf_colour(rng: np.random.Generator) -> tuple[int, int, int]:
    """An autumn colour."""
    colour, light = _AUTUMN[int(rng.integers(len(_AUTUMN)))], rng.normal(0, 16)
    r, g, b = (int(np.clip(c + light + rng.normal(0, 16 / 3), 0, 255)) for c in colour)
    return r, g, b


def _mix(noise: Array, low: Rgb, high: Rgb) -> Array:
    weight = np.clip(noise * np.float32(0.3) + np.float32(0.5), 0, 1)[..., None]
    a, b = np.array(low, np.float32), np.array(high, np.float32)
    mixed: Array = (a + weight * (b - a)).astype(np.float32)
    return mixed


def _picture(pixels: Array) -> Image.Image:
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _turned(rng: np.random.Generator, height: int, width: int, spread: float) -> tuple[Array, Array]:
    angle = np.float32(rng.uniform(-spread, spread))
    x, y = np.arange(width, dtype=np.float32)[None], np.arange(height, dtype=np.float32)[:, None]
    cos, sin = rounded(np.cos, angle), rounded(np.sin, angle)
    return x * cos + y * sin, y * cos - x * sin


def grass(rng: np.random.Generator, height: int, width: int) -> Array:
    """Blades over dark green, sometimes dry."""
    dry = rng.uniform(0, 1) ** 2
    low, high = (38 + 50 * dry, 66 + 10 * dry, 22), (88 + 70 * dry, 128 + 10 * dry, 48 + 20 * dry)
    image = _picture(_mix(clouds(rng, height, width, 5, 3), low, high))
    draw = ImageDraw.Draw(image)
    n_blades = height * width // 130
    x, y = rng.uniform(0, width, n_blades), rng.uniform(0, height, n_blades)
    lean, size = rng.normal(rng.uniform(-5, 5), 6, n_blades), rng.uniform(8, 24, n_blades)
    tone = np.sort(rng.uniform(0.35, 1.25, n_blades)) + rng.normal(0, 0.15, n_blades)
    red = np.clip(tone * (84 + 70 * dry) + rng.normal(0, 9, n_blades), 0, 255).astype(int)
    green = np.clip(tone * (132 + 12 * dry), 0, 255).astype(int)
    blue = np.clip(tone * (46 + 26 * dry), 0, 255).astype(int)
    for i in range(n_blades):
        line = (x[i], y[i], x[i] + lean[i], y[i] - size[i])
        draw.line(line, fill=(int(red[i]), int(green[i]), int(blue[i])), width=1 + i % 2)
    return np.asarray(image.filter(ImageFilter.BoxBlur(0.5)), dtype=np.float32)


def sand(rng: np.random.Generator, height: int, width: int) -> Array:
    """Grainy beige with ripples or footmarks, a few pebbles."""
    tone = rng.uniform(0.82, 1.08)
    relief = clouds(rng, height, width, 9, 3)
    if rng.random() < 0.5:
        across, _ = _turned(rng, height, width, np.pi)
        warp = clouds(rng, height, width, 4) * 14
        relief = relief * 0.5 + rounded(np.sin, (across + warp) * np.float32(2 * np.pi / rng.uniform(18, 42)))
    pixels = _mix(relief, (176 * tone, 150 * tone, 112 * tone), (222 * tone, 200 * tone, 160 * tone))
    pixels += (grain(rng, height, width) * 11)[..., None]
    return _scatter(
        rng, pixels, int(rng.integers(0, 40)), (2, 7), [(120, 108, 96), (205, 196, 186), (90, 80, 72)]
    )


def asphalt(rng: np.random.Generator, height: int, width: int) -> Array:
    """Dark speckled grey, cracks, now and then a painted line."""
    tone = rng.uniform(62, 118)
    pixels = np.full((height, width, 3), (tone, tone, tone + 4), dtype=np.float32)
    speckle = grain(rng, height, width)
    pixels += (clouds(rng, height, width, 5, 2) * 8 + speckle * 13 + 40 * (speckle > 2.1))[..., None]
    image = _picture(pixels)
    if rng.random() < 0.3:
        across, _ = _turned(rng, height, width, np.pi)
        at, half = rng.uniform(across.min(), across.max()), rng.uniform(12, 30)
        wear = clouds(rng, height, width, 30, 2)
        painted = (np.abs(across - at) < half) & (wear > -0.9)
        pixels = np.asarray(image, dtype=np.float32).copy()
        pixels[painted] = pixels[painted] * 0.25 + np.array([168, 168, 160], np.float32)
        image = _picture(pixels)
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(0, 4))):
        steps = np.cumsum(rng.normal(rng.normal(0, 8, 2), 9, (30, 2)), axis=0) + rng.uniform(
            0, (width, height)
        )
        draw.line([(float(a), float(b)) for a, b in steps], fill=(34, 33, 34), width=int(rng.integers(1, 4)))
    return np.asarray(image.filter(ImageFilter.BoxBlur(0.4)), dtype=np.float32)


def paving(rng: np.random.Generator, height: int, width: int) -> Array:
    """Slabs or bricks with joints."""
    across, along = _turned(rng, height, width, 0.8)
    tall = np.float32(rng.uniform(48, 120))
    wide = tall * np.float32(rng.choice([1.0, 2.0]))
    row = np.floor(along / tall)
    shifted = across + (row % 2) * wide / 2
    column = np.floor(shifted / wide)
    gap_along = np.abs(along - (row + 0.5) * tall) - tall / 2
    gap_across = np.abs(shifted - (column + 0.5) * wide) - wide / 2
    gap = np.maximum(gap_along, gap_across)  # 0 at a joint, negative inside a slab
    tones = rng.normal(0, 10, (32, 32)).astype(np.float32)
    slab = tones[row.astype(int) % 32, column.astype(int) % 32]
    base = [(158, 152, 144), (150, 96, 78), (132, 132, 136), (176, 164, 142)][int(rng.integers(4))]
    pixels = np.full((height, width, 3), base, dtype=np.float32)
    texture = slab + clouds(rng, height, width, 8, 3) * 7 + grain(rng, height, width) * 7
    pixels += texture[..., None]
    joint = np.clip(1 + (gap + 2.5) / 2, 0, 1)[..., None]
    dark = np.array(base, np.float32) * np.float32(rng.uniform(0.4, 0.65))
    pixels += joint * (dark - pixels)
    return pixels


def leaves(rng: np.random.Generator, height: int, width: int) -> Array:
    """A forest floor covered with fallen leaves."""
    image = _picture(_mix(clouds(rng, height, width, 8, 3), (44, 34, 24), (86, 66, 44)))
    draw = ImageDraw.Draw(image)
    size = rng.uniform(26, 46)
    n_leaves = int(height * width / size**2 * 2.6)
    for i in range(n_leaves):
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        points = leaf(rng, x, y, size * rng.uniform(0.6, 1.5))
        r, g, b = leaf_colour(rng)
        depth = 0.55 + 0.45 * i / n_leaves
        draw.polygon([(a + 2, c + 3) for a, c in points], fill=(30, 24, 18))
        draw.polygon(points, fill=(int(r * depth), int(g * depth), int(b * depth)))
        draw.line(
            [points[0], points[5]], fill=(int(r * depth * 0.7), int(g * depth * 0.7), int(b * depth * 0.6))
        )
    pixels = np.asarray(image.filter(ImageFilter.BoxBlur(0.7)), dtype=np.float32)
    return pixels + (grain(rng, height, width) * 6)[..., None]


def water(rng: np.random.Generator, height: int, width: int) -> Array:
    """Rippled water, from murky to blue."""
    murky = rng.uniform(0, 1)
    low, high = (
        (18 + 42 * murky, 52 + 18 * murky, 74 - 34 * murky),
        (62 + 60 * murky, 112 + 8 * murky, 138 - 50 * murky),
    )
    across, along = _turned(rng, height, width, 0.5)
    warp = clouds(rng, height, width, 6, 3) * 26
    waves = rounded(np.sin, (along + warp) * np.float32(2 * np.pi / rng.uniform(16, 34)))
    waves += 0.6 * rounded(
        np.sin, (along * 0.8 + across * 0.5 + warp * 1.4) * np.float32(2 * np.pi / rng.uniform(9, 16))
    )
    pixels = _mix(waves * 0.8 + clouds(rng, height, width, 3), low, high)
    glint = np.clip(waves + clouds(rng, height, width, 20) * 0.6 - 1.5, 0, 1)[..., None]
    pixels += glint * 95
    return pixels


def gravel(rng: np.random.Generator, height: int, width: int) -> Array:
    """Stones on stones."""
    size = rng.uniform(12, 24)
    pixels = _mix(clouds(rng, height, width, 9, 2), (58, 54, 50), (84, 80, 74))
    n_stones = int(height * width / size**2 * 1.6)
    greys = [(150, 146, 140), (122, 118, 114), (168, 160, 148), (104, 98, 94), (140, 126, 112)]
    return _scatter(rng, pixels, n_stones, (size * 0.35, size * 0.8), greys)


def _scatter(
    rng: np.random.Generator, pixels: Array, n: int, radius_px: tuple[float, float], colours: Sequence[Rgb]
) -> Array:
    """Lay n stones, each with a shaded and a lit side, on the pixels."""
    image = _picture(pixels)
    draw = ImageDraw.Draw(image)
    circle = around(turns(8), 1, 1)
    height, width = pixels.shape[:2]
    where, radii = rng.uniform(0, (width, height), (n, 2)), rng.uniform(*radius_px, n)
    shapes = (
        circle * rng.uniform(0.75, 1.15, (n, 8, 1)) * np.stack([radii, radii * 0.8], 1)[:, None]
        + where[:, None]
    )
    tones, picks = rng.normal(0, 12, n), rng.integers(0, len(colours), n)
    for i in range(n):
        r, g, b = (int(np.clip(c + tones[i], 0, 225)) for c in colours[picks[i]])
        outline, lift = shapes[i].ravel(), radii[i] * 0.22
        draw.polygon((outline + lift).tolist(), fill=(r // 3, g // 3, b // 3))
        draw.polygon(outline.tolist(), fill=(r, g, b))
        bright = (shapes[i] - where[i]) * 0.55 + where[i] - lift * 0.8
        draw.polygon(bright.ravel().tolist(), fill=(min(r + 18, 255), min(g + 18, 255), min(b + 16, 255)))
    smoothed = np.asarray(image.filter(ImageFilter.BoxBlur(0.7)), dtype=np.float32)
    return smoothed + (grain(rng, height, width) * 5)[..., None]


def concrete(rng: np.random.Generator, height: int, width: int) -> Array:
    """Pale, stained, finely pored."""
    tone = rng.uniform(0.75, 1.05)
    pixels = _mix(
        clouds(rng, height, width, 4, 4),
        (138 * tone, 136 * tone, 130 * tone),
        (196 * tone, 193 * tone, 186 * tone),
    )
    speckle = grain(rng, height, width)
    pixels += (speckle * 5 - 55 * (speckle > 2.7))[..., None]
    if rng.random() < 0.6:  # a joint between two casts
        across, _ = _turned(rng, height, width, np.pi)
        at = np.float32(rng.uniform(across.min() * 0.6, across.max() * 0.6))
        joint = rounded(np.exp, -(((across - at) / np.float32(rng.uniform(1.2, 3))) ** 2))
        pixels *= (1 - 0.6 * joint)[..., None]
    return pixels


def planks(rng: np.random.Generator, height: int, width: int) -> Array:
    """Weathered boards."""
    across, along = _turned(rng, height, width, 1.5)
    wide = np.float32(rng.uniform(60, 120))
    board = np.floor(across / wide)
    tones = rng.normal(0, 11, 64).astype(np.float32)
    base = [(150, 122, 92), (136, 126, 114), (118, 86, 60)][int(rng.integers(3))]
    pixels = np.full((height, width, 3), base, dtype=np.float32)
    warp = clouds(rng, height, width, 5, 2)
    sway = rounded(np.sin, along / 90) * 4
    lines = rounded(np.sin, (across * 0.55 + warp * 7 + sway) + board * 2.4) * 7
    pixels += (
        tones[board.astype(int) % 64]
        + lines
        + clouds(rng, height, width, 12, 2) * 5
        + grain(rng, height, width) * 5
    )[..., None]
    gap = np.abs(across - (board + 0.5) * wide) - wide / 2
    pixels *= (1 - 0.75 * np.clip(1 + (gap + 2) / 1.5, 0, 1))[..., None]
    return pixels


def soil(rng: np.random.Generator, height: int, width: int) -> Array:
    """Bare earth with crumbs and a few leaves."""
    pixels = _mix(clouds(rng, height, width, 10, 4), (66, 48, 34), (126, 98, 72))
    pixels += (grain(rng, height, width) * 9)[..., None]
    colours: list[Rgb] = [(104, 84, 64), (82, 62, 46), (138, 116, 92)]
    return _scatter(rng, pixels, int(rng.integers(60, 260)), (2, 7), colours)


_PAINTERS = (grass, sand, asphalt, paving, leaves, water, gravel, concrete, planks, soil)
GROUNDS: dict[str, Painter] = {painter.__name__: painter for painter in _PAINTERS}


def overgrow(rng: np.random.Generator, ground: str, scene: Image.Image, owner: Image.Image) -> None:
    """Let a few leaves or blades lie over the litter; `owner` (mode L) gets 0 where they do."""
    draw, erase = ImageDraw.Draw(scene), ImageDraw.Draw(owner)
    width, height = scene.size
    if ground == "grass":
        dry = rng.uniform(0.8, 1.4)
        for _ in range(int(rng.integers(0, 420))):
            x, y = rng.uniform(0, width), rng.uniform(0, height)
            lean, size = rng.normal(0, 8), rng.uniform(14, 38)
            tone = rng.uniform(0.5, 1.2)
            colour = (int(80 * tone * dry), int(126 * tone), int(44 * tone))
            for pen, ink in ((draw, colour), (erase, 0)):
                pen.line((x, y, x + lean, y - size), fill=ink, width=2)
    elif ground in {"leaves", "soil", "paving", "gravel", "asphalt"}:
        n_leaves = int(rng.integers(0, 26 if ground == "leaves" else 6))
        for _ in range(n_leaves):
            outline = leaf(rng, rng.uniform(0, width), rng.uniform(0, height), rng.uniform(18, 46))
            draw.polygon([(a + 2, b + 3) for a, b in outline], fill=(34, 28, 22))
            draw.polygon(outline, fill=leaf_colour(rng))
            erase.polygon(outline, fill=0)
