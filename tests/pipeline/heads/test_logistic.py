"""The linear probe against scikit-learn itself, a known optimum, and bad input."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from deponij.pipeline.heads.choosing import halves, hold_out
from deponij.pipeline.heads.logistic import DEFAULT_CS, LogisticProbe
from deponij.store.errors import DataError, UsageError


def blobs(n: int, n_classes: int, dim: int, spread: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Unequal classes around random centres; columns of very different offset and scale."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(n_classes, dim))
    weights = 1 / np.arange(1, n_classes + 1)
    codes = rng.choice(n_classes, size=n, p=weights / weights.sum())
    scales, offsets = np.geomspace(0.01, 100, dim), np.linspace(-50, 50, dim)
    rows = (centres[codes] + spread * rng.normal(size=(n, dim))) * scales + offsets
    return rows.astype(np.float32), np.array([f"class {code}" for code in codes])


@pytest.mark.parametrize("n_classes", [2, 5])
def test_equals_scikit_learn_at_the_chosen_c(n_classes: int) -> None:
    X, y = blobs(300, n_classes, 12, 1.5, seed=0)
    probe = LogisticProbe(cs=(0.05,), tolerance=1e-8, max_iter=5000).fit(X, y)
    theirs = make_pipeline(StandardScaler(), LogisticRegression(C=0.05, tol=1e-8, max_iter=5000))
    theirs.fit(X.astype(np.float64), y)
    np.testing.assert_allclose(probe.predict_proba(X), theirs.predict_proba(X.astype(np.float64)), atol=1e-5)
    assert probe.classes_.tolist() == theirs.classes_.tolist()
    assert probe.trials_ == ()
    assert probe.chosen_on_ == "nothing"


def test_class_weights_are_scikit_learn_s() -> None:
    X, y = blobs(300, 5, 12, 1.5, seed=0)
    probe = LogisticProbe(cs=(0.05,), tolerance=1e-8, max_iter=5000, balance="class-weights").fit(X, y)
    model = LogisticRegression(C=0.05, tol=1e-8, max_iter=5000, class_weight="balanced")
    theirs = make_pipeline(StandardScaler(), model).fit(X.astype(np.float64), y)
    np.testing.assert_allclose(probe.predict_proba(X), theirs.predict_proba(X.astype(np.float64)), atol=1e-5)
    assert "classes weighed equally" in probe.protocol


def test_reaches_the_optimum_of_gaussian_classes() -> None:
    # Two unit Gaussians 2 apart: Bayes accuracy is Phi(1) = 0.8413; 4,000 test items have s.e. 0.0058.
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, size=8000)
    X = rng.normal(size=(8000, 8)) + np.outer(y - 0.5, np.eye(8)[0]) * 2
    names = np.array(["left", "right"])[y]
    probe = LogisticProbe().fit(X[:3000], names[:3000], X[3000:4000], names[3000:4000])
    assert probe.score(X[4000:], names[4000:]) == pytest.approx(0.8413, abs=3 * 0.0058)


def test_c_is_chosen_on_validation_not_on_training() -> None:
    # A tenth of the labels is wrong: hardly any penalty learns the noise by heart and generalises worse.
    rng = np.random.default_rng(1)
    y = rng.integers(0, 2, size=2120)
    X = rng.normal(size=(2120, 40)) + np.outer(y - 0.5, np.ones(40)) * 0.5
    y[:120] ^= rng.random(120) < 0.1
    names = np.array(["left", "right"])[y]
    train, val = slice(0, 120), slice(120, None)
    probe = LogisticProbe(cs=(1e-2, 1e3)).fit(X[train], names[train], X[val], names[val])
    scores = {trial.c: trial.top1 for trial in probe.trials_}
    assert probe.c_ == 1e-2
    assert scores[1e-2] > scores[1e3] + 0.05
    assert LogisticProbe(cs=(1e3,)).fit(X[train], names[train]).score(X[train], names[train]) == 1.0


def test_trials_are_scikit_learn_s_on_validation_that_lies_elsewhere() -> None:
    """Validation is standardised by the moments of training; by its own, what lies elsewhere would come home."""
    X, y = blobs(500, 4, 12, 2.5, seed=10)
    X[250:] += X[:250].std(axis=0)
    train, val = slice(0, 250), slice(250, None)
    probe = LogisticProbe(cs=(1e-3, 1e-2, 1e-1, 1.0)).fit(X[train], y[train], X[val], y[val])
    assert [trial.c for trial in probe.trials_] == [1e-3, 1e-2, 1e-1, 1.0]
    for trial in probe.trials_:
        theirs = make_pipeline(StandardScaler(), LogisticRegression(C=trial.c, tol=1e-8, max_iter=5000))
        theirs.fit(X[train].astype(np.float64), y[train])
        probs = theirs.predict_proba(X[val].astype(np.float64))
        assert trial.top1 == pytest.approx(theirs.score(X[val].astype(np.float64), y[val]), abs=4 / 250)
        assert trial.log_loss == pytest.approx(log_loss(y[val], probs, labels=theirs.classes_), rel=0.01)


def test_top1_comes_before_log_loss_and_log_loss_before_a_smaller_c() -> None:
    # Far apart, so that all penalties answer alike and the weakest is the surest.
    X, y = blobs(200, 3, 6, 0.1, seed=11)
    tied = LogisticProbe(cs=(0.1, 1.0)).fit(X[:100], y[:100], X[100:], y[100:])
    assert tied.trials_[0].top1 == tied.trials_[1].top1 == 1
    assert tied.c_ == 1.0
    # Of two figures that disagree, which this seed was sought for, top-1 decides.
    X, y = blobs(120, 3, 20, 3.0, seed=1)
    probe = LogisticProbe(cs=(1e-3, 1e-2, 1e-1, 1.0)).fit(X[:60], y[:60], X[60:], y[60:])
    by_top1 = max(probe.trials_, key=lambda trial: trial.top1)
    assert by_top1.c != min(probe.trials_, key=lambda trial: trial.log_loss).c
    assert probe.c_ == by_top1.c


def test_validation_changes_only_the_choice() -> None:
    X, y = blobs(400, 4, 10, 2.0, seed=2)
    chosen = LogisticProbe().fit(X[:300], y[:300], X[300:], y[300:])
    alone = LogisticProbe(cs=(chosen.c_,)).fit(X[:300], y[:300])
    np.testing.assert_array_equal(chosen.coef_, alone.coef_)


def test_without_validation_a_tenth_is_held_out_and_returns() -> None:
    X, y = blobs(200, 3, 10, 2.0, seed=3)
    probe = LogisticProbe(seed=5).fit(X, y)
    assert len(probe.trials_) == len(DEFAULT_CS)
    assert "held-out tenth of training" in probe.protocol
    np.testing.assert_array_equal(probe.coef_, LogisticProbe(cs=(probe.c_,)).fit(X, y).coef_)


def test_what_is_held_out_is_not_learned_from() -> None:
    """Features and classes of pure chance, wide enough to be learned by heart: on what is held out half are right."""
    rng = np.random.default_rng(12)
    X, y = rng.normal(size=(400, 600)), rng.choice(["a", "b"], size=400)
    probe = LogisticProbe(cs=(1e-2, 1.0, 100.0), seed=5).fit(X, y)
    assert probe.score(X, y) == 1
    # Of 40, the half, with three standard errors.
    assert all(abs(trial.top1 - 0.5) < 3 * (0.25 / 40) ** 0.5 for trial in probe.trials_)
    held = hold_out(y, seed=5)
    apart = LogisticProbe(cs=(1e-2, 1.0, 100.0)).fit(X[~held], y[~held], X[held], y[held])
    assert apart.trials_ == probe.trials_


def test_a_tenth_of_each_class_is_held_out_by_chance() -> None:
    names = np.repeat(["a", "b", "c", "d"], [100, 20, 2, 1])
    held = hold_out(names, seed=0)
    assert {str(name): int(held[names == name].sum()) for name in "abcd"} == {"a": 10, "b": 2, "c": 1, "d": 0}
    # Neighbours in a file are of one day or one photograph: not the first ones, and others by another seed.
    assert np.flatnonzero(held[:100]).tolist() != list(range(10))
    assert (hold_out(names, seed=1) != held).any()
    parts = halves(np.arange(123.0)[:, None], names, None, seed=0)
    assert set(parts.features.ravel()) | set(parts.validation[0].ravel()) == set(range(123))
    assert len(parts.names) + len(parts.validation[1]) == 123


def test_classes_with_one_example_are_learned() -> None:
    X, y = blobs(60, 3, 10, 0.5, seed=4)
    y[0], X[0] = "rare", X[0] + 1000
    probe = LogisticProbe().fit(X, y)
    assert "rare" in probe.classes_
    assert probe.predict(X[:1]).tolist() == ["rare"]


def test_one_example_a_class_leaves_nothing_to_choose_on() -> None:
    probe = LogisticProbe().fit(np.eye(3), ["a", "b", "c"])
    assert probe.chosen_on_ == "nothing"
    assert probe.predict(np.eye(3)).tolist() == ["a", "b", "c"]


def test_validation_classes_that_training_lacks_count_as_wrong() -> None:
    X, y = blobs(200, 3, 10, 0.2, seed=5)
    y_val = y[100:].copy()
    y_val[:50] = "never seen"
    probe = LogisticProbe().fit(X[:100], y[:100], X[100:], y_val)
    assert max(trial.top1 for trial in probe.trials_) == 0.5


def test_some_constant_columns_are_harmless() -> None:
    X, y = blobs(200, 3, 10, 1.0, seed=6)
    padded = np.hstack([X, np.full((200, 3), 7.25, dtype=np.float32)])
    probe, plain = LogisticProbe(cs=(0.1,)).fit(padded, y), LogisticProbe(cs=(0.1,)).fit(X, y)
    assert (probe.n_constant_, plain.n_constant_) == (3, 0)
    np.testing.assert_allclose(probe.predict_proba(padded), plain.predict_proba(X), atol=1e-4)


def test_convergence_is_told() -> None:
    X, y = blobs(300, 5, 12, 1.5, seed=7)
    assert LogisticProbe(cs=(1.0,)).fit(X, y).converged_
    assert not LogisticProbe(cs=(1.0,), max_iter=2).fit(X, y).converged_


def test_same_examples_same_bytes() -> None:
    X, y = blobs(300, 5, 12, 1.5, seed=8)
    first, second = (LogisticProbe().fit(X[:200], y[:200], X[200:], y[200:]) for _ in range(2))
    assert first.coef_.tobytes() == second.coef_.tobytes()
    assert first.c_ == second.c_


def test_half_precision_features_are_learned_in_full() -> None:
    X, y = blobs(200, 3, 6, 1.0, seed=9)
    half = (X / 1000).astype(np.float16)
    probe = LogisticProbe(cs=(0.1,)).fit(half, y)
    np.testing.assert_array_equal(probe.coef_, LogisticProbe(cs=(0.1,)).fit(half.astype(np.float64), y).coef_)


def test_scikit_learn_manners() -> None:
    probe = clone(LogisticProbe(cs=(0.1, 1.0), seed=3))
    assert probe.get_params() == {
        "cs": (0.1, 1.0),
        "max_iter": 1000,
        "tolerance": 1e-4,
        "seed": 3,
        "balance": "none",
    }
    assert "seed=3" in repr(probe)


def test_one_class_is_refused() -> None:
    with pytest.raises(DataError, match="all 3 training examples have the class 'a'"):
        LogisticProbe().fit(np.eye(3), ["a", "a", "a"])


def test_constant_features_are_refused() -> None:
    with pytest.raises(DataError, match="all 4 training examples have the same"):
        LogisticProbe().fit(np.ones((4, 3)), ["a", "b", "a", "b"])


def test_validation_without_a_trained_class_is_refused() -> None:
    with pytest.raises(DataError, match="none of the 2 validation examples"):
        LogisticProbe().fit(np.eye(4), list("aabb"), np.eye(4)[:2], ["x", "y"])


def test_validation_of_another_width_is_refused() -> None:
    with pytest.raises(DataError, match="width 4, validation features 3"):
        LogisticProbe().fit(np.eye(4), list("aabb"), np.eye(3), list("aab"))


@pytest.mark.parametrize(
    "params",
    [{"cs": ()}, {"cs": (0.0,)}, {"cs": (np.nan,)}, {"max_iter": 0}, {"tolerance": 0.0}, {"balance": "fair"}],
)
def test_parameters_out_of_range_are_refused(params: dict) -> None:
    with pytest.raises(UsageError, match="logistic regression"):
        LogisticProbe(**params).fit(np.eye(4), list("aabb"))
