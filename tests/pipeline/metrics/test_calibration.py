"""Calibration: by hand, against scikit-learn and a search by brute force."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.stats import binom
from sklearn.calibration import calibration_curve
from sklearn.metrics import log_loss

from deponij.pipeline.heads.head import softmax
from deponij.pipeline.metrics.calibration import (
    calibration,
    class_codes,
    cross_calibration,
    error_by_chance,
    expected_calibration_error,
    fit_temperature,
    negative_log_likelihood,
    reliability,
)

CLASSES = ["a", "b", "c", "d"]


def made(n: int, sharpness: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits and codes drawn from softmax(logits / sharpness): the right temperature is `sharpness`."""
    rng = np.random.default_rng(seed)
    honest = 1.5 * rng.normal(size=(n, len(CLASSES)))
    codes = np.array([rng.choice(len(CLASSES), p=row) for row in softmax(honest)])
    return sharpness * honest, codes


def test_error_by_hand() -> None:
    # The median is 0.8: (0, 0.8] has confidences 0.4, 0.5, 0.8 and one of three right, |1/3 - 17/30| = 7/30;
    # (0.8, 1] has 0.9, 1.0 and one of two right, |1/2 - 0.95| = 0.45.
    confidence, correct = [0.4, 0.9, 0.5, 1.0, 0.8], [True, False, False, True, False]
    low, high = reliability(confidence, correct, n_bins=2)
    assert (low.n, low.lower, low.upper, high.n, high.upper) == (3, 0.4, 0.8, 2, 1.0)
    assert (low.confidence, low.accuracy) == pytest.approx((17 / 30, 1 / 3))
    assert (high.confidence, high.accuracy) == pytest.approx((0.95, 0.5))
    assert expected_calibration_error(confidence, correct, 2) == pytest.approx((3 * 7 / 30 + 2 * 0.45) / 5)


@pytest.mark.parametrize(
    ("n", "n_bins"), [(1, 1), (8, 2), (36, 3), (100, 5), (1000, 10), (3375, 15), (20_000, 15)]
)
def test_the_cube_root_of_n_bins_hold_as_many_items_each(n: int, n_bins: int) -> None:
    bins = reliability(np.random.default_rng(0).uniform(0.2, 1, n), np.ones(n, dtype=bool))
    assert len(bins) == n_bins
    assert sum(one.n for one in bins) == n
    assert max(one.n for one in bins) - min(one.n for one in bins) <= 1


def test_equal_confidences_stay_together_and_no_bin_is_empty() -> None:
    assert [one.n for one in reliability([1.0, 1.0], [True, False])] == [2]
    bins = reliability([0.3] * 2 + [1.0] * 98, [True] * 100)
    assert [(one.n, one.upper) for one in bins] == [(100, 1.0)]


@pytest.mark.parametrize("sharpness", [0.3, 1.0, 4.0])
def test_bins_are_scikit_learn_s(sharpness: float) -> None:
    logits, codes = made(400, sharpness)
    probs = softmax(logits)
    sure, right = probs.max(axis=1), probs.argmax(axis=1) == codes
    # The cube root of 400 is 7.4.
    shares, confidences = calibration_curve(right, sure, n_bins=7, strategy="quantile")
    bins = reliability(sure, right)
    assert [one.accuracy for one in bins] == pytest.approx(shares, abs=1e-5)
    assert [one.confidence for one in bins] == pytest.approx(confidences, abs=1e-5)


def test_an_error_by_chance_is_what_perfect_probabilities_have() -> None:
    # One bin of n equal confidences p: the mean |hits / n - p| of a binomial distribution, summed by hand.
    n, p = 8, 0.7
    expected = sum(binom.pmf(k, n, p) * abs(k / n - p) for k in range(n + 1))
    assert error_by_chance([p] * n) == pytest.approx(expected, rel=0.1)
    assert error_by_chance([1.0] * 5) == 0
    # Ten times the items, about a square root of ten less in one bin.
    assert error_by_chance([p] * 800) == pytest.approx(error_by_chance([p] * n) / 10, rel=0.2)


