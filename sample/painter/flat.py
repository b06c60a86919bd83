"""Litter that is thin, soft or in pieces: butt, bag, straw, packet, shards, paper, foil, glove, fork."""

import numpy as np

from deponij.sample.painter.canvas import (
    Canvas,
    Cutout,
    Points,
    Pose,
    around,
    box,
    clouds,
    ellipse,
    ribbon,
    rough,
    rounded,
    smooth,
    turns,
)
from deponij.sample.painter.containers import PRINT
from deponij.sample.painter.palette import COLOURS, dim, pick, shade


def cigarette(rng: np.random.Generator, pose: Pose) -> Cutout:
    """A smoked cigarette: speckled filter, white paper, ash; or only the filter."""
    half = rng.uniform(0.09, 0.14)
    split = rng.uniform(-0.2, 0.75)  # where the filter ends
    end = rough(np.array([(half, 1.0), (0.0, 1.02), (-half, 1.0)]), 0.02, rng)
    outline = np.concatenate(
        [box(-half, -1, half, 0.97, 5)[:11], end[::-1][::-1], box(-half, -1, half, 0.97, 5)[15:]]
    )
    half += rng.uniform(0.0, 0.05) * (split > 0.5)
    canvas = Canvas([outline], pose, shade(rng, (232, 228, 216), 8), rng)
    name = "orange" if rng.random() < 0.75 else "white"
    filter_colour = shade(rng, (206, 138, 70), 16) if name == "orange" else shade(rng, (226, 222, 208), 8)
    filtered = (canvas.v < split).astype(np.float32)
    canvas.paint(filtered, filter_colour)
    if name == "orange":
        specks = (canvas.rng.random(canvas.inside.shape) < 0.1).astype(np.float32) * filtered
        canvas.paint(specks, dim(filter_colour, 0.7), 0.6)
    canvas.paint((np.abs(canvas.v - split) < 0.02).astype(np.float32), (150, 120, 70), 0.6)
    canvas.round_body(half, 0.05)
    canvas.fill(box(-half, -1.0, half, -0.95), (190, 160, 110), 0.5)
    if rng.random() < 0.75:
        ash = np.clip((canvas.v - np.float32(rng.uniform(0.8, 0.92))) * 9, 0, 1)
        canvas.paint(ash, (66, 62, 60), 0.9)
    if rng.random() < 0.4:
        canvas.crumple(10, 0.16)
    return canvas.finish({"colour": name, "material": "paper"})


def plastic_bag(rng: np.random.Generator, pose: Pose) -> Cutout:
    """A carrier bag with two handles, or a knotted or torn one without; thin and full of folds."""
    kind = rng.random()
    if kind < 0.55:
        half = rng.uniform(0.55, 0.75)
        # One side from the bottom to its handle and to the notch between both; the other is its mirror image.
        side = [(1, 0.95), (1.05, 0.2), (0.95, -0.35), (0.8, -1.0), (0.42, -0.98), (0.4, -0.5)]
        left, right = [(-half * x, y) for x, y in side], [(half * x, y) for x, y in reversed(side)]
        outline = smooth(rough(np.array([*left, (0, -0.35), *right]), 0.06, rng), 5)
    else:
        n = int(rng.integers(9, 14))
        reach = rng.uniform(0.62, 1.0, n)
        outline = smooth(around(turns(n), 0.85 * reach, reach), 5)
    name, paint = pick(rng, "white,white,white,blue,black,green,light blue,yellow,red,pink")
    canvas = Canvas([outline], pose, paint, rng)
    canvas.opacity[:] = rng.uniform(0.62, 0.8) if name in {"white", "light blue"} else rng.uniform(0.8, 0.95)
    if rng.random() < 0.4:
        _, ink = pick(rng, PRINT)
        canvas.fill(ellipse(rng.uniform(-0.1, 0.1), 0.25, 0.32, 0.26), ink, 0.8)
        canvas.fill(box(-0.3, 0.56, 0.3, 0.64), ink, 0.8)
    canvas.crumple(int(rng.integers(8, 16)), 0.07)
    canvas.folds(rng.uniform(1.5, 3), 0.12, 0.22)
    canvas.folds(rng.uniform(2.5, 5), 0.08, 0.15)
    canvas.opacity += np.float32(0.06) * clouds(rng, canvas.height, canvas.width, 5)
    return canvas.finish({"colour": name, "material": "plastic"})


