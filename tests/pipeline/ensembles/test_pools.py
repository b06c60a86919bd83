"""Weights of log-probabilities against a general-purpose optimiser, and in cases that are clear."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import log_softmax

from deponij.pipeline.ensembles.means import CalibratedMean
from deponij.pipeline.ensembles.pools import WeightedSum, pool_weights
from deponij.pipeline.metrics.calibration import negative_log_likelihood


def noisy(n: int, seed: int, noises: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 5, size=n)
    return np.array([2 * np.eye(5)[codes] + noise * rng.normal(size=(n, 5)) for noise in noises]), codes


def test_weights_are_the_optimum() -> None:
    logits, codes = noisy(400, 2, (1.0, 1.2, 2.5))
    ensemble = WeightedSum().fit(logits, codes)
    log_probs = log_softmax(logits / ensemble.temperatures_[:, None, None], axis=2)

    def loss(weights: np.ndarray) -> float:
        return negative_log_likelihood(np.tensordot(weights, log_probs, axes=1), codes)

    peer = minimize(loss, np.ones(3), method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-12})
    np.testing.assert_allclose(ensemble.weights_, peer.x, atol=1e-4)
    assert negative_log_likelihood(ensemble.combine(logits), codes) == pytest.approx(peer.fun)
    # Noises 1, 1.2 and 2.5 of their own: the optimum weighs logits by 1 / variance.
    found = ensemble.weights_ / ensemble.temperatures_
    np.testing.assert_allclose(found / found[0], [1, 1 / 1.2**2, 1 / 2.5**2], atol=0.15)


def test_better_than_equal_shares_where_members_differ() -> None:
    val, test = noisy(400, 3, (1.0, 4.0, 4.0)), noisy(4000, 4, (1.0, 4.0, 4.0))
    losses = [
        negative_log_likelihood(rule.fit(*val).combine(test[0]), test[1])
        for rule in (WeightedSum(), CalibratedMean())
    ]
    assert losses[0] < losses[1] - 0.05


def test_members_that_mislead_get_no_weight() -> None:
    logits, codes = noisy(300, 5, (1.0, 1.0))
    logits[1] *= -1
    ensemble = WeightedSum().fit(logits, codes)
    np.testing.assert_allclose(ensemble.shares_, [1, 0], atol=1e-6)
    # Where all do, the answers are almost uniform, but there are some.
    alone = WeightedSum().fit(logits[1:], codes)
    assert np.ptp(alone.combine(logits[1:]), axis=1).max() < 0.1
    assert alone.shares_.tolist() == [1]


def test_answers_without_an_error_end_at_the_bound() -> None:
    logits = 3 * np.eye(4)[None, :, :] - 1
    assert (pool_weights(log_softmax(logits, axis=2), np.arange(4)) <= 10).all()
