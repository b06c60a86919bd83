"""The heads that learn by gradient steps, one at a time: parameters, equality with the grid, a known optimum."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone

from deponij.pipeline.heads.gradient.grid import GridPoint, Recipe, fit_grid
from deponij.pipeline.heads.gradient.head import GradientHead
from deponij.pipeline.heads.gradient.linear import LinearHead
from deponij.pipeline.heads.gradient.mlp import MlpHead
from deponij.pipeline.heads.registry import load_head
from deponij.store.errors import DataError, UsageError

BOTH = pytest.mark.parametrize("kind", [LinearHead, MlpHead])


def two_gaussians(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Unit variance, 2 apart: Bayes accuracy is Phi(1) = 0.8413."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 2, size=n)
    rows = rng.normal(size=(n, 8)) + np.outer(codes - 0.5, np.eye(8)[0]) * 2
    return rows.astype(np.float32), np.array(["left", "right"])[codes]


@BOTH
def test_reaches_the_optimum_of_gaussian_classes(kind: type[GradientHead]) -> None:
    (X, y), (X_val, y_val), (X_test, y_test) = (
        two_gaussians(n, seed) for seed, n in enumerate((2000, 500, 4000))
    )
    head = kind(lr=3e-3).fit(X, y, X_val, y_val)
    # 4,000 test items have a standard error of 0.0058; what is learned is a little below the optimum.
    assert 0.8413 - 4 * 0.0058 < (head.predict(X_test) == y_test).mean() < 0.8413 + 3 * 0.0058
    assert head.val_top1_ == (head.predict(X_val) == y_val).mean()


@BOTH
def test_a_fit_is_a_grid_of_one_point(kind: type[GradientHead]) -> None:
    X, y = two_gaussians(200, seed=0)
    head = kind(0.01, 0.1, 4, 6, 16, 2, "balanced-softmax", 0.5).fit(X[:150], y[:150], X[150:], y[150:])
    rows = np.arange(200)
    (same,) = fit_grid(
        [GridPoint("x", "y", kind.kind, 0.01, 0.1, 4, "balanced-softmax", 0.5)],
        {"x": X},
        {"y": y},
        rows[:150],
        rows[150:],
        Recipe(epochs=6, batch=16, patience=2),
    )
    np.testing.assert_array_equal(head.decision_function(X), same.decision_function(X))
    assert head.get_params() == same.get_params()
    assert clone(head).get_params() == head.get_params()
    assert head.protocol == same.protocol
    assert "balanced softmax, tau = 0.5" in head.protocol
    assert f"epoch {head.best_epoch_} of {head.n_epochs_} by lowest validation loss" in head.protocol


@BOTH
def test_without_validation(kind: type[GradientHead], tmp_path: Path) -> None:
    X, y = two_gaussians(100, seed=0)
    head = kind(epochs=3).fit(X, y)
    assert np.isnan(head.val_loss_) and np.isnan(head.val_top1_)
    assert (head.best_epoch_, head.n_epochs_) == (3, 3)
    assert "no validation" in head.protocol
    head.save(tmp_path, [])
    again = load_head(tmp_path)
    assert isinstance(again, kind)
    assert np.isnan(again.val_loss_)
    assert again.recipe_ == head.recipe_
    assert again.protocol == head.protocol


@BOTH
def test_refusals(kind: type[GradientHead]) -> None:
    X, y = two_gaussians(20, seed=0)
    with pytest.raises(DataError, match="needs at least two classes"):
        kind().fit(X, ["a"] * 20)
    with pytest.raises(DataError, match="constant"):
        kind().fit(np.ones((20, 3)), y)
    with pytest.raises(DataError, match="width 8, validation features 7"):
        kind().fit(X, y, X[:, 1:], y)
    with pytest.raises(DataError, match="none of the 20 validation examples"):
        kind().fit(X, y, X, ["other"] * 20)
    with pytest.raises(UsageError, match="lr must be positive"):
        kind(lr=-1).fit(X, y)
    with pytest.raises(UsageError, match="epochs must be 1 or more"):
        kind(epochs=0).fit(X, y)


def test_a_fit_that_diverges_says_so() -> None:
    X, y = two_gaussians(20, seed=0)
    with pytest.raises(DataError, match=r"diverged at once with learning rate 1e\+200"):
        LinearHead(lr=1e200).fit(X.astype(np.float64) * 1e200, y)
