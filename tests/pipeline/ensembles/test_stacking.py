"""Stacking: it stays near the weighted sum with few items, learns from many, and answers validation out of fold."""

import numpy as np
import pytest

from deponij.pipeline.ensembles.ensemble import folds
from deponij.pipeline.ensembles.means import CalibratedMean
from deponij.pipeline.ensembles.pools import WeightedSum, pool_weights
from deponij.pipeline.ensembles.stacking import DEFAULT_CS, Stacking
from deponij.pipeline.heads.softmax_regression import fit_pulled
from deponij.pipeline.metrics.calibration import log_softmax, negative_log_likelihood
from deponij.store.errors import UsageError


def specialists(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two members; each knows two of four classes and always names its other two's neighbour instead."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 4, size=n)
    first = np.where(codes < 2, codes, 2)
    second = np.where(codes >= 2, codes, 0)
    return np.array([2 * np.eye(4)[named] + rng.normal(size=(n, 4)) for named in (first, second)]), codes


def test_learns_whom_to_trust_on_what() -> None:
    ensemble = Stacking().fit(*specialists(600, seed=0))
    mean = CalibratedMean().fit(*specialists(600, seed=0))
    test, truth = specialists(4000, seed=1)
    top1 = [(one.combine(test).argmax(axis=1) == truth).mean() for one in (ensemble, mean)]
    assert top1[0] > top1[1] + 0.05


def test_a_strong_pull_gives_the_weighted_sum() -> None:
    logits, codes = specialists(50, seed=2)
    ensemble = Stacking(cs=(1e-9,)).fit(logits, codes)
    expected = WeightedSum().fit(logits, codes).combine(logits)
    np.testing.assert_allclose(ensemble.combine(logits), expected, rtol=1e-5, atol=1e-5)


def test_validation_is_answered_out_of_fold() -> None:
    logits, codes = specialists(60, seed=3)
    ensemble = Stacking(cs=(1.0,), folds=4, seed=5).fit(logits, codes)
    apart = ensemble.out_of_fold(logits, codes)
    log_probs = log_softmax(logits / ensemble.temperatures_[:, None, None])
    inputs = np.concatenate(list(log_probs), axis=1)
    fold = folds(codes, 4, seed=5)
    for number in range(4):
        left_out = fold == number
        towards = np.kron(pool_weights(log_probs[:, ~left_out], codes[~left_out]), np.eye(4))
        weight = fit_pulled(inputs[~left_out], codes[~left_out], towards, 1.0).weight
        np.testing.assert_allclose(apart[left_out], inputs[left_out] @ weight.T)
    loss = negative_log_likelihood(apart, codes)
    assert ensemble.trials_ == ((1.0, loss),)
    # Answers by the fit on these very items flatter.
    assert negative_log_likelihood(ensemble.combine(logits), codes) < loss - 0.02


def test_the_choice_of_the_pull_keeps_few_items_from_being_learned_by_heart() -> None:
    rng = np.random.default_rng(4)

    def draw(n: int) -> tuple[np.ndarray, np.ndarray]:
        codes = rng.integers(0, 8, size=n)
        noises = (1.0, 4.0, 4.0, 4.0)
        return np.array([2 * np.eye(8)[codes] + noise * rng.normal(size=(n, 8)) for noise in noises]), codes

    val, test = draw(80), draw(3000)
    losses = {
        cs: negative_log_likelihood(Stacking(cs=cs).fit(*val).combine(test[0]), test[1])
        for cs in ((1e3,), DEFAULT_CS)
    }
    # Knowing nothing costs log 8 = 2.1; almost without a pull the fit is worse than that.
    assert losses[1e3,] > np.log(8)
    assert losses[DEFAULT_CS] < 1.1


def test_folds_spread_each_class() -> None:
    codes = np.repeat([0, 1, 2, 3], [10, 5, 2, 1])
    fold = folds(codes, 5, seed=0)
    assert sorted(np.bincount(fold).tolist()) == [3, 3, 4, 4, 4]
    assert np.bincount(fold[codes == 0]).tolist() == [2] * 5
    assert np.bincount(fold[codes == 1]).tolist() == [1] * 5


def test_parameters_out_of_range_are_refused() -> None:
    with pytest.raises(UsageError, match="folds must be at least 2"):
        Stacking(folds=1).fit(*specialists(10, seed=0))
