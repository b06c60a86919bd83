"""Features with a known optimum: Gaussian clusters, one a class, with the counts of TACO's classes.

Used by benchmarks and tests; nothing of the project is needed. Shape letters: n items, d width, C classes.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

# Instances of the categories of TACO's official annotations that have three or more.
with Path(__file__).with_name("taco56_counts.csv").open(encoding="utf-8", newline="") as _file:
    TACO56 = {row["category"]: int(row["instances"]) for row in csv.DictReader(_file)}


@dataclass(frozen=True)
class Clusters:
    """Isotropic Gaussians of unit variance around one centre a class.

    Attributes:
        centres: [C, d].
        priors: share of each class, [C].
    """

    centres: NDArray[np.float64]
    priors: NDArray[np.float64]

    @classmethod
    def made(cls, priors: NDArray[np.floating], dim: int, distance: float, seed: int) -> "Clusters":
        """Centres in random directions, any two of them about `distance` apart."""
        centres = np.random.default_rng(seed).normal(size=(len(priors), dim))
        centres *= distance / np.sqrt(2) / np.linalg.norm(centres, axis=1, keepdims=True)
        return cls(centres, np.asarray(priors, np.float64) / np.sum(priors))

    def features(self, codes: NDArray[np.integer], seed: int) -> NDArray[np.float32]:
        """One vector for each class number, [n, d]."""
        noise = np.random.default_rng(seed).normal(size=(len(codes), self.centres.shape[1]))
        return (self.centres[codes] + noise).astype(np.float32)

    def log_posteriors(self, features: NDArray[np.floating]) -> NDArray[np.float64]:
        """Up to a constant for each row, [n, C]; their argmax is the best that anybody can answer.

        log p(c | x) = log prior_c + x . m_c - |m_c|^2 / 2 + constant, so the optimum is linear in x.
        """
        lengths = (self.centres**2).sum(axis=1)
        scores: NDArray[np.float64] = (
            features.astype(np.float64) @ self.centres.T - lengths / 2 + np.log(self.priors)
        )
        return scores

    def bayes_accuracy(self, n: int = 20_000, seed: int = 12345) -> float:
        """Share that the optimum answers rightly, from n draws."""
        codes = np.random.default_rng(seed).choice(len(self.priors), size=n, p=self.priors)
        answers = self.log_posteriors(self.features(codes, seed + 1)).argmax(axis=1)
        return float((answers == codes).mean())
