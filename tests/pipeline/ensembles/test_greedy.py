"""Greedy selection, round by round."""

import numpy as np
import pytest
from scipy.special import log_softmax

from deponij.pipeline.ensembles.greedy import GreedySelection
from deponij.pipeline.metrics.calibration import fit_temperature, negative_log_likelihood
from deponij.store.errors import UsageError


def noisy(n: int, seed: int, noises: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 5, size=n)
    return np.array([2 * np.eye(5)[codes] + noise * rng.normal(size=(n, 5)) for noise in noises]), codes


def plain_selection(log_probs: np.ndarray, codes: np.ndarray, rounds: int) -> list[int]:
    """The paper's loop, written out: all means are made and scored anew."""
    taken: list[int] = []
    best: list[float] = []
    for _ in range(rounds):
        means = [log_probs[[*taken, member]].mean(axis=0) for member in range(len(log_probs))]
        losses = [negative_log_likelihood(mean / fit_temperature(mean, codes), codes) for mean in means]
        taken.append(int(np.argmin(losses)))
        best.append(min(losses))
    n_kept = next(place for place, loss in enumerate(best, 1) if loss <= min(best) + 1 / len(codes))
    return taken[:n_kept]


def test_equals_the_plain_loop() -> None:
    logits, codes = noisy(150, 0, (1.0, 1.1, 1.3, 3.0, 1.2))
    ensemble = GreedySelection(rounds=12).fit(logits, codes)
    log_probs = log_softmax(logits / ensemble.temperatures_[:, None, None], axis=2)
    taken = plain_selection(log_probs, codes, 12)
    assert ensemble.counts_.tolist() == np.bincount(taken, minlength=5).tolist()
    assert len(taken) > 3
    np.testing.assert_allclose(ensemble.shares_, ensemble.counts_ / len(taken))
    sharpness = ensemble.weights_.sum()
    np.testing.assert_allclose(ensemble.combine(logits), sharpness * log_probs[taken].mean(axis=0))


def test_a_useless_member_is_not_taken() -> None:
    logits, codes = noisy(200, 1, (1.0, 1.0))
    noise = np.random.default_rng(2).normal(size=logits[0].shape)
    ensemble = GreedySelection().fit(np.array([noise, *logits]), codes)
    assert ensemble.shares_[0] < 0.05
    assert ensemble.shares_[1:].min() > 0.3


def test_the_first_is_the_best_alone() -> None:
    logits, codes = noisy(200, 3, (2.0, 1.0, 2.0))
    assert GreedySelection(rounds=1).fit(logits, codes).counts_.tolist() == [0, 1, 0]


def test_rounds_out_of_range_are_refused() -> None:
    with pytest.raises(UsageError, match="rounds must be at least 1"):
        GreedySelection(rounds=0).fit(*noisy(3, 0, (1.0,)))