def straw(rng: np.random.Generator, pose: Pose) -> Cutout:
    """A drinking straw, straight or with a bent top, plain or striped."""
    half = rng.uniform(0.025, 0.045)
    path = [(0.0, 1.0), (0.0, 0.3), (0.0, -0.3), (0.0, -0.5)]
    if rng.random() < 0.55:
        lean = rng.uniform(0.1, 0.45)
        path += [(lean * 0.3, -0.62), (lean, -0.72 - 0.2 * (1 - lean)), (lean * 1.6, -0.95)]
    else:
        path += [(0.0, -1.0)]
    points = np.array(path)
    t = np.linspace(0, len(points) - 1, 24)
    fine = np.stack([np.interp(t, np.arange(len(points)), points[:, i]) for i in (0, 1)], 1)
    name, paint = pick(rng, "white,red,black,green,blue,yellow,pink,orange")
    canvas = Canvas([ribbon(fine, half)], pose, paint, rng)
    if rng.random() < 0.45:
        other = (236, 236, 232) if name != "white" else pick(rng, "red,blue,green")[1]
        along = canvas.v + canvas.u * 2
        canvas.paint(((along * rng.uniform(8, 14)) % 2 < 1).astype(np.float32), other)
    ribs = (np.abs(canvas.v + 0.55) < 0.09) & ((canvas.v * 45) % 2 < 1)
    canvas.shade(1 - np.float32(0.3) * ribs.astype(np.float32))
    canvas.shade(np.float32(0.8) + np.float32(0.3) * rounded(np.cos, canvas.u / np.float32(half)))
    return canvas.finish({"colour": name, "material": "paper" if rng.random() < 0.2 else "plastic"}, 0.95)


def crisp_packet(rng: np.random.Generator, pose: Pose) -> Cutout:
    """A pillow pack with zigzag ends: bright print on glossy film, sometimes torn open or inside out."""
    half = rng.uniform(0.6, 0.78)
    teeth = np.linspace(-half, half, 17)
    zig = np.stack([teeth, np.where(np.arange(17) % 2, 0.03, -0.03)], 1)
    pinch = rng.uniform(0.88, 0.98)
    side = np.array([(half * pinch, -0.5), (half * 0.97, 0.0), (half * pinch, 0.5)])
    outline = np.concatenate(
        [zig + np.array((0, -0.97)), side, zig[::-1] + np.array((0, 0.97)), side[::-1] * (-1, 1)]
    )
    outline = rough(outline, 0.018, rng)
    if rng.random() < 0.3:  # torn open
        outline = np.concatenate(
            [
                rough(np.array([(-half, -0.55), (-half * 0.3, -0.8), (half * 0.3, -0.45)]), 0.1, rng),
                outline[17:],
            ]
        )
    inside_out = rng.random() < 0.12
    name, paint = (
        ("silver", COLOURS["silver"])
        if inside_out
        else pick(rng, "red,yellow,green,blue,orange,purple,pink,black")
    )
    canvas = Canvas([outline], pose, paint, rng)
    if not inside_out:
        _, burst = pick(rng, "yellow,white,orange,red,light blue")
        _, ink = pick(rng, PRINT)
        n = int(rng.integers(7, 12)) * 2
        reach = np.where(np.arange(n) % 2, 0.36, rng.uniform(0.5, 0.62))
        canvas.fill(around(turns(n), reach, reach, y=-0.1), burst)
        canvas.fill(box(-0.42, -0.24, 0.42, 0.0), ink)
        for _ in range(int(rng.integers(3, 8))):
            x, y = rng.uniform(-0.5, 0.5), rng.uniform(0.3, 0.72)
            canvas.fill(ellipse(x, y, 0.16, 0.1), shade(rng, (232, 190, 84), 16))
    for y in (-0.97, 0.86):
        canvas.fill(box(-half, y - 0.03, half, y + 0.12), dim(paint, 0.7), 0.7)
    canvas.round_body(half * 1.25, 0.0)
    canvas.crumple(int(rng.integers(14, 26)), 0.13, 0.45)
    canvas.folds(rng.uniform(1.5, 3.5), 0.07, 0.35)
    return canvas.finish({"colour": name, "material": "plastic"})


