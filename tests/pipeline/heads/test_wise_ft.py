"""The interpolated probe: its ends are zero-shot and the probe, what lies between is chosen on validation."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from deponij.pipeline.heads.softmax_regression import fit_pulled
from deponij.pipeline.heads.words.wise_ft import WiseFt
from deponij.pipeline.heads.words.zero_shot import ZeroShotClassifier
from deponij.store.errors import DataError, UsageError

CLASSES = np.array(["a", "b", "c"])


def images(n: int, seed: int, noise: float = 0.25) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 3, size=n)
    return np.eye(3, 8)[codes] + noise * rng.normal(size=(n, 8)), CLASSES[codes]


def texts(names: np.ndarray = CLASSES) -> dict[str, np.ndarray]:
    """Two texts a class whose directions are off the images', so that there is something to learn."""
    rng = np.random.default_rng(9)
    rows = np.concatenate([np.eye(len(names), 8)] * 2) + 0.5 * rng.normal(size=(2 * len(names), 8))
    return {"texts": rows, "text_names": np.concatenate([names, names])}


def zero_shot(known: dict[str, np.ndarray]) -> ZeroShotClassifier:
    return ZeroShotClassifier().fit(known["texts"], known["text_names"])


def test_alpha_0_is_zero_shot() -> None:
    X, y = images(60, seed=0)
    head = WiseFt(alphas=(0.0,)).fit(X, y, *images(30, seed=1), **texts())
    np.testing.assert_array_equal(head.decision_function(X), zero_shot(texts()).decision_function(X))


def test_alpha_1_is_the_probe_and_the_middle_their_mean() -> None:
    X, y = images(60, seed=0)
    ends = [WiseFt(cs=(1.0,), alphas=(alpha,)).fit(X, y, **texts()) for alpha in (0.0, 1.0)]
    middle = WiseFt(cs=(1.0,), alphas=(0.5,)).fit(X, y, **texts())
    np.testing.assert_allclose(middle.coef_, (ends[0].coef_ + ends[1].coef_) / 2, rtol=1e-5)
    units = X / np.linalg.norm(X, axis=1, keepdims=True)
    start = 100 * zero_shot(texts()).coef_.astype(float)
    probe = fit_pulled(units, np.searchsorted(CLASSES, y), start, 1.0).weight
    np.testing.assert_allclose(ends[1].coef_, probe / 100, rtol=1e-6)


def test_the_penalty_pulls_to_what_it_is_given() -> None:
    X, y = images(200, seed=2, noise=1.0)
    codes = np.searchsorted(CLASSES, y)
    # Pulled to zero it is scikit-learn's ridge-penalised fit without intercept.
    peer = LogisticRegression(C=0.3, fit_intercept=False, tol=1e-8, max_iter=1000).fit(X, y)
    found = fit_pulled(X, codes, np.zeros((3, 8)), 0.3, max_iter=1000)
    np.testing.assert_allclose(found.weight, peer.coef_, atol=2e-4)
    assert found.converged
    towards = np.random.default_rng(3).normal(size=(3, 8))
    np.testing.assert_allclose(fit_pulled(X, codes, towards, 1e-9).weight, towards, atol=1e-6)


def test_choice_is_the_best_on_validation_and_beats_zero_shot() -> None:
    X, y = images(120, seed=4)
    val, truth = images(90, seed=5)
    test, answers = images(400, seed=6)
    head = WiseFt().fit(X, y, val, truth, **texts())
    best = max(trial.top1 for trial in head.trials_)
    assert len(head.trials_) == 5 * 11
    assert (head.predict(val) == truth).mean() == pytest.approx(best)
    assert (head.predict(test) == answers).mean() > (zero_shot(texts()).predict(test) == answers).mean()


def test_classes_that_training_lacks_can_be_answered() -> None:
    X, y = images(60, seed=7)
    seen = y != "c"
    head = WiseFt(alphas=(0.5,)).fit(X[seen], y[seen], **texts())
    assert head.classes_.tolist() == ["a", "b", "c"]
    assert "c" in head.predict(X[~seen])


def test_without_validation_the_middle_is_taken() -> None:
    head = WiseFt().fit(*images(30, seed=8), **texts())
    assert (head.c_, head.alpha_, head.trials_) == (10.0, 0.5, ())
    assert "without validation" in head.protocol


def test_bad_input() -> None:
    X, y = images(30, seed=8)
    with pytest.raises(DataError, match=r"1 classes of training have no text vectors: \['c'\]"):
        WiseFt().fit(X, y, **texts(CLASSES[:2]))
    with pytest.raises(DataError, match="width 8, text vectors 5"):
        WiseFt().fit(X, y, texts=np.ones((3, 5)), text_names=CLASSES)
    with pytest.raises(UsageError, match="go together"):
        WiseFt().fit(X, y, texts=np.ones((3, 8)))
    with pytest.raises(UsageError, match=r"alphas must lie in 0\.\.1"):
        WiseFt(alphas=(2.0,)).fit(X, y)
    with pytest.raises(UsageError, match="cs must be positive"):
        WiseFt(cs=(0.0,)).fit(X, y)
