"""Do probabilities mean what they say: reliability, expected calibration error, temperature scaling.

Shape letters: n items, C classes. Confidence is the probability of the first answer. A temperature T
divides logits; it changes no answer. Sources: C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger, "On
Calibration of Modern Neural Networks", ICML 2017. Accuracy and intervals live elsewhere.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deponij.pipeline.record_lists import Measured

Logits = NDArray[np.floating]
# At most; as Guo et al. have.
N_BINS = 15
# Of answers that are right as often as promised.
_N_DRAWS = 200
# Logarithm of a temperature at which nothing is told any more, above that of the widest logits.
_UNSURE = 10.0


class ReliabilityBin(Measured):
    """Items whose confidence lies in (lower, upper]; the first bin takes its lower end as well.

    Attributes:
        n: items in it.
        confidence, accuracy: their mean confidence and the share that is right; None without items.
    """

    lower: float
    upper: float
    n: int
    confidence: float | None
    accuracy: float | None


class Calibration(Measured):
    """How well probabilities are calibrated on one part, as they are and after temperature scaling.

    Attributes:
        part: the part of the split that the figures are of.
        n: its items.
        n_known: those of classes that the classifier can answer.
        temperature: of the least negative log-likelihood on validation, or on all out-of-fold answers; None without.
        ece, ece_scaled: expected calibration error of all n items.
        ece_by_chance, ece_by_chance_scaled: what perfect probabilities would have with so few; None in
            records of older versions.
        nll, nll_scaled: mean negative log-likelihood of the n_known items; None where there are none.
        bins, bins_scaled: reliability, bins of about as many items each in ascending order.

    What is scaled is None where there is no temperature, or where it was fitted on this very part.
    """

    part: str
    n: int
    n_known: int
    temperature: float | None
    ece: float
    ece_scaled: float | None
    nll: float | None
    nll_scaled: float | None
    bins: tuple[ReliabilityBin, ...]
    bins_scaled: tuple[ReliabilityBin, ...] | None
    ece_by_chance: float | None = None
    ece_by_chance_scaled: float | None = None


def calibration(
    logits: Logits, truth: ArrayLike, parts: ArrayLike, classes: Sequence[str], shown: str
) -> Calibration:
    """Fit a temperature on the part `val` and judge the part `shown`.

    Args:
        logits: [n, C], columns in the order of `classes`.
        truth, parts: [n] names; a truth that is not among `classes` counts as wrong.
    """
    codes, parts = class_codes(truth, classes), np.asarray(parts)
    val, rows = (parts == "val") & (codes >= 0), parts == shown
    temperature = fit_temperature(logits[val], codes[val]) if val.any() else None
    chosen, answers = logits[rows], codes[rows]
    scaled = None if temperature is None or shown == "val" else chosen / temperature
    return _judged(shown, chosen, scaled, answers, temperature)


def cross_calibration(
    logits: Logits, truth: ArrayLike, folds: NDArray[np.integer], classes: Sequence[str], shown: str
) -> Calibration:
    """Judge out-of-fold answers, each at the temperature of the other folds' answers; told is that of all.

    Args:
        logits: [n, C], each row by a head that has not learned from its fold.
        truth: [n] names.
        folds: [n], at least two.
        shown: what the part of all these items is called.
    """
    codes = class_codes(truth, classes)
    known = codes >= 0
    scaled = np.empty(logits.shape)
    for fold in np.unique(folds):
        others = known & (folds != fold)
        scaled[folds == fold] = logits[folds == fold] / fit_temperature(logits[others], codes[others])
    return _judged(shown, logits, scaled, codes, fit_temperature(logits[known], codes[known]))


def _judged(
    shown: str, chosen: Logits, scaled: Logits | None, answers: NDArray[np.int64], temperature: float | None
) -> Calibration:
    plain = _judge(chosen, answers)
    of_scaled = {} if scaled is None else _judge(scaled, answers)
    return Calibration(
        part=shown,
        n=len(answers),
        n_known=int((answers >= 0).sum()),
        temperature=temperature,
        **plain,
        **{f"{name}_scaled": of_scaled.get(name) for name in plain},  # type: ignore[arg-type]
    )


def _judge(logits: Logits, codes: NDArray[np.int64]) -> dict[str, Any]:
    """The fields of `Calibration` that are there twice."""
    confidence = np.exp(log_softmax(logits).max(axis=1))
    # As everywhere, of equal logits the first class is the answer.
    correct = logits.argmax(axis=1) == codes
    known = codes >= 0
    return {
        "ece": expected_calibration_error(confidence, correct),
        "ece_by_chance": error_by_chance(confidence),
        "nll": negative_log_likelihood(logits[known], codes[known]) if known.any() else None,
        "bins": reliability(confidence, correct),
    }


def class_codes(truth: ArrayLike, classes: Sequence[str]) -> NDArray[np.int64]:
    """Each truth's column; -1 for those that are not among `classes`."""
    index = {name: column for column, name in enumerate(classes)}
    return np.array([index.get(str(name), -1) for name in np.asarray(truth)], dtype=np.int64)


