"""How often the intervals of multi-label figures hold what they should: drawn test parts of a population that is known.

    .venv/bin/python benchmarks/multilabel_intervals.py [--draws 400]

Items of ten classes from frequent (40 %) to rare (6 %), scored by a noisy classifier. In photographs of four crops items
share classes and luck. The truth of each figure is that of 200,000 items; an interval at 95 % should hold it in 95 of 100
test parts. Printed are shares of draws, and the mean width.
"""

import argparse

import numpy as np

from deponij.pipeline.metrics.multilabel import average_precision, f1, score_multilabel

SHARES = np.geomspace(0.4, 0.06, 10)
THRESHOLDS = np.full(10, 0.5)
NAMES = [f"c{k}" for k in range(10)]
FIGURES = ("map_macro", "map_micro", "f1_macro", "f1_micro", "jaccard")


def drawn(
    n_groups: int, size: int, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truths and probabilities [n, 10] and groups [n] of photographs with so many crops each."""
    from scipy.stats import norm

    n = n_groups * size
    of = np.repeat(np.arange(n_groups), size)
    shared = 0.6 if size > 1 else 0.0

    def normal() -> np.ndarray:
        return np.sqrt(shared) * generator.normal(size=(n_groups, 10))[of] + np.sqrt(
            1 - shared
        ) * generator.normal(size=(n, 10))

    truth = normal() > norm.isf(SHARES)
    log_odds = 2.0 * (truth - 0.5) + np.log(SHARES / (1 - SHARES)) / 2 + 1.2 * normal()
    return truth, 1 / (1 + np.exp(-log_odds)), of.astype(str)


def truth_of(size: int) -> dict[str, float]:
    """The figures of a very large test part, without intervals."""
    truth, probs, _ = drawn(200_000 // size, size, np.random.default_rng(12345))
    answers = probs >= THRESHOLDS
    counts = [one.astype(float) for one in (truth & answers, answers, truth)]
    either = (truth | answers).sum(axis=1)
    alike = np.where(either > 0, (truth & answers).sum(axis=1) / np.maximum(either, 1), 1.0)
    return {
        "map_macro": float(np.mean([average_precision(truth[:, k], probs[:, k])[0] for k in range(10)])),
        "map_micro": float(average_precision(truth.ravel(), probs.ravel())[0]),
        "f1_macro": float(f1(*(one.sum(axis=0) for one in counts)).mean()),
        "f1_micro": float(f1(*(one.sum() for one in counts))),
        "jaccard": float(alike.mean()),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--draws", type=int, default=400)
    n_draws = parser.parse_args().draws
    print("photographs x crops | figure      truth  mean   covered  width")
    for n_groups, size in ((60, 1), (120, 1), (400, 1), (40, 4), (120, 4)):
        expected, found = truth_of(size), {name: [] for name in FIGURES}
        classes = []
        for seed in range(n_draws):
            truth, probs, groups = drawn(n_groups, size, np.random.default_rng(seed))
            scores = score_multilabel(truth, probs, THRESHOLDS, groups, NAMES)
            for name in FIGURES:
                found[name].append((getattr(scores, name), *getattr(scores, f"{name}_interval")))
            first = scores.by_class[0]
            classes.append((first.ap, *first.ap_interval))
        for name in FIGURES:
            show(f"{n_groups:>5} x {size}", name, expected[name], np.array(found[name]))
        truth, probs, _ = drawn(200_000 // size, size, np.random.default_rng(12345))
        show(
            f"{n_groups:>5} x {size}",
            "AP of c0",
            float(average_precision(truth[:, 0], probs[:, 0])[0]),
            np.array(classes),
        )


def show(where: str, name: str, expected: float, rows: np.ndarray) -> None:
    values, low, high = rows.T
    covered = np.mean((low <= expected) & (expected <= high))
    print(
        f"{where:>19} | {name:<10} {expected:6.3f} {values.mean():6.3f} {covered:8.1%} {np.mean(high - low):6.3f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
