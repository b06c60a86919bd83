"""What augmentations of stored features are, by their definitions."""

import numpy as np
import pytest
import torch

from deponij.pipeline.heads.augment import crops, noise_like, some_flipped
from deponij.pipeline.heads.gradient.grid import GridPoint, fit_grid
from deponij.pipeline.heads.gradient.linear import LinearHead
from deponij.pipeline.heads.gradient.recipe import Recipe


def test_a_crop_keeps_one_rectangle_of_at_least_its_share() -> None:
    seen = crops(500, 7, 9, 0.5, np.random.default_rng(0))
    assert seen.shape == (500, 7, 9)
    for one in seen:
        rows, columns = np.flatnonzero(one.any(1)), np.flatnonzero(one.any(0))
        assert (np.diff(rows) == 1).all() and (np.diff(columns) == 1).all()
        assert one[np.ix_(rows, columns)].all() and one.sum() == len(rows) * len(columns)
        assert len(rows) >= 4 and len(columns) >= 5  # half of 7 and of 9, rounded up
    # Every size and every corner comes up.
    assert {one.any(1).sum() for one in seen} == {4, 5, 6, 7}
    assert {one.any(0).argmax() for one in seen} == {0, 1, 2, 3, 4}


def test_a_crop_of_all_is_all() -> None:
    assert crops(5, 3, 2, 1.0, np.random.default_rng(0)).all()


def test_noise_has_the_stated_deviation_and_no_mean() -> None:
    noise = noise_like(torch.zeros(200, 16, 9), np.random.default_rng(1))
    assert noise.dtype == torch.float32
    # Of 28,800 draws both are known to about 1 / sqrt(n) = 0.006.
    assert abs(float(noise.std()) - 1) < 0.02 and abs(float(noise.mean())) < 0.02


def test_half_of_the_pictures_are_flipped_and_flipped_back() -> None:
    maps = np.random.default_rng(2).normal(size=(1000, 4, 2, 3)).astype(np.float16)
    mirrored = maps[..., ::-1]
    some = some_flipped(maps, mirrored, np.random.default_rng(3))
    is_flipped = (some == mirrored).all(axis=(1, 2, 3))
    assert ((some == maps).all(axis=(1, 2, 3)) ^ is_flipped).all()
    assert 400 < is_flipped.sum() < 600
    # The same draw undoes it.
    back = some_flipped(some, some[..., ::-1], np.random.default_rng(3))
    np.testing.assert_array_equal(back, maps)


def vectors(n: int = 90) -> tuple[np.ndarray, np.ndarray]:
    """Three classes in eight dimensions of unequal deviation."""
    rng = np.random.default_rng(4)
    codes = np.arange(n) % 3
    rows = (np.eye(3, 8)[codes] + 0.4 * rng.normal(size=(n, 8))) * np.geomspace(0.1, 10, 8)
    return rows.astype(np.float32), np.array(["a", "b", "c"])[codes]


def test_the_first_step_of_a_linear_head_sees_the_features_with_noise() -> None:
    """One step on all examples, by autograd: x + 0.5 deviations of the training features times the seed's own draws."""
    X, y = vectors()
    head = LinearHead(lr=0.01, weight_decay=0.0, seed=3, epochs=1, batch=90, noise=0.5).fit(X, y)
    drawn = np.random.default_rng([3, 1]).standard_normal((90, 16), dtype=np.float32)[:, :8]
    order = np.random.default_rng(3).permutation(90)
    noisy = torch.from_numpy(X[order] + 0.5 * X.std(axis=0) * drawn)
    layer = torch.nn.Linear(8, 3)
    torch.manual_seed(3)
    layer.reset_parameters()
    optimiser = torch.optim.AdamW(layer.parameters(), lr=0.01, weight_decay=0.0)
    codes = torch.from_numpy(np.searchsorted(["a", "b", "c"], y[order]))
    torch.nn.functional.cross_entropy(layer(noisy), codes).backward()
    optimiser.step()
    np.testing.assert_allclose(head.coef_, layer.weight.detach().numpy(), rtol=1e-5, atol=1e-6)
    assert "noise of 0.5 standard deviations" in head.protocol


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_noise_is_of_the_seed_whoever_is_trained_beside(kind: str) -> None:
    X, y = vectors()
    rows, recipe = np.arange(90), Recipe(epochs=3, batch=16, noise=0.3)
    points = [GridPoint("x", "y", kind, lr, 0.01, seed) for seed in (0, 1) for lr in (0.01, 0.03)]
    inputs = ({"x": X}, {"y": y}, rows[:60], rows[60:], recipe)
    together = fit_grid([*points, GridPoint("x", "y", kind, 0.02, 0.01, 2)], *inputs)
    for point, head in zip(points, together, strict=False):
        (alone,) = fit_grid([point], *inputs)
        for name in head._tensors():
            np.testing.assert_allclose(head._tensors()[name], alone._tensors()[name], rtol=1e-4, atol=1e-6)
    quiet = fit_grid(points, *inputs[:4], Recipe(epochs=3, batch=16))
    assert not np.allclose(quiet[0]._tensors()["weight"], together[0]._tensors()["weight"], atol=1e-4)
