"""Which of several classifiers is taken: by validation, never by what is reported of it. The one rule of tables, pages
and predictions.

The highest of many test figures is also a lucky one, and its interval does not cover it. Chosen by validation, the test
figure of one is as good as that of a classifier that stood alone.

Under cross-validation the only answers that nobody learned from are those that are reported. There one is chosen by its
out-of-fold figure, and what the choice is worth is told apart: in each fold answers the classifier that was the best on
the others (`cross_fitted`). That is the figure of choosing, and of what is chosen a fair one.
"""

from collections.abc import Callable, Iterable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from deponij.pipeline.metrics.clustered import Estimate, clustered_means

T = TypeVar("T")
Preference = tuple[bool, bool, float, int]


def preference(*, is_toy: bool, judged_top1: float | None, n_backbones: int) -> Preference:
    """Sorts classifiers, the one to take first; of equals the earlier one stays first.

    What is real comes before all toys, what was judged on validation or out of fold (`judged_top1`, share of right first
    answers) before what was not; then falling top-1, then fewer backbones.
    """
    return is_toy, judged_top1 is None, 0.0 if judged_top1 is None else -judged_top1, n_backbones


def chosen(candidates: Iterable[T], preference_of: Callable[[T], Preference]) -> T | None:
    """The one to take; None where nobody was judged on validation, for then none may be called the best."""
    first = min(candidates, key=preference_of, default=None)
    return None if first is None or preference_of(first)[1] else first


def cross_fitted(
    right: NDArray[np.bool_], folds: NDArray[np.integer], groups: NDArray[np.str_], truth: NDArray[np.str_]
) -> Estimate:
    """The share of right answers when in each fold the classifier answers that was the best on the other folds.

    Args:
        right: [m, n], whether each of m >= 1 classifiers has each of n items right, out of fold; of equals the first is
            taken.
        folds, groups, truth: [n]; whole groups are resampled, and lie in one fold.
    """
    taken = np.empty(right.shape[1], dtype=bool)
    for fold in np.unique(folds):
        rows = folds == fold
        taken[rows] = right[right[:, ~rows].sum(axis=1).argmax(), rows]
    return clustered_means(taken[:, None], groups, truth).micro[0]
