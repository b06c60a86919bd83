"""Features with a known optimum: Gaussian clusters, one a class, with the counts of TACO's classes.

Used by benchmarks and tests; nothing of the project is needed. Shape letters: n items, d width, C classes.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Instances of the categories of TACO's official annotations that have three or more.
TACO56 = {
    "Cigarette": 667,
    "Unlabeled litter": 517,
    "Plastic film": 451,
    "Clear plastic bottle": 285,
    "Other plastic": 273,
    "Other plastic wrapper": 260,
    "Drink can": 229,
    "Plastic bottle cap": 209,
    "Plastic straw": 157,
    "Broken glass": 138,
    "Styrofoam piece": 112,
    "Glass bottle": 104,
    "Disposable plastic cup": 104,
    "Pop tab": 99,
    "Other carton": 93,
    "Normal paper": 82,
    "Metal bottle cap": 80,
    "Plastic lid": 77,
    "Paper cup": 67,
    "Corrugated carton": 64,
    "Aluminium foil": 62,
    "Single-use carrier bag": 61,
    "Other plastic bottle": 50,
    "Drink carton": 45,
    "Tissues": 42,
    "Crisp packet": 39,
    "Disposable food container": 38,
    "Plastic utensils": 37,
    "Food Can": 34,
    "Garbage bag": 31,
    "Meal carton": 30,
    "Rope & strings": 29,
    "Paper bag": 27,
    "Scrap metal": 20,
    "Foam food container": 15,
    "Foam cup": 13,
    "Magazine paper": 12,
    "Wrapping paper": 12,
    "Egg carton": 11,
    "Aerosol": 10,
    "Metal lid": 10,
    "Spread tub": 9,
    "Food waste": 8,
    "Squeezable tube": 7,
    "Shoe": 7,
    "Glass cup": 6,
    "Glass jar": 6,
    "Aluminium blister pack": 6,
    "Other plastic container": 6,
    "Toilet tube": 5,
    "Six pack rings": 5,
    "Paper straw": 4,
    "Plastic glooves": 4,
    "Tupperware": 4,
    "Polypropylene bag": 3,
    "Pizza box": 3,
}


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
