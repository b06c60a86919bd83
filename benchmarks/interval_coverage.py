"""How often a 95 % interval holds the truth, and a test calls equals different, in worlds whose truth is known.

    .venv/bin/python benchmarks/interval_coverage.py ANNOTATIONS

Test pictures are crops of photographs, as many of each as there are annotations of a photograph in a COCO file
(TACO's `annotations.json`). In each world photographs are drawn, and their crops are answered rightly with a chance
that the crops of one photograph share: the intraclass correlation (ICC) is 0 where each crop stands alone. Nothing of
these worlds is known to the intervals but hits and photographs.

Shape letters: G photographs, n crops, S runs.
"""

import argparse
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from deponij.pipeline.metrics.clustered import clustered_means, mean_of_runs
from deponij.pipeline.metrics.intervals import Interval, wilson
from deponij.pipeline.metrics.paired import paired_difference

Sizes = NDArray[np.int64]
Rule = Callable[[NDArray[np.bool_], NDArray[np.int64]], Interval | None]

ICCS, ACCURACIES = (0.0, 0.1, 0.3), (0.3, 0.6, 0.9, 0.97)


def crops_of_photographs(annotations: Path) -> Sizes:
    """How many annotations each photograph of a COCO file has that has any."""
    found = json.loads(annotations.read_text(encoding="utf-8"))["annotations"]
    return np.array(list(Counter(one["image_id"] for one in found).values()))


def chances(rng: np.random.Generator, accuracy: float, icc: float, n_photos: int) -> NDArray[np.float64]:
    """Of being right, [G]; beta-distributed, so that two crops of a photograph correlate by `icc`."""
    if icc == 0:
        return np.full(n_photos, accuracy)
    k = (1 - icc) / icc
    return rng.beta(accuracy * k, (1 - accuracy) * k, n_photos)


def worlds(
    sizes: Sizes, n_photos: int, accuracy: float, icc: float, n: int, seed: int = 0, n_models: int = 1
) -> Iterator[tuple[NDArray[np.int64], list[NDArray[np.bool_]]]]:
    """Photographs [n] and hits [n] of each model, n times; models are right independently of each other."""
    rng = np.random.default_rng(seed)
    for _ in range(n):
        photos = np.repeat(np.arange(n_photos), rng.choice(sizes, n_photos))
        of_models = (chances(rng, accuracy, icc, n_photos)[photos] for _ in range(n_models))
        yield photos, [rng.random(len(photos)) < one for one in of_models]


def over_crops(hits: NDArray[np.bool_], photos: NDArray[np.int64]) -> Interval:
    """Wilson's, as if each crop stood alone."""
    return wilson(float(hits.mean()), len(hits))


def over_photographs(hits: NDArray[np.bool_], photos: NDArray[np.int64]) -> Interval | None:
    """As results have it."""
    return clustered_means(hits[:, None], photos, np.zeros(len(hits))).micro[0].interval


def coverage(rule: Rule, sizes: Sizes, n_photos: int, accuracy: float, icc: float, n: int) -> float:
    """Share of n worlds in which the rule's interval holds the accuracy."""
    return share_held(
        (rule(hits, photos) for photos, (hits,) in worlds(sizes, n_photos, accuracy, icc, n)), accuracy
    )


def share_held(intervals: Iterator[Interval | None], truth: float) -> float:
    """How many intervals hold it; none holds nothing."""
    held = [found is not None and found[0] <= truth <= found[1] for found in intervals]
    return sum(held) / len(held)


def false_positives(sizes: Sizes, n_photos: int, accuracy: float, icc: float, n: int) -> tuple[float, float]:
    """Share of n worlds of two equals in which p is below 0.05: over crops (McNemar), and over photographs."""
    found = np.array(
        [
            (paired_difference(a, b, groups).p < 0.05)
            for photos, (a, b) in worlds(sizes, n_photos, accuracy, icc, n, n_models=2)
            for groups in (np.arange(len(photos)), photos)
        ]
    )
    return float(found[::2].mean()), float(found[1::2].mean())


def trained_worlds(
    sizes: Sizes, n_photos: int, accuracy: float, n_runs: int, wobble: float, n: int, seed: int = 0
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.bool_]]]:
    """Photographs [n] and hits [S, n], n times. Of many trainings on many photographs just `accuracy` is right.

    A crop is answered rightly where a normal variable is positive: a sum over its photograph, the crop itself, the run
    (standard deviation `wobble`) and the rest, of variance 1 in all.
    """
    rng = np.random.default_rng(seed)
    shares = np.sqrt([0.25, 0.35, 0.4 - wobble**2])
    for _ in range(n):
        photos = np.repeat(np.arange(n_photos), rng.choice(sizes, n_photos))
        of_photo, of_crop = (
            rng.normal(size=n_photos)[photos] * shares[0],
            rng.normal(size=len(photos)) * shares[1],
        )
        of_run, rest = (
            rng.normal(size=(n_runs, 1)) * wobble,
            rng.normal(size=(n_runs, len(photos))) * shares[2],
        )
        yield photos, norm.ppf(accuracy) + of_photo + of_crop + of_run + rest > 0


def coverage_of_runs(
    sizes: Sizes, n_photos: int, accuracy: float, n_runs: int, wobble: float, n: int
) -> tuple[float, float]:
    """Share of n worlds whose interval holds the accuracy: of photographs alone, and of photographs and runs."""
    alone, both = [], []
    for photos, hits in trained_worlds(sizes, n_photos, accuracy, n_runs, wobble, n):
        found = mean_of_runs(hits, photos, np.zeros(len(photos)))[0]
        both.append(found.interval)
        alone.append(
            clustered_means(hits.mean(axis=0)[:, None], photos, np.zeros(len(photos))).micro[0].interval
        )
    return share_held(iter(alone), accuracy), share_held(iter(both), accuracy)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables as Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("annotations", type=Path, help="a COCO file")
    parser.add_argument("--worlds", type=int, default=2000)
    given = parser.parse_args(arguments)
    sizes, n = crops_of_photographs(given.annotations), given.worlds
    print("| photographs | ICC | accuracy | over crops | over photographs |\n|--:|--:|--:|--:|--:|")
    for n_photos in (20, 30, 100, 150):
        for icc in ICCS:
            for accuracy in ACCURACIES:
                before, now = (
                    coverage(rule, sizes, n_photos, accuracy, icc, n)
                    for rule in (over_crops, over_photographs)
                )
                print(f"| {n_photos} | {icc} | {accuracy} | {before:.1%} | {now:.1%} |", flush=True)
    print(
        "\n| photographs | ICC | accuracy | McNemar over crops | photographs exchanged |\n|--:|--:|--:|--:|--:|"
    )
    for n_photos in (20, 30, 100, 150):
        for icc in ICCS:
            for accuracy in (0.6, 0.9):
                before, now = false_positives(sizes, n_photos, accuracy, icc, n)
                print(f"| {n_photos} | {icc} | {accuracy} | {before:.1%} | {now:.1%} |", flush=True)
    print("\n| photographs | runs | their wobble | photographs alone | and runs |\n|--:|--:|--:|--:|--:|")
    for n_runs in (3, 5, 10):
        for wobble in (0.0, 0.1, 0.2):
            before, now = coverage_of_runs(sizes, 100, 0.6, n_runs, wobble, n)
            print(
                f"| 100 | {n_runs} | {100 * wobble * norm.pdf(norm.ppf(0.6)):.1f} points | {before:.1%} | {now:.1%} |"
            )


if __name__ == "__main__":
    main()