def test_perfect_probabilities_have_about_the_error_of_chance_and_others_more() -> None:
    errors = []
    for seed in range(40):
        logits, codes = made(36, 1.0, seed)
        probs = softmax(logits)
        sure = probs.max(axis=1)
        errors.append(expected_calibration_error(sure, probs.argmax(axis=1) == codes) / error_by_chance(sure))
    assert np.mean(errors) == pytest.approx(1.0, abs=0.15)
    logits, codes = made(2000, 4.0)
    probs = softmax(logits)
    sure = probs.max(axis=1)
    assert expected_calibration_error(sure, probs.argmax(axis=1) == codes) > 5 * error_by_chance(sure)


def test_likelihood_equals_scikit_learn() -> None:
    logits, codes = made(200, 2.0)
    assert negative_log_likelihood(logits, codes) == pytest.approx(
        log_loss(codes, softmax(logits), labels=range(4)), abs=1e-9
    )
    # Far logits do not overflow: -log softmax of (1000, 0) at the second is 1000.
    assert negative_log_likelihood(np.array([[1000.0, 0.0]]), np.array([1])) == 1000


def test_temperature_equals_brute_force() -> None:
    for sharpness in (0.02, 0.5, 3.0, 40.0):
        logits, codes = made(300, sharpness, seed=4)
        fitted = fit_temperature(logits, codes)
        grid = sharpness * np.exp(np.linspace(-1, 1, 4001))
        losses = [negative_log_likelihood(logits / t, codes) for t in grid]
        assert fitted == pytest.approx(grid[int(np.argmin(losses))], rel=1e-3)
        assert negative_log_likelihood(logits / fitted, codes) <= min(losses) + 1e-12
        # It is an estimate of what the data were made with.
        assert fitted == pytest.approx(sharpness, rel=0.2)


@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_temperature_follows_the_scale_of_logits(factor: float) -> None:
    logits, codes = made(150, 1.0, seed=2)
    expected = factor * fit_temperature(logits, codes)
    assert fit_temperature(factor * logits, codes) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("size", [1e3, 1e9, 1e15, 1e300])
def test_one_wild_row_that_is_right_changes_nothing(size: float) -> None:
    """It has the likelihood 1 at any temperature. Expected: SciPy's minimum over the others, searched over log T."""
    logits, codes = made(200, 0.02, seed=6)
    alone = minimize_scalar(
        lambda log_t: log_loss(codes, softmax(logits / np.exp(log_t)), labels=range(4)),
        bracket=(np.log(0.01), np.log(0.05)),
        options={"xtol": 1e-10},
    )
    wild = np.zeros((1, 4))
    wild[0, 2] = size
    with_wild = fit_temperature(np.concatenate([logits, wild]), np.append(codes, 2))
    assert with_wild == pytest.approx(np.exp(alone.x), rel=1e-6)


@pytest.mark.parametrize("size", [1e3, 1e9, 1e15])
def test_one_wild_row_that_is_wrong_is_weighed_with_the_others(size: float) -> None:
    """Expected: a fine grid over all temperatures that could be meant."""
    logits, codes = made(200, 0.02, seed=6)
    wild = np.array([[size, 0, 0, 0]])
    logits, codes = np.concatenate([logits, wild]), np.append(codes, 1)
    grid = np.exp(np.linspace(np.log(0.01), np.log(size), 4001))
    losses = [negative_log_likelihood(logits / t, codes) for t in grid]
    assert negative_log_likelihood(logits / fit_temperature(logits, codes), codes) <= min(losses) + 1e-12


def test_temperature_where_validation_cannot_tell() -> None:
    logits, _ = made(20, 1.0)
    assert fit_temperature(logits, logits.argmax(axis=1)) == 1.0
    assert fit_temperature(np.zeros((5, 3)), np.array([0, 1, 2, 0, 1])) == 1.0
    # Answers that are always wrong: the more uniform, the better.
    worst = fit_temperature(logits, logits.argmin(axis=1))
    assert softmax(logits / worst).max() < 0.251