def broken_glass(rng: np.random.Generator, pose: Pose) -> Cutout:
    """One to five shards with sharp corners; see-through, with bright edges."""
    shards: list[Points] = []
    discs: list[tuple[float, float, float]] = []  # around each shard: they lie apart, so areas add up
    n_shards = int(rng.integers(1, 6))
    for _ in range(n_shards):
        size = 1.0 if n_shards == 1 else rng.uniform(0.22, 0.5)
        x, y = rng.uniform(-0.8, 0.8, 2) * (n_shards > 1)
        if any(np.hypot(x - px, y - py) < size + radius for px, py, radius in discs):
            continue
        discs.append((x, y, size))
        n = int(rng.integers(3, 6))
        turn = np.sort(
            rng.uniform(0, 2 * np.pi) + (np.arange(n) + rng.uniform(-0.32, 0.32, n)) * 2 * np.pi / n
        )
        reach = rng.uniform(0.5, 1.0, n) * size
        shards.append(around(turn, reach, reach, x, y))
    name, _ = pick(rng, "green,brown,white,white")
    tint = {"green": shade(rng, (58, 128, 70), 14), "brown": shade(rng, (128, 76, 32), 14)}.get(
        name, (206, 226, 222)
    )
    canvas = Canvas(shards, pose, tint, rng)
    canvas.opacity[:] = 0.36 if name == "white" else 0.66
    for shard in shards:
        face = canvas.mask(shard)
        canvas.shade(1 + np.float32(rng.normal(0, 0.16)) * face)
        centre = shard.mean(0)
        rim = face - canvas.mask(centre + (shard - centre) * 0.84)
        canvas.paint(rim, dim(tint, 0.62), 0.9, 0.85)
        corner = int(rng.integers(len(shard)))
        glint = np.array([shard[corner], (shard[corner] + shard[corner - 1]) / 2, centre])
        canvas.fill(centre + (glint - centre) * 0.9, (246, 252, 250), 0.8, 0.8)
        crisp = np.stack([shard[0], shard[1]])
        canvas.fill(ribbon(crisp, 0.025), (255, 255, 255), 0.95, 0.95)
    return canvas.finish({"colour": "clear" if name == "white" else name, "material": "glass"})


def paper(rng: np.random.Generator, pose: Pose) -> Cutout:
    """A sheet, folded, torn or screwed up; blank, lined, printed or a receipt."""
    ball = rng.random() < 0.3
    if ball:
        n = int(rng.integers(10, 15))
        reach = rng.uniform(0.72, 1.0, n)
        outline = around(turns(n), reach, reach)
        half = 1.0
    else:
        half = rng.uniform(0.3, 0.85)
        outline = rough(box(-half, -1, half, 1, 4), rng.choice([0.01, 0.05]), rng)
        if rng.random() < 0.4:  # a torn corner
            outline = outline[int(rng.integers(2, 5)) :]
    name, paint = pick(rng, "white,white,white,yellow,beige,light blue,pink")
    r, g, b = paint
    pale = ((r + 235) / 2, (g + 235) / 2, (b + 235) / 2)
    paint = dim(paint, 1.02) if name in {"white", "beige"} else shade(rng, pale, 6)
    canvas = Canvas([outline], pose, paint, rng)
    if rng.random() < 0.75 and not ball:
        margin, rows = half * 0.8, int(rng.integers(6, 18))
        ink = dim(COLOURS["blue" if rng.random() < 0.25 else "black"], 1.3)
        for y in np.linspace(-0.85, 0.85, rows):
            if rng.random() < 0.85:
                canvas.fill(box(-margin, y, margin * rng.uniform(0.1, 1.0), y + 0.7 / rows), ink, 0.6)
        if rng.random() < 0.35:
            y = rng.uniform(-0.8, 0.2)
            canvas.fill(box(-margin, y, margin * 0.6, y + 0.45), pick(rng, PRINT)[1], 0.8)
    elif ball and rng.random() < 0.5:
        canvas.fill(rough(box(-0.6, -0.3, 0.5, 0.3), 0.1, rng), pick(rng, PRINT)[1], 0.5)
    canvas.crumple(int(rng.integers(16, 30)) if ball else int(rng.integers(4, 12)), 0.26 if ball else 0.1)
    if ball:
        canvas.dome(0, 0, 1.0, 0.0)
    return canvas.finish({"colour": name, "material": "paper"})


