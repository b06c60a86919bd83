"""Litter with a body: bottles, can, cup, lid, cap, carton. Each painter takes a generator and a pose."""

import numpy as np

from deponij.sample.painter.canvas import (
    Canvas,
    Cutout,
    Points,
    Pose,
    Rgb,
    around,
    box,
    ellipse,
    profile,
    rough,
    rounded,
    turns,
)
from deponij.sample.painter.palette import dim, inks, pick, shade

PRINT = "red,orange,yellow,green,blue,light blue,white,black,purple,pink"


def _band(y0: float, y1: float, half: float, squeeze: float = 0.0) -> Points:
    """A label around an upright body, its edges curved as if seen slightly from above."""
    x = np.linspace(-half, half, 9)
    sag = squeeze * np.sqrt(np.maximum(1 - (x / half) ** 2, 0))
    return np.concatenate([np.stack([x, y0 + sag], 1), np.stack([x, y1 + sag], 1)[::-1]])


def _print(canvas: Canvas, span: tuple[float, float], half: float, ink: Rgb, second: Rgb) -> None:
    """A label's graphics: a disc, a swoosh, stripes or bars in the place of text."""
    y0, y1 = span
    rng, middle, tall = canvas.rng, (y0 + y1) / 2, (y1 - y0) / 2
    kind = int(rng.integers(4))
    if kind == 0:
        canvas.fill(ellipse(0, middle, half * 0.6, min(tall * 0.7, half * 0.7)), second)
    elif kind == 1:
        lift = np.array((0, 0.3 * tall))
        wave = np.array([(-half, middle + 0.5 * tall), (0, middle), (half, middle - 0.5 * tall)])
        canvas.fill(np.concatenate([wave + lift, (wave - lift)[::-1]]), second)
    elif kind == 2:
        for x in np.linspace(-0.7, 0.7, int(rng.integers(2, 5))) * half:
            canvas.fill(box(x - half * 0.11, y0, x + half * 0.11, y1), second)
    else:
        canvas.fill(_band(middle - 0.45 * tall, middle + 0.1 * tall, half), second)
    for row in range(int(rng.integers(1, 4))):
        y = middle + tall * (0.25 + 0.22 * row)
        canvas.fill(box(-half * rng.uniform(0.3, 0.7), y, half * rng.uniform(0.3, 0.7), y + tall * 0.08), ink)


def plastic_bottle(rng: np.random.Generator, pose: Pose) -> Cutout:
    """A drinks bottle: clear or tinted, ribbed, often with a label and a screw cap."""
    half = rng.uniform(0.27, 0.36)
    neck, shoulder = half * rng.uniform(0.32, 0.42), rng.uniform(-0.5, -0.3)
    has_cap, waist = rng.random() < 0.7, rng.uniform(0.86, 1.0)
    top = -1.0 if has_cap else -0.93
    bottle_neck = [(top, neck), (-0.84, neck), (-0.74, neck * 1.1), (shoulder, half)]
    body = profile(
        [*bottle_neck, (0.05, half * waist), (0.3, half), (0.95, half), (1.0, half * 0.85)],
    )
    name, tint = pick(rng, "light blue,light blue,white,white,grey,green,blue,brown")
    canvas = Canvas([body], pose, tint, rng)
    clear = rng.uniform(0.34, 0.62)
    canvas.opacity[:] = clear
    canvas.shade(1 - 0.25 * (np.abs(canvas.u) > half * 0.86).astype(np.float32))
    canvas.opacity += np.float32(0.3) * (np.abs(canvas.u) > half * 0.84)
    if rng.random() < 0.3:  # a rest of the drink
        drink = shade(rng, (120, 66, 28), 30)
        canvas.fill(box(-half, rng.uniform(0.2, 0.7), half, 1.0), drink, 0.8, 0.85)
    if rng.random() < 0.72:
        ink, second = inks(rng, PRINT, 2)
        y0 = rng.uniform(-0.3, -0.05)
        y1 = y0 + rng.uniform(0.35, 0.6)
        canvas.fill(_band(y0, y1, half * 1.02), ink, 1.0, 0.97)
        _print(canvas, (y0, y1), half, (240, 240, 240), second)
    for y in np.arange(0.45, 0.95, 0.1):
        canvas.fill(_band(y, y + 0.025, half, 0.03), dim(tint, 0.72), 0.5)
    canvas.round_body(half, 0.85)
    if pose.dents:
        canvas.crumple(14, 0.22, 0.6)
    if has_cap:
        _, cap = pick(rng, "blue,white,red,green,light blue,orange,black")
        canvas.fill(box(-neck * 1.05, -1.0, neck * 1.05, -0.86), cap, 1.0, 1.0)
        for x in np.linspace(-0.9, 0.9, 6) * neck:
            canvas.fill(box(x - 0.008, -1.0, x + 0.008, -0.86), dim(cap, 0.7))
    name = {"light blue": "clear", "white": "clear", "grey": "clear"}.get(name, name)
    return canvas.finish({"colour": name, "material": "plastic"})


