"""How often intervals of segmentation's figures hold the truth, and how often equals are called different.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/segmentation_intervals.py [--worlds 1000]

Pictures are drawn from a population whose figures are known (those of 200,000 pictures): eleven classes with shares like
CamVid's, the rare ones in a fifth to a half of the pictures; how well a class is met varies from picture to picture. In
films of five frames all frames share most of that, in two long films neighbours are alike. An interval at 95 % should hold
the truth in 95 % of the test sets; of a set that lacks a class the truth is the mean over the classes that it has. Compared
are percentiles of the draws, the wider ones of `resampling`, BCa (B. Efron, J. Am. Stat. Assoc. 82 (1987) 171-185), Wilson's
form (`clustered.Estimate`) with the variance of the draws, and the same with the jackknife's.
"""

import argparse
from collections.abc import Callable

import numpy as np
from scipy.special import ndtr, ndtri

from deponij.pipeline.metrics.clustered import Estimate
from deponij.pipeline.metrics.resampling import Draws, exchanged_p, expanded_percentile
from deponij.pipeline.metrics.segmentation import Figures

C = 11
FIGURES = Figures(C)
# Mean share where a class is seen, how often it is seen, and how well it is met (log-odds), from frequent to rare.
AREAS = np.array([27, 25, 18, 12, 10, 6, 2, 2.5, 1.2, 2, 1.5])
SEEN = np.array([1, 1, 0.95, 0.9, 0.9, 0.85, 0.9, 0.45, 0.5, 0.3, 0.2])
SKILL = np.array([3.0, 2.4, 3.0, 1.6, 1.9, 1.5, -0.3, 0.3, 0.2, 0.4, 0.5])
N_PIXELS = 172_800


def pictures(n_groups: int, size: int, rng: np.random.Generator, n_films: int = 0) -> np.ndarray:
    """Margins [n_groups, 3 C] of groups of `size` pictures, see `luck`."""
    return answered(*truths(n_groups, size, rng, n_films), rng)