def aluminium_foil(rng: np.random.Generator, pose: Pose) -> Cutout:
    """Kitchen foil, a ball or a torn sheet: silver facets from nearly black to white."""
    n = int(rng.integers(8, 16))
    turn = turns(n) + rng.uniform(-0.15, 0.15, n)
    reach, narrow = rng.uniform(0.55, 1.0, n), rng.uniform(0.6, 1.0)
    outline = around(turn, narrow * reach, reach)
    name, paint = (
        ("silver", shade(rng, (172, 174, 178), 8)) if rng.random() < 0.85 else ("yellow", (206, 170, 84))
    )
    canvas = Canvas([outline], pose, paint, rng)
    canvas.crumple(int(rng.integers(30, 60)), 0.42, 0.9)
    canvas.crumple(int(rng.integers(10, 18)), 0.22, 0.5)
    return canvas.finish({"colour": "golden" if name == "yellow" else name, "material": "metal"})


def glove(rng: np.random.Generator, pose: Pose) -> Cutout:
    """A rubber or work glove: palm, cuff, four fingers and a thumb."""
    curl = rng.uniform(0.6, 1.0, 5)
    wrist = [(0.36, 1.0), (-0.36, 1.0), (-0.38, 0.3)]
    thumb = [(-0.52, 0.12), (-0.5 - 0.35 * curl[0], -0.2), (-0.4 - 0.3 * curl[0], -0.3), (-0.42, -0.02)]
    points = [*wrist, *thumb]
    for i, x in enumerate((-0.33, -0.1, 0.13, 0.35)):
        spread, tall = (x - 0.0) * 0.5, (0.62, 0.72, 0.66, 0.5)[i] * curl[i + 1]
        points += [(x - 0.1, -0.2), (x - 0.1 + spread * 0.8, -0.25 - tall * 0.8), (x + spread, -0.3 - tall)]
        points += [(x + 0.09 + spread * 0.8, -0.25 - tall * 0.8), (x + 0.1, -0.2)]
    points += [(0.48, 0.1), (0.4, 0.4)]
    name, paint = pick(rng, "light blue,light blue,white,yellow,black,orange,green,pink")
    canvas = Canvas([smooth(rough(np.array(points), 0.015, rng), 4)], pose, paint, rng)
    canvas.opacity[:] = 0.97
    for x in (-0.215, 0.015, 0.24):
        canvas.fill(ribbon(np.array([(x, -0.25), (x, 0.0)]), 0.02), dim(paint, 0.6), 0.7)
    if rng.random() < 0.5:
        canvas.fill(
            box(-0.4, 0.78, 0.4, 1.0),
            pick(rng, "white,black,red,grey")[1] if rng.random() < 0.5 else dim(paint, 0.75),
        )
    canvas.folds(3, 0.09, 0.1)
    canvas.folds(5, 0.06)
    return canvas.finish({"colour": name, "material": "rubber"})


def plastic_fork(rng: np.random.Generator, pose: Pose) -> Cutout:
    """A disposable fork; now and then a tine or half the handle is missing."""
    tines = int(rng.integers(3, 5))
    head, handle = rng.uniform(0.16, 0.2), rng.uniform(0.05, 0.08)
    points: list[tuple[float, float]] = [(handle, 1.0), (-handle, 1.0), (-handle * 0.8, -0.2), (-head, -0.42)]
    wide = 2 * head / (2 * tines - 1)
    for i in range(tines):
        x, tip = -head + 2 * i * wide, -1.0 if rng.random() < 0.88 else -0.72
        points += [(x, tip + 0.05), (x + wide / 2, tip), (x + wide, tip + 0.05)]
        points += [(x + wide, -0.6), (x + 2 * wide, -0.6)] if i < tines - 1 else []
    points += [(head, -0.42), (handle * 0.8, -0.2)]
    name, paint = pick(rng, "white,white,white,black,light blue,red,beige")
    canvas = Canvas([np.array(points)], pose, paint, rng)
    canvas.opacity[:] = 0.6 if name == "light blue" else 0.97
    canvas.shade(np.float32(1) - np.float32(0.3) * (np.abs(canvas.u) < handle * 0.35) * (canvas.v > -0.15))
    canvas.round_body(head * 1.3, 0.2)
    return canvas.finish({"colour": "clear" if name == "light blue" else name, "material": "plastic"})
