"""Error consistency: do two observers (models, people) err on the same items, and in the same way?

Sources: R. Geirhos, K. Meding, F. A. Wichmann, "Beyond accuracy: quantifying trial-by-trial behaviour
of CNNs and humans by measuring error consistency", NeurIPS 2020 (kappa); S. Tuli et al., "Are
Convolutional Neural Networks or Transformers more like human vision?", CogSci 2021 (the two distances).
Whether one observer is better: `paired`.

Shape letters: n items, C classes. An empty response is no answer: it is wrong, but no error of any kind.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deponij.pipeline.metrics.classification import Names, confusion_matrix
from deponij.pipeline.metrics.paired import right_pair


@dataclass(frozen=True, slots=True)
class Agreement:
    """Two observers' answers to the same n items.

    Attributes:
        n: items.
        n_unanswered_a, n_unanswered_b: those without an answer, which count as wrong.
        accuracy_a, accuracy_b: share that is right.
        observed_agreement: share of items that both have right or both have wrong.
        expected_agreement: that share for independent observers of these accuracies.
        kappa: (observed - expected) / (1 - expected), of these two; 1 where they always agree.
        js_class: Jensen-Shannon distance between which *true classes* their errors fall on.
        js_inter: that between which *confusions* (truth, response) their errors are.

    Distances lie between 0, the same, and sqrt(ln 2) = 0.8326, nothing in common. They are None where
    an observer made no errors (or left all it could not answer unanswered): nothing is to be compared then.
    """

    n: int
    n_unanswered_a: int
    n_unanswered_b: int
    accuracy_a: float
    accuracy_b: float
    observed_agreement: float
    expected_agreement: float
    kappa: float
    js_class: float | None
    js_inter: float | None


@dataclass(frozen=True, slots=True)
class MeanAgreement:
    """One observer against several people.

    Attributes:
        n_people: of whom kappa is the mean.
        n_with_errors: people of whom the distances are the means; those where they are undefined are
            skipped.
    """

    n_people: int
    n_with_errors: int
    kappa: float
    js_class: float | None
    js_inter: float | None


def agreement(truth: Names, responses_a: Names, responses_b: Names) -> Agreement:
    """Compare responses [n] to the same items, of which `truth` [n] is known; "" is no answer.

    Raises:
        ValueError: no items, or the lengths differ.
    """
    if not len(truth) == len(responses_a) == len(responses_b) or len(truth) == 0:
        lengths = (len(truth), len(responses_a), len(responses_b))
        raise ValueError(f"need truths and both responses of the same n >= 1 items, got {lengths}")
    right_a, right_b = responses_a == truth, responses_b == truth
    observed, expected, kappa = error_consistency(right_a, right_b)
    classes = sorted({*truth.tolist(), *responses_a.tolist(), *responses_b.tolist()} - {""})
    errors_a, errors_b = (_errors(truth, responses, classes) for responses in (responses_a, responses_b))
    comparable = bool(errors_a.any() and errors_b.any())
    return Agreement(
        n=len(truth),
        n_unanswered_a=int((responses_a == "").sum()),
        n_unanswered_b=int((responses_b == "").sum()),
        accuracy_a=float(right_a.mean()),
        accuracy_b=float(right_b.mean()),
        observed_agreement=observed,
        expected_agreement=expected,
        kappa=kappa,
        js_class=jensen_shannon(errors_a.sum(axis=1), errors_b.sum(axis=1)) if comparable else None,
        js_inter=jensen_shannon(errors_a.ravel(), errors_b.ravel()) if comparable else None,
    )


def error_consistency(right_a: ArrayLike, right_b: ArrayLike) -> tuple[float, float, float]:
    """Observed agreement, the agreement expected of independent observers, and Cohen's kappa of the two.

    Raises:
        ValueError: no items, or the lengths differ.
    """
    a, b = right_pair(right_a, right_b)
    # In whole numbers, so that what is equal is equal: n^2 is the common denominator.
    n, n_a, n_b, n_same = len(a), int(a.sum()), int(b.sum()), int((a == b).sum())
    by_chance = n_a * n_b + (n - n_a) * (n - n_b)
    # Only those who are both always right or both always wrong are expected to agree always, and they do.
    kappa = 1.0 if n_same == n else (n * n_same - by_chance) / (n * n - by_chance)
    return n_same / n, by_chance / (n * n), kappa


def jensen_shannon(p: ArrayLike, q: ArrayLike) -> float:
    """Square root of the Jensen-Shannon divergence of two distributions, natural logarithm, 0 log 0 = 0.

    Args:
        p, q: [k] weights, not negative; they are divided by their sums.

    Raises:
        ValueError: lengths differ, or weights that are negative or all 0.
    """
    first, second = np.asarray(p, dtype=np.float64), np.asarray(q, dtype=np.float64)
    if first.ndim != 1 or first.shape != second.shape:
        raise ValueError(f"need two rows of equal length, got shapes {first.shape} and {second.shape}")
    for weights in (first, second):
        if not (weights >= 0).all() or not weights.sum() > 0:
            raise ValueError("weights must be 0 or more, and not all 0")
    from scipy.spatial.distance import jensenshannon

    return float(jensenshannon(first, second))


def mean_agreement(with_people: Sequence[Agreement]) -> MeanAgreement:
    """One observer's agreement with several people, computed with each and then averaged.

    Raises:
        ValueError: there is nobody.
    """
    if not with_people:
        raise ValueError("the mean over no people is undefined")
    pairs = [(one.js_class, one.js_inter) for one in with_people]
    distances = [(by_class, inter) for by_class, inter in pairs if by_class is not None and inter is not None]
    js_class, js_inter = np.mean(distances, axis=0).tolist() if distances else (None, None)
    kappa = float(np.mean([one.kappa for one in with_people]))
    return MeanAgreement(len(with_people), len(distances), kappa, js_class, js_inter)


def _errors(truth: Names, responses: Names, classes: Sequence[str]) -> NDArray[np.int64]:
    """Counts [C, C] of wrong answers, truths in rows; what is not answered is in none of them."""
    answered = responses != ""
    matrix = confusion_matrix(truth[answered], responses[answered], classes)
    np.fill_diagonal(matrix, 0)
    return matrix