def luck(n_groups: int, size: int, rng: np.random.Generator, n_films: int) -> np.ndarray:
    """Normal numbers [n_groups, size, C] that the pictures of a group have in common in part.

    Args:
        n_films: groups are stretches of so many films, whose frames are the more alike the nearer they are (0.9 from one to
            the next); 0: groups have nothing in common with each other.
    """
    if n_films:
        found = rng.normal(size=(n_groups * size // n_films, n_films, C))
        for frame in range(1, len(found)):
            found[frame] = 0.9 * found[frame - 1] + np.sqrt(1 - 0.9**2) * found[frame]
        return found.transpose(1, 0, 2).reshape(n_groups, size, C)
    shared = 0.7 if size > 1 else 0.0
    of_group, own = rng.normal(size=(n_groups, 1, C)), rng.normal(size=(n_groups, size, C))
    return np.sqrt(shared) * of_group + np.sqrt(1 - shared) * own


def truths(
    n_groups: int, size: int, rng: np.random.Generator, n_films: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Pixels of each class and how hard it is there, [n_groups, size, C]."""
    seen = luck(n_groups, size, rng, n_films) < ndtri(SEEN)
    areas = seen * AREAS * np.exp(0.9 * luck(n_groups, size, rng, n_films))
    areas[..., 0] += 1e-9
    pixels = np.round(N_PIXELS * areas / areas.sum(axis=-1, keepdims=True))
    return pixels, 1.2 * luck(n_groups, size, rng, n_films)


def answered(pixels: np.ndarray, hard: np.ndarray, rng: np.random.Generator, gain: float = 0.0) -> np.ndarray:
    """Margins [n_groups, 3 C] of an answer to them; errors fall on other classes that are often answered."""
    own = 0.6 * rng.normal(size=pixels.shape)
    right = np.round(pixels / (1 + np.exp(-(SKILL + gain + hard + own))))
    wrong = (pixels - right).sum(axis=-1, keepdims=True)
    share = (pixels + 0.003 * N_PIXELS) * rng.gamma(1.0, size=pixels.shape)
    said = right + np.round(wrong * share / share.sum(axis=-1, keepdims=True))
    return np.concatenate([right, pixels, said], axis=-1).sum(axis=1).astype(np.int64)


def rarest(sums: np.ndarray) -> np.ndarray:
    return FIGURES.ious(sums)[:, -1]


WANTED: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "mIoU": FIGURES.miou,
    "mean accuracy": FIGURES.mean_accuracy,
    "accuracy": FIGURES.accuracy,
    "IoU of the rarest": rarest,
}


def without_each(counts: np.ndarray, figure: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    return figure((counts.sum(axis=0) - counts).astype(np.float64))


def bca(values: np.ndarray, whole: float, left_out: np.ndarray) -> tuple[float, float]:
    known, left = values[np.isfinite(values)], left_out[np.isfinite(left_out)]
    share = np.clip((np.sum(known < whole) + np.sum(known == whole) / 2) / len(known), 1e-4, 1 - 1e-4)
    bias, pulls = ndtri(share), left.mean() - left
    spread = (pulls**2).sum()
    speed = (pulls**3).sum() / (6 * spread**1.5) if spread > 0 else 0.0
    ends = bias + np.array([-1, 1]) * 1.959963984540054
    low, high = np.quantile(known, ndtr(bias + ends / (1 - speed * ends)))
    return float(low), float(high)


def jackknife(whole: float, left_out: np.ndarray, n_groups: int) -> tuple[float, float]:
    changes = (left_out - whole)[np.isfinite(left_out)]
    return wilsons(whole, (n_groups - 1) / n_groups * float((changes**2).sum()), n_groups)


def wilsons(whole: float, variance: float, n_groups: int) -> tuple[float, float]:
    found = Estimate(whole, variance, 0.0, n_groups, n_groups).interval
    assert found is not None
    return found


def truth_of(known: np.ndarray, drawn: np.ndarray, name: str) -> float:
    """Of the population, over the classes that a test set has."""
    if name in ("accuracy", "IoU of the rarest"):
        return float(WANTED[name](known[None])[0])
    each = (FIGURES.ious if name == "mIoU" else FIGURES.recalls)(known[None])[0]
    return float(each[drawn[C : 2 * C] > 0].mean())


def coverage(n_groups: int, size: int, n_worlds: int, n_films: int = 0) -> None:
    of_films = f" of {n_films} films" if n_films else ""
    known = pictures(200_000 // size, size, np.random.default_rng(99)).sum(axis=0).astype(np.float64)
    held: dict[str, list[list[bool]]] = {name: [] for name in WANTED}
    widths: dict[str, list[list[float]]] = {name: [] for name in WANTED}
    for seed in range(n_worlds):
        counts = pictures(n_groups, size, np.random.default_rng(seed), n_films)
        draws = Draws.of(counts, seed=seed)
        for name, figure in WANTED.items():
            whole = float(figure(draws.whole[None])[0])
            n_with = int((counts[:, 2 * C - 1] > 0).sum()) if name.endswith("rarest") else n_groups
            if n_with < 10:
                continue
            truth, values = truth_of(known, draws.whole, name), figure(draws.drawn)
            left_out = without_each(counts, figure)
            usual = np.nanquantile(values, [0.025, 0.975])
            ways = (
                usual,
                expanded_percentile(values, n_with),
                bca(values, whole, left_out),
                wilsons(whole, float(np.nanvar(values)) * n_with / (n_with - 1), n_with),
                jackknife(whole, left_out, n_with),
            )
            held[name].append([way is not None and way[0] <= truth <= way[1] for way in ways])
            widths[name].append([100 * (way[1] - way[0]) for way in ways])
    for name, rows in held.items():
        if len(rows) >= n_worlds / 4:
            shares = " | ".join(f"{share:.1%}".replace("%", " %") for share in np.mean(rows, axis=0))
            wide = " / ".join(f"{one:.1f}" for one in np.mean(widths[name], axis=0))
            print(f"| {n_groups} x {size}{of_films} | {name} | {shares} | {wide} |", flush=True)


def size_of_test(n_groups: int, size: int, n_worlds: int) -> None:
    """How often two that are equal on average are called different; how often the interval of the difference lacks 0."""
    called, outside, found = 0, 0, 0
    for seed in range(n_worlds):
        rng = np.random.default_rng(10_000 + seed)
        where = truths(n_groups, size, rng)
        a, b, c = answered(*where, rng), answered(*where, rng), answered(*where, rng, 0.25)
        called += exchanged_p(a, b, FIGURES.miou, 999) < 0.05
        found += exchanged_p(a, c, FIGURES.miou, 999) < 0.05
        draws = Draws.of(np.concatenate([a, b], axis=1), seed=seed)
        interval = draws.interval(lambda s: FIGURES.miou(s[:, : 3 * C]) - FIGURES.miou(s[:, 3 * C :]))
        assert interval is not None
        outside += not interval[0] <= 0 <= interval[1]
    shares = " | ".join(f"{100 * one / n_worlds:.1f} %" for one in (called, outside, found))
    print(f"| {n_groups} x {size} | {shares} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--worlds", type=int, default=1000)
    n_worlds = parser.parse_args().worlds
    print("| groups x pictures | figure | percentile | wider | BCa | Wilson | jackknife | widths, points |")
    for n_groups, size in ((10, 1), (20, 1), (50, 1), (100, 1), (233, 1), (20, 5), (47, 5)):
        coverage(n_groups, size, n_worlds)
    # Two long films in stretches, and as if each frame stood alone.
    for n_groups, size in ((10, 22), (12, 18), (20, 11), (220, 1)):
        coverage(n_groups, size, n_worlds, n_films=2)
    print("| groups x pictures | equals called different | interval lacks 0 | +0.25 log-odds found |")
    for n_groups, size in ((10, 1), (20, 1), (50, 1), (233, 1), (20, 5)):
        size_of_test(n_groups, size, n_worlds)


if __name__ == "__main__":
    main()
