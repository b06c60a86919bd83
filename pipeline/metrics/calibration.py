"""Do probabilities mean what they say: reliability, expected calibration error, temperature scaling.

Shape letters: n items, C classes. Confidence is the probability of the first answer. A temperature T
divides logits; it changes no answer. Sources: C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger, "On
Calibration of Modern Neural Networks", ICML 2017. Accuracy and intervals live elsewhere.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deponij.pipeline.record_lists import Measured

Logits = NDArray[np.floating]
N_BINS = 15
# Logarithm of a temperature at which nothing is told any more, above that of the widest logits.
_UNSURE = 10.0


class ReliabilityBin(Measured):
    """Items whose confidence lies in (lower, upper]; the first bin takes 0 as well.

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
        n: its items; n_known: those of classes that the classifier can answer.
        temperature: of the least negative log-likelihood on validation, or on all out-of-fold answers; None without.
        ece, ece_scaled: expected calibration error of all n items.
        nll, nll_scaled: mean negative log-likelihood of the n_known items; None where there are none.
        bins, bins_scaled: reliability, equally wide bins in ascending order.

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
        truth: [n] names. folds: [n], at least two. shown: what the part of all these items is called.
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
    ece, nll, bins = _judge(chosen, answers)
    ece_scaled, nll_scaled, bins_scaled = (None, None, None) if scaled is None else _judge(scaled, answers)
    return Calibration(
        part=shown,
        n=len(answers),
        n_known=int((answers >= 0).sum()),
        temperature=temperature,
        ece=ece,
        ece_scaled=ece_scaled,
        nll=nll,
        nll_scaled=nll_scaled,
        bins=bins,
        bins_scaled=bins_scaled,
    )


def _judge(
    logits: Logits, codes: NDArray[np.int64]
) -> tuple[float, float | None, tuple[ReliabilityBin, ...]]:
    confidence = np.exp(log_softmax(logits).max(axis=1))
    # As everywhere, of equal logits the first class is the answer.
    correct = logits.argmax(axis=1) == codes
    known = codes >= 0
    nll = negative_log_likelihood(logits[known], codes[known]) if known.any() else None
    return expected_calibration_error(confidence, correct), nll, reliability(confidence, correct)


def class_codes(truth: ArrayLike, classes: Sequence[str]) -> NDArray[np.int64]:
    """Each truth's column; -1 for those that are not among `classes`."""
    index = {name: column for column, name in enumerate(classes)}
    return np.array([index.get(str(name), -1) for name in np.asarray(truth)], dtype=np.int64)


def reliability(
    confidence: ArrayLike, correct: ArrayLike, n_bins: int = N_BINS
) -> tuple[ReliabilityBin, ...]:
    """Equally wide bins of confidence [n] in [0, 1], with what share of their answers is right.

    Raises:
        ValueError: no items, lengths that differ, or confidences outside [0, 1].
    """
    sure, right = np.asarray(confidence, dtype=np.float64), np.asarray(correct, dtype=np.bool_)
    if sure.shape != right.shape or sure.ndim != 1 or len(sure) == 0:
        raise ValueError(f"need n >= 1 confidences and answers, got shapes {sure.shape} and {right.shape}")
    # Rounding may push a probability past 1 by a hair; NaN fails both comparisons.
    if not ((sure >= 0) & (sure <= 1 + 1e-6)).all():
        raise ValueError("confidences must lie in [0, 1]")
    edges = np.linspace(0.0, 1.0, n_bins + 1)
    place = np.searchsorted(edges[1:-1], sure, side="left")
    counts = np.bincount(place, minlength=n_bins)
    sums = (np.bincount(place, weights=weights, minlength=n_bins) for weights in (sure, right))
    confidences, hits = sums
    return tuple(
        ReliabilityBin(
            lower=float(edges[i]),
            upper=float(edges[i + 1]),
            n=int(n),
            confidence=float(confidences[i] / n) if n else None,
            accuracy=float(hits[i] / n) if n else None,
        )
        for i, n in enumerate(counts)
    )


def expected_calibration_error(confidence: ArrayLike, correct: ArrayLike, n_bins: int = N_BINS) -> float:
    """Mean over items of |accuracy - confidence| of their bin (equation 3 of Guo et al.).

    Raises:
        ValueError: as `reliability`.
    """
    bins = reliability(confidence, correct, n_bins)
    gaps = [
        (b.n, abs(b.accuracy - b.confidence))
        for b in bins
        if b.accuracy is not None and b.confidence is not None
    ]
    return sum(n * gap for n, gap in gaps) / sum(n for n, _ in gaps)


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
        logits: [n, C], n >= 1; codes: [n] columns.

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