def glass_bottle(rng: np.random.Generator, pose: Pose) -> Cutout:
    """A beer or wine bottle: dark, thick, glossy, with a paper label."""
    half = rng.uniform(0.21, 0.3)
    neck = half * rng.uniform(0.3, 0.38)
    shoulder = rng.uniform(-0.3, 0.0)
    mouth = [(-1.0, neck * 1.15), (-0.94, neck * 1.2), (-0.92, neck)]
    body = profile(
        [*mouth, (shoulder - 0.22, neck * 1.15), (shoulder, half), (0.97, half), (1.0, half * 0.92)]
    )
    name, _ = pick(rng, "green,brown,brown,green,white")
    tint = {"green": shade(rng, (36, 84, 44), 12), "brown": shade(rng, (88, 50, 22), 12)}.get(
        name, (196, 210, 206)
    )
    canvas = Canvas([body], pose, tint, rng)
    canvas.opacity[:] = 0.5 if name == "white" else 0.9
    edge = np.clip((np.abs(canvas.u) / np.float32(half) - 0.6) / 0.4, 0, 1)
    canvas.shade(1 - np.float32(0.45) * edge)
    canvas.opacity = np.maximum(canvas.opacity, edge * np.float32(0.85))
    if rng.random() < 0.65:
        _, ink = pick(rng, "white,beige,yellow,red,black,green")
        _, second = pick(rng, PRINT)
        y0 = shoulder + rng.uniform(0.1, 0.25)
        y1 = y0 + rng.uniform(0.3, 0.5)
        label = _band(y0, y1, half * rng.uniform(0.8, 1.0))
        canvas.fill(rough(label, 0.012, rng) if rng.random() < 0.4 else label, ink, 1.0, 0.98)
        _print(canvas, (y0, y1), half * 0.8, dim(ink, 0.4), second)
    if rng.random() < 0.4:
        canvas.fill(
            _band(-0.9, shoulder - 0.2, neck * 1.1), pick(rng, "beige,white,red,silver")[1], 0.9, 0.95
        )
    canvas.round_body(half, 1.0)
    return canvas.finish({"colour": "clear" if name == "white" else name, "material": "glass"})


def drink_can(rng: np.random.Generator, pose: Pose) -> Cutout:
    """A printed aluminium can, lid and tab at one end; often crushed."""
    half = rng.uniform(0.46, 0.58)
    slim = half * 0.84
    body = profile(
        [(-1.0, slim), (-0.9, slim * 1.03), (-0.8, half), (0.84, half), (0.95, slim), (1.0, slim * 0.94)]
    )
    name, paint = pick(rng, "red,blue,green,silver,black,orange,white,yellow,purple,light blue")
    canvas = Canvas([body], pose, paint, rng)
    ink, second = inks(rng, PRINT, 2)
    _print(canvas, (-0.6, 0.6), half, ink, second)
    if rng.random() < 0.4:
        canvas.fill(_band(0.5, 0.8, half), second)
    canvas.round_body(half, 0.7)
    metal = shade(rng, (196, 198, 202), 8)
    canvas.fill(_band(-1.0, -0.84, slim * 1.1), metal)
    canvas.fill(_band(0.86, 1.0, slim * 1.1), dim(metal, 0.82))
    if rng.random() < 0.75:  # the lid is turned to the camera
        canvas.fill(ellipse(0, -0.87, slim * 0.96, 0.12), dim(metal, 0.9))
        canvas.fill(ellipse(0, -0.87, slim * 0.8, 0.085), dim(metal, 0.72))
        canvas.fill(ellipse(0.0, -0.83, slim * 0.32, 0.04), (34, 32, 32))
        canvas.fill(ellipse(-0.02, -0.89, slim * 0.22, 0.035), dim(metal, 1.15))
    if pose.dents:
        canvas.crumple(16, 0.34, 0.7)
    return canvas.finish({"colour": name, "material": "metal"})