def test_scaling_is_fitted_on_validation_and_judged_on_test() -> None:
    logits, codes = made(900, 5.0, seed=1)
    parts = np.array(["train", "val", "test"])[np.arange(900) % 3]
    truth = np.array(CLASSES)[codes]
    found = calibration(logits, truth, parts, CLASSES, "test")
    val, test = parts == "val", parts == "test"
    assert found.temperature == pytest.approx(fit_temperature(logits[val], codes[val]), rel=1e-5)
    assert (found.part, found.n, found.n_known) == ("test", 300, 300)
    for factor, ece, nll in (
        (1.0, found.ece, found.nll),
        (found.temperature, found.ece_scaled, found.nll_scaled),
    ):
        probs = softmax(logits[test] / factor)
        correct = probs.argmax(axis=1) == codes[test]
        assert ece == pytest.approx(expected_calibration_error(probs.max(axis=1), correct), rel=1e-5)
        assert nll == pytest.approx(log_loss(codes[test], probs, labels=range(4)), rel=1e-5)
    assert found.ece_scaled < found.ece / 2
    assert sum(one.n for one in found.bins) == sum(one.n for one in found.bins_scaled) == 300


def test_classes_that_cannot_be_answered_are_wrong_but_have_no_likelihood() -> None:
    logits = np.array([[2.0, 0.0], [2.0, 0.0]])
    found = calibration(logits, ["a", "z"], ["test", "test"], ["a", "b"], "test")
    sure = 1 / (1 + np.exp(-2))
    assert (found.n, found.n_known, found.temperature, found.ece_scaled) == (2, 1, None, None)
    assert found.ece == pytest.approx(abs(0.5 - sure))
    assert found.nll == pytest.approx(-np.log(sure))
    assert class_codes(["b", "z", "a"], ["a", "b"]).tolist() == [1, -1, 0]
    strangers = calibration(logits, ["y", "z"], ["val", "test"], ["a", "b"], "test")
    assert (strangers.temperature, strangers.nll, strangers.n_known) == (None, None, 0)


def test_nothing_scaled_is_shown_of_the_part_that_it_was_fitted_on() -> None:
    logits, codes = made(60, 2.0)
    found = calibration(logits, np.array(CLASSES)[codes], ["val"] * 60, CLASSES, "val")
    assert found.temperature is not None
    assert (found.ece_scaled, found.nll_scaled, found.bins_scaled) == (None, None, None)


@pytest.mark.parametrize(
    ("confidence", "correct"), [([], []), ([0.5], [True, False]), ([1.5], [True]), ([np.nan], [True])]
)
def test_impossible_confidences_are_refused(confidence: list[float], correct: list[bool]) -> None:
    with pytest.raises(ValueError, match="confidences"):
        reliability(confidence, correct)


def test_impossible_codes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"0\.\.1, got -1\.\.1"):
        fit_temperature(np.zeros((2, 2)), np.array([-1, 1]))
    with pytest.raises(ValueError, match="n >= 1"):
        negative_log_likelihood(np.zeros((0, 2)), np.array([], dtype=int))


def test_out_of_fold_answers_are_scaled_by_the_other_folds_and_unknown_truths_teach_nothing() -> None:
    logits, codes = made(90, 3.0, seed=4)
    truth = np.array(CLASSES, dtype=object)[codes]
    # Of a class that no answer can be: wrong whatever is said, and no column to fit a temperature on.
    truth[::7] = "strange"
    known, folds = truth != "strange", np.arange(90) % 3
    found = cross_calibration(logits, truth, folds, CLASSES, "test")
    scaled = np.vstack(
        [
            logits[known & (folds == fold)]
            / fit_temperature(logits[known & (folds != fold)], codes[known & (folds != fold)])
            for fold in range(3)
        ]
    )
    expected = np.concatenate([codes[known & (folds == fold)] for fold in range(3)])
    assert (found.n, found.n_known, found.part) == (90, 77, "test")
    assert found.nll == pytest.approx(
        log_loss(codes[known], softmax(logits[known]), labels=range(4)), rel=1e-5
    )
    assert found.nll_scaled == pytest.approx(log_loss(expected, softmax(scaled), labels=range(4)), rel=1e-5)
    assert found.temperature == pytest.approx(fit_temperature(logits[known], codes[known]), rel=1e-5)
