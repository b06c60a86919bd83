"""The cache against its formula, by hand and for other sizes of blocks."""

import numpy as np
import pytest

from deponij.pipeline import unit_vectors
from deponij.pipeline.heads.words.tip_adapter import TipAdapter
from deponij.pipeline.heads.words.zero_shot import ZeroShotClassifier
from deponij.store.errors import UsageError

CLASSES = np.array(["a", "b", "c"])
TEXTS = {"texts": np.eye(3, 8) + 0.3, "text_names": CLASSES}


def images(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 3, size=n)
    return np.eye(3, 8)[codes] + 0.25 * rng.normal(size=(n, 8)), CLASSES[codes]


def test_alpha_0_is_zero_shot() -> None:
    X, y = images(50, seed=0)
    zero_shot = ZeroShotClassifier().fit(TEXTS["texts"], TEXTS["text_names"])
    for validation in ((None, None), images(20, seed=1)):
        head = TipAdapter(alphas=(0.0,)).fit(X, y, *validation, **TEXTS)
        np.testing.assert_array_equal(head.decision_function(X), zero_shot.decision_function(X))


def test_by_hand() -> None:
    # Cached: (1, 0) of a, (0, 1) twice of b. To (1, 0) the affinities are 1 and exp(-2) each.
    texts = {"texts": np.array([[0.6, 0.8], [1.0, 0.0]]), "text_names": ["a", "b"]}
    head = TipAdapter(alphas=(3.0,), betas=(2.0,), scale=10)
    head.fit([[0, 5], [2, 0], [0, 1]], ["b", "a", "b"], **texts)
    expected = [[10 * 0.6 + 3, 10 * 1 + 3 * 2 * np.exp(-2)]]
    np.testing.assert_allclose(head.decision_function([[4, 0]]), expected, rtol=1e-6)


def test_classes_without_cached_examples_keep_their_zero_shot_logits() -> None:
    X, y = images(50, seed=2)
    head = TipAdapter().fit(X[y != "b"], y[y != "b"], **TEXTS)
    zero_shot = ZeroShotClassifier().fit(TEXTS["texts"], TEXTS["text_names"])
    difference = head.decision_function(X) - zero_shot.decision_function(X)
    assert (difference[:, 1] == 0).all()
    assert (difference[:, [0, 2]] > 0).all()


def test_choice_is_the_best_on_validation() -> None:
    X, y = images(60, seed=3)
    val, truth = images(40, seed=4)
    head = TipAdapter().fit(X, y, val, truth, **TEXTS)
    assert len(head.trials_) == 10 * 7
    assert (head.predict(val) == truth).mean() == max(trial.top1 for trial in head.trials_)
    alone = TipAdapter().fit(X, y, **TEXTS)
    assert (alone.alpha_, alone.beta_) == (1.0, 5.5)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = images(40, seed=5)
    head = TipAdapter().fit(X, y, **TEXTS)
    whole = head.decision_function(X)
    monkeypatch.setattr(unit_vectors, "BLOCK_CELLS", 3 * len(X))
    np.testing.assert_allclose(head.decision_function(X), whole, rtol=1e-12)


def test_parameters_out_of_range_are_refused() -> None:
    with pytest.raises(UsageError, match="betas must be numbers from 0"):
        TipAdapter(betas=(-1.0,)).fit(*images(5, seed=0))
    with pytest.raises(UsageError, match="scale must be positive"):
        TipAdapter(scale=0).fit(*images(5, seed=0))