def paper_cup(rng: np.random.Generator, pose: Pose) -> Cutout:
    """A tapered cup, its mouth open to the camera, printed or plain."""
    wide = rng.uniform(0.6, 0.74)
    narrow = wide * rng.uniform(0.62, 0.78)
    mouth = rng.uniform(0.08, 0.24)
    rim = around(np.linspace(np.pi, 2 * np.pi, 14), wide, mouth, y=-1 + mouth)
    foot = around(np.linspace(0, np.pi, 10), narrow, 0.07, y=0.93)
    name, paint = pick(rng, "white,white,white,brown,beige,red,green,black,blue")
    canvas = Canvas([np.concatenate([rim, foot])], pose, paint, rng)
    _, ink = pick(rng, PRINT + ",brown")
    if rng.random() < 0.55:
        y0 = rng.uniform(-0.4, 0.1)
        canvas.fill(_band(y0, y0 + rng.uniform(0.3, 0.8), wide, 0.06), ink)
    if rng.random() < 0.5:
        canvas.fill(ellipse(0, rng.uniform(0.0, 0.4), wide * 0.35, wide * 0.35), pick(rng, PRINT)[1])
    canvas.round_body(wide, 0.12)
    canvas.fill(ellipse(0, -1 + mouth, wide, mouth), dim(shade(rng, (236, 234, 228), 6), 1.0))
    canvas.fill(ellipse(0, -1 + mouth + 0.02, wide * 0.9, mouth * 0.78), shade(rng, (122, 112, 100), 20))
    if rng.random() < 0.5:
        canvas.fill(ellipse(0, -1 + mouth + 0.06, wide * 0.7, mouth * 0.5), (70, 44, 26))
    if pose.dents:
        canvas.crumple(10, 0.16)
    return canvas.finish({"colour": name, "material": "paper"})


def cup_lid(rng: np.random.Generator, pose: Pose) -> Cutout:
    """A round plastic lid with raised rings and a hole to sip or for a straw."""
    disc = ellipse(0, 0, 1, 1, 40)
    if rng.random() < 0.2:  # a piece broke off
        disc = np.concatenate([disc[:30], [(0.2, -0.4)]])
    name, paint = pick(rng, "white,white,black,grey,brown,red")
    canvas = Canvas([disc], pose, paint, rng)
    clear = name == "grey"
    if clear:
        canvas.rgb[:] = (214, 222, 226)
        canvas.opacity[:] = 0.45
    radius = rounded(np.hypot, canvas.u, canvas.v)
    slope = (canvas.u * canvas.light_across + canvas.v * canvas.light_along) / np.maximum(radius, 0.05)
    step = 0.45 if name != "black" else 1.1
    for at, sign in ((0.95, 1.0), (0.82, -1.0), (0.74, 1.0), (rng.uniform(0.3, 0.5), -0.6)):
        ring = rounded(np.exp, -(((radius - np.float32(at)) / np.float32(0.035)) ** 2))
        canvas.shade(np.clip(1 + np.float32(sign * step) * slope * ring, 0.4, 2.2).astype(np.float32))
        if clear:
            canvas.opacity = np.maximum(canvas.opacity, ring * np.float32(0.85))
    canvas.dome(0, 0, 1.1, 0.25)
    if rng.random() < 0.5:
        canvas.fill(ellipse(0, -0.58, 0.2, 0.07), (22, 20, 20), 0.9, 0.95)
    else:
        for bar in (box(-0.16, -0.025, 0.16, 0.025), box(-0.025, -0.16, 0.025, 0.16)):
            canvas.fill(bar, (30, 28, 28), 0.85, 0.9)
    if pose.dents:
        canvas.crumple(9, 0.16)
    return canvas.finish({"colour": "clear" if clear else name, "material": "plastic"})


