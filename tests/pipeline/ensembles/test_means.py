"""Means against hand-computed values."""

import numpy as np

from deponij.pipeline.ensembles.means import CalibratedMean, MeanOfLogits, MeanOfProbabilities
from deponij.pipeline.heads.head import softmax
from deponij.pipeline.metrics.calibration import fit_temperature

# Two members, one item, two classes. Probabilities are 0.8, 0.2 and 0.4, 0.6.
LOGITS = np.log([[[0.8, 0.2]], [[0.4, 0.6]]])
NONE = np.empty(0, dtype=np.int64)


def noisy(n: int, seed: int, noises: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 5, size=n)
    return np.array([2 * np.eye(5)[codes] + noise * rng.normal(size=(n, 5)) for noise in noises]), codes


def test_mean_of_logits_by_hand() -> None:
    found = MeanOfLogits().fit(LOGITS[:, :0], NONE).combine(LOGITS)
    # The geometric mean: sqrt(0.8 * 0.4) against sqrt(0.2 * 0.6).
    np.testing.assert_allclose(np.exp(found), [[0.32**0.5, 0.12**0.5]])


def test_mean_of_probabilities_by_hand() -> None:
    found = MeanOfProbabilities().fit(LOGITS[:, :0], NONE).combine(LOGITS + np.array([[[7]], [[-3]]]))
    np.testing.assert_allclose(np.exp(found), [[0.6, 0.4]])


def test_temperatures_are_those_of_the_members_alone() -> None:
    logits, codes = noisy(300, 0, (1.0, 3.0))
    logits[1] *= 20
    ensemble = CalibratedMean().fit(logits, codes)
    alone = [fit_temperature(member, codes) for member in logits]
    assert ensemble.temperatures_.tolist() == alone
    expected = (softmax(logits[0] / alone[0]) + softmax(logits[1] / alone[1])) / 2
    np.testing.assert_allclose(np.exp(ensemble.combine(logits)), expected)
    # A member that is far too sure no longer drowns the other.
    test, truth = noisy(3000, 1, (1.0, 3.0))
    test[1] *= 20
    plain = MeanOfLogits().fit(logits, codes).combine(test)
    assert (ensemble.combine(test).argmax(axis=1) == truth).mean() > (
        plain.argmax(axis=1) == truth
    ).mean() + 0.05
