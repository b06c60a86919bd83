"""Draws of a few examples of each class, for k-NN and learning curves. What learns from them is not here."""

import numpy as np
from numpy.typing import NDArray

from deponij.pipeline.heads.head import Names


def draw(names: Names, per_class: int, seed: int) -> NDArray[np.int64]:
    """Rows of `per_class` examples of each class of names [n], ascending; all of a class that has fewer.

    Raises:
        ValueError: fewer than one example is wanted.
    """
    if per_class < 1:
        raise ValueError(f"draw at least one example of each class, not {per_class}")
    generator = np.random.default_rng(seed)
    # Every class is permuted whole, so that a larger draw of the same seed holds the smaller ones.
    chosen = [generator.permutation(np.flatnonzero(names == name))[:per_class] for name in np.unique(names)]
    return np.sort(np.concatenate(chosen)) if chosen else np.empty(0, dtype=np.int64)