def bottle_cap(rng: np.random.Generator, pose: Pose) -> Cutout:
    """A crown cap with a crimped edge, or a plastic screw cap with a ribbed one; either way up."""
    metal = rng.random() < 0.45
    teeth = 21 if metal else 36
    turn = turns(teeth * 4)
    reach = 1 - (0.09 if metal else 0.03) * (0.5 + 0.5 * np.sin(teeth * turn))
    disc = around(turn, reach, reach)
    name, paint = pick(
        rng,
        "red,yellow,green,blue,white,black,silver,orange"
        if metal
        else "blue,white,red,green,orange,light blue,yellow",
    )
    canvas = Canvas([disc], pose, dim(paint, 0.82), rng)
    angle = rounded(np.arctan2, canvas.v, canvas.u)
    radius = rounded(np.hypot, canvas.u, canvas.v)
    canvas.shade(
        np.where(radius > 0.78, 0.86 + 0.22 * rounded(np.sin, teeth * angle), 1.0).astype(np.float32)
    )
    if rng.random() < 0.3:  # upside down: the hollow inside
        canvas.fill(ellipse(0, 0, 0.8, 0.8), dim(paint, 0.5) if not metal else (150, 148, 146))
        canvas.fill(ellipse(0, 0, 0.6, 0.6), dim(paint, 0.68) if not metal else (196, 190, 176))
        canvas.dome(0, 0, -1.0, 0.0)
    else:
        canvas.fill(ellipse(0, 0, 0.77, 0.77), paint)
        if rng.random() < 0.7:
            _, ink = pick(rng, PRINT)
            canvas.fill(ellipse(0, 0, rng.uniform(0.3, 0.55), rng.uniform(0.2, 0.5)), ink)
            canvas.fill(box(-0.4, -0.06, 0.4, 0.06), dim(ink, 0.5), 0.7)
        canvas.dome(0, 0, 1.0, 0.7 if metal else 0.4)
    if metal and pose.dirt > 0.3:
        canvas.paint(np.clip(radius - 0.6, 0, 1), (120, 62, 28), 1.2)
    return canvas.finish({"colour": name, "material": "metal" if metal else "plastic"})


def drink_carton(rng: np.random.Generator, pose: Pose) -> Cutout:
    """A juice or milk carton: a printed front, a darker side, a gable or a flat top."""
    half, depth = rng.uniform(0.4, 0.5), rng.uniform(0.14, 0.26)
    gable = rng.random() < 0.5
    left, right = -half, half
    front_top = -0.62 if gable else -0.82
    if gable:
        roof = [(left + 0.03, -0.86), (left + 0.03, -1.0), (right - 0.02, -1.0), (right - 0.02, -0.86)]
        side = [(right + depth, front_top - 0.1), (right + depth, 0.9)]
    else:
        roof, side = [(left + depth, -1.0)], [(right + depth, -1.0), (right + depth, 0.86)]
    outline = np.array([(left, front_top), *roof, *side, (right, 1.0), (left, 1.0)])
    name, paint = pick(rng, "white,white,yellow,orange,green,blue,red,light blue,purple")
    canvas = Canvas([outline], pose, paint, rng)
    ink, second = inks(rng, PRINT, 2)
    if rng.random() < 0.7:
        canvas.fill(box(left, rng.uniform(0.0, 0.5), right + depth, 1.0), ink)
    fruit = ellipse(rng.uniform(-0.15, 0.15), rng.uniform(0.1, 0.4), half * 0.5, half * 0.5)
    canvas.fill(fruit, second)
    _print(canvas, (-0.5, 0.2), half * 0.9, dim(ink, 0.5), second)
    lit = canvas.light_across
    canvas.shade(1 - np.float32(0.28 + 0.14 * lit) * canvas.mask(box(right, -1.0, right + depth, 1.0)))
    top = np.array([(left, front_top), (left + (0.03 if gable else depth), -0.9 if gable else -1.0)])
    slope = np.concatenate(
        [top, [(right + (-0.02 if gable else depth), -0.9 if gable else -1.0), (right, front_top)]]
    )
    canvas.shade(1 + np.float32(0.12 - 0.2 * canvas.light_along) * canvas.mask(slope))
    if gable:
        canvas.shade(1 - np.float32(0.18) * canvas.mask(box(left, -0.9, right, -0.86)))
    elif rng.random() < 0.6:
        canvas.fill(ellipse(depth / 2 + rng.uniform(-0.1, 0.2), -0.91, 0.07, 0.035), (60, 60, 64))
    if pose.dents:
        canvas.crumple(10, 0.16)
    return canvas.finish({"colour": name, "material": "cardboard"})