def reliability(
    confidence: ArrayLike, correct: ArrayLike, n_bins: int | None = None
) -> tuple[ReliabilityBin, ...]:
    """Bins of confidence [n] in [0, 1] that hold about as many items each, with what share of their answers is right.

    Of n items there are the cube root of n bins, N_BINS at most: with that number the bias is least (F. Futami,
    M. Fujisawa, NeurIPS 2024), and bins of equal mass have less of it than bins of equal width (R. Roelofs et al.,
    AISTATS 2022). Their edges are quantiles; where many confidences are equal there are fewer bins.

    Args:
        n_bins: at most so many; None for the cube root of n.

    Raises:
        ValueError: no items, lengths that differ, or confidences outside [0, 1].
    """
    sure, right = _pairs(confidence, correct)
    edges, place = _equal_mass(sure, n_bins)
    counts = np.bincount(place)
    confidences, hits = (np.bincount(place, weights=weights) / counts for weights in (sure, right))
    return tuple(
        ReliabilityBin(
            lower=min(float(edges[i]), 1.0),
            upper=min(float(edges[i + 1]), 1.0),
            n=int(n),
            confidence=float(confidences[i]),
            accuracy=float(hits[i]),
        )
        for i, n in enumerate(counts)
    )


def _pairs(confidence: ArrayLike, correct: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    sure, right = np.asarray(confidence, dtype=np.float64), np.asarray(correct, dtype=np.bool_)
    if sure.shape != right.shape or sure.ndim != 1 or len(sure) == 0:
        raise ValueError(f"need n >= 1 confidences and answers, got shapes {sure.shape} and {right.shape}")
    # Rounding may push a probability past 1 by a hair; NaN fails both comparisons.
    if not ((sure >= 0) & (sure <= 1 + 1e-6)).all():
        raise ValueError("confidences must lie in [0, 1]")
    return sure, right


def _equal_mass(
    sure: NDArray[np.float64], n_bins: int | None
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Edges of bins that all hold items, and the bin of each item [n]."""
    n = max(1, min(N_BINS, round(len(sure) ** (1 / 3)))) if n_bins is None else n_bins
    edges = np.unique(np.quantile(sure, np.linspace(0, 1, n + 1)))
    place = np.searchsorted(edges[1:-1], sure, side="left")
    kept, place = np.unique(place, return_inverse=True)
    return np.append(edges[kept], edges[-1]), place.astype(np.int64)


def expected_calibration_error(confidence: ArrayLike, correct: ArrayLike, n_bins: int | None = None) -> float:
    """Mean over items of |accuracy - confidence| of their bin (equation 3 of Guo et al.), bins as in `reliability`.

    Raises:
        ValueError: as `reliability`.
    """
    sure, right = _pairs(confidence, correct)
    return float(_errors(sure, right[None], n_bins)[0])


def error_by_chance(confidence: ArrayLike) -> float:
    """The expected calibration error that perfect probabilities [n] have on average with so few items.

    Answers are drawn that are right as often as promised (the framework of Roelofs et al.). An error that is not
    larger says nothing against a classifier.

    Raises:
        ValueError: as `reliability`.
    """
    sure = np.minimum(np.asarray(confidence, dtype=np.float64), 1.0)
    rng = np.random.default_rng(0)
    drawn = rng.random((_N_DRAWS, len(sure))) < sure
    return float(_errors(_pairs(sure, drawn[0])[0], drawn, None).mean())


def _errors(sure: NDArray[np.float64], right: NDArray[np.bool_], n_bins: int | None) -> NDArray[np.float64]:
    """Calibration errors of answers [m, n] of the same confidences [n]."""
    place = _equal_mass(sure, n_bins)[1]
    gaps = np.zeros(len(right))
    for i in range(place.max() + 1):
        gaps += np.abs((right[:, place == i] - sure[place == i]).sum(axis=1))
    return gaps / len(sure)


def negative_log_likelihood(logits: Logits, codes: NDArray[np.integer]) -> float:
    """Mean of -log softmax(logits)[code], natural logarithm.

    Raises:
        ValueError: no items, lengths that differ, or codes that are no columns.
    """
    _check(logits, codes)
    return float(-np.take_along_axis(log_softmax(logits), codes[:, None], axis=1).mean())


def fit_temperature(logits: Logits, codes: NDArray[np.integer]) -> float:
    """The T > 0 at which softmax(logits / T) has the least negative log-likelihood.

    Where every answer is right, any smaller T would be better still and validation says nothing about
    how sure to be; 1 is returned then, as for logits that are all equal. Logits that tell less than
    nothing get a very large T, almost the uniform distribution.

    Args:
        logits: [n, C], n >= 1.
        codes: [n] columns.

    Raises:
        ValueError: no items, lengths that differ, or codes that are no columns.
    """
    from scipy.optimize import brentq

    _check(logits, codes)
    wide = np.asarray(logits, dtype=np.float64)
    wide = wide - wide.max(axis=1, keepdims=True)
    own = np.take_along_axis(wide, codes[:, None], axis=1)[:, 0]
    if (own == 0).all():
        return 1.0
    spans = -wide.min(axis=1)
    # Of most rows; a single wild one must not move where the search begins.
    usual, most = float(np.log(np.median(spans[spans > 0]))), float(np.log(spans.max())) + _UNSURE

    def slope(log_t: float) -> float:
        """Of the likelihood over 1 / T, in which it is convex: below 0 where T is too large."""
        with np.errstate(over="ignore"):
            weights = np.exp(wide / np.exp(log_t))
        return float(((weights * wide).sum(axis=1) / weights.sum(axis=1) - own).mean())

    low, high = usual, usual
    while slope(low) < 0:
        low -= 1
    while slope(high) > 0 and high < most:
        high += 1
    return float(np.exp(brentq(slope, low, high, xtol=1e-12) if slope(high) <= 0 else most))


def _check(logits: Logits, codes: NDArray[np.integer]) -> None:
    if logits.ndim != 2 or codes.shape != (len(logits),) or len(codes) == 0:
        raise ValueError(f"need n >= 1 rows of logits with a code each, got {logits.shape} and {codes.shape}")
    if codes.min() < 0 or codes.max() >= logits.shape[1]:
        raise ValueError(f"codes must lie in 0..{logits.shape[1] - 1}, got {codes.min()}..{codes.max()}")


def log_softmax(logits: Logits) -> NDArray[np.float64]:
    """Log-probabilities along the last axis."""
    wide = np.asarray(logits, dtype=np.float64)
    shifted = wide - wide.max(axis=-1, keepdims=True)
    log_probs: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return log_probs
