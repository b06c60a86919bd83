"""Which pictures an epoch shows, and what classes weigh, where some have many more pictures than others.

Shape letters: n pictures, C classes, m pictures of an epoch.
"""

import numpy as np
from numpy.typing import NDArray

from deponij.pipeline.tuning.drawing import seed_of
from deponij.store.errors import UsageError

Integers = NDArray[np.integer]


def epoch_indices(
    labels: Integers, *, seed: int, epoch: int, power: float = 0.0, n: int | None = None
) -> NDArray[np.int64]:
    """Which pictures an epoch shows, in which order: int64 [m], the same for the same seed and epoch.

    With `power` 0 each picture comes once (the first m of a shuffle). Otherwise they are drawn with replacement, each by
    1 / (pictures of its class) ** power: with 1 all classes come equally often, with 0.5 as the roots of their counts.

    Args:
        labels: class numbers [n].
        n: m, as many as there are by default.

    Raises:
        UsageError: there are no pictures, more are asked for than come once, or the power is negative.
    """
    labels = np.asarray(labels)
    n_shown = len(labels) if n is None else n
    if not len(labels) or n_shown < 1:
        raise UsageError(f"an epoch of {n_shown} out of {len(labels)} pictures shows nothing")
    rng = np.random.default_rng(seed_of(seed, "epoch", epoch))
    if power == 0:
        if n_shown > len(labels):
            raise UsageError(
                f"{n_shown} pictures of {len(labels)} repeat some; give a power, by which they are drawn"
            )
        return rng.permutation(len(labels))[:n_shown]
    _, classes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    weights = _falling(counts, power)[classes]
    return rng.choice(len(labels), n_shown, p=weights / weights.sum()).astype(np.int64)


def class_weights(labels: Integers, n_classes: int, *, power: float = 1.0) -> NDArray[np.float32]:
    """Weights 1 / count ** power of each class, float32 [C], whose mean over the pictures is 1.

    A class without pictures weighs nothing. With `power` 1 they are scikit-learn's `balanced`.

    Raises:
        UsageError: there are no pictures, a class number is not below C, or the power is negative.
    """
    labels = np.asarray(labels)
    if not len(labels) or labels.min() < 0 or labels.max() >= n_classes:
        raise UsageError(f"weights need class numbers from 0 to {n_classes - 1} of at least one picture")
    counts = np.bincount(labels, minlength=n_classes)
    weights = np.zeros(n_classes)
    weights[counts > 0] = _falling(counts[counts > 0], power)
    return np.asarray(weights * len(labels) / (weights * counts).sum(), np.float32)


def _falling(counts: Integers, power: float) -> NDArray[np.float64]:
    if not 0 <= power < np.inf:
        raise UsageError(f"the power of balancing is {power}; it must be 0 (none) or more, 1 is full balance")
    return counts.astype(np.float64) ** -power
