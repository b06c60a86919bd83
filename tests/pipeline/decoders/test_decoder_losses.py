"""Losses against hand-computed and plain values."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from deponij.pipeline.decoders.losses import (
    VOID,
    boundary_aware,
    boundary_weights,
    class_weights,
    cross_entropy,
    distances_to_others,
)

LOSSES = [cross_entropy, boundary_aware]


def test_cross_entropy_is_the_mean_over_pixels_with_a_class() -> None:
    """Two pixels with p = 1/4 and 3/4 for their classes, and one of which nothing is said."""
    logits = torch.log(torch.tensor([[0.25, 0.25, 0.5], [0.75, 0.75, 0.5]])).reshape(1, 2, 1, 3)
    targets = torch.tensor([[[0, 1, VOID]]])
    wanted = (math.log(4) + math.log(4 / 3)) / 2
    assert cross_entropy(logits, targets).item() == pytest.approx(wanted)
    weighted = (3 * math.log(4) + 1 * math.log(4 / 3)) / 4
    assert cross_entropy(logits, targets, [3, 1]).item() == pytest.approx(weighted)
    # A fifth of each target lies on both classes alike: -Σ q log p with q = .9 and .1.
    smoothed = (0.9 * math.log(4) + 0.1 * math.log(4 / 3) + 0.9 * math.log(4 / 3) + 0.1 * math.log(4)) / 2
    assert cross_entropy(logits, targets, smoothing=0.2).item() == pytest.approx(smoothed)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("weights", [None, [0.5, 1.0, 80_000.0]])
def test_logits_in_half_precision_lose_by_their_values(loss: Any, dtype: torch.dtype, weights: Any) -> None:
    """Sums over 200 x 200 pixels, and the weight of a rare class, are beyond the largest number of float16 (65,504)."""
    logits = torch.randn(2, 3, 200, 200, generator=torch.Generator().manual_seed(0)).to(dtype)
    targets = torch.randint(0, 3, (2, 200, 200), generator=torch.Generator().manual_seed(1))
    half = loss(logits.requires_grad_(), targets, weights)
    assert half.dtype == torch.float32 and half > 0
    assert half.item() == pytest.approx(loss(logits.float(), targets, weights).item(), rel=1e-6)
    half.backward()
    assert logits.grad is not None and logits.grad.abs().sum() > 0


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("weights", [None, [0.5, 1.0, 2.0]])
def test_void_has_no_part(loss: object, weights: list[float] | None) -> None:
    assert callable(loss)
    logits = torch.randn(2, 3, 6, 5, requires_grad=True)
    targets = torch.randint(0, 3, (2, 6, 5))
    targets[0, :3] = targets[1, 2, 2] = VOID
    loss(logits, targets, weights).backward()
    assert logits.grad is not None
    moved = logits.grad.abs().sum(1) > 0
    assert torch.equal(moved, targets != VOID)

    with torch.no_grad():
        kept = loss(logits, targets, weights)
        logits.transpose(0, 1)[:, targets == VOID] += 5
        assert loss(logits, targets, weights) == kept


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("weights", [None, [0.5, 1.0, 2.0]])
def test_nothing_but_void_is_nothing(loss: object, weights: list[float] | None) -> None:
    assert callable(loss)
    logits = torch.randn(1, 3, 4, 4, requires_grad=True)
    found = loss(logits, torch.full((1, 4, 4), VOID), weights)
    found.backward()
    assert found.item() == 0
    assert logits.grad is not None
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_distances_are_to_the_nearest_pixel_of_another_class() -> None:
    """By trying all pairs; some classes lie in one corner, some all over."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 4, (3, 4))
    maps = [np.repeat(np.repeat(coarse, 5, 0), 6, 1), rng.integers(0, 2, (9, 7)), np.eye(6, dtype=int)]
    for label_map in maps:
        places = np.argwhere(np.ones(label_map.shape, bool))
        far = np.linalg.norm(places[:, None] - places[None], axis=2)
        far[label_map.ravel()[:, None] == label_map.ravel()[None]] = np.inf
        np.testing.assert_allclose(distances_to_others(label_map).ravel(), far.min(axis=1))
    assert np.isinf(distances_to_others(np.zeros((3, 3), int))).all()


def test_boundary_weights() -> None:
    """A row of 140 pixels of a class, then one of another, then void: distances 140 … 1, then 1."""
    row = np.array([[[0] * 140 + [1] + [VOID]]])
    weights = boundary_weights(row)[0, 0]
    # 8 below 16, 4 below 64, 2 below 128, then 1; the pixel 140 - k lies k away.
    assert weights.tolist() == [1] * 13 + [2] * 64 + [4] * 48 + [8] * 15 + [8, 0]
    assert boundary_weights(np.zeros((1, 2, 2), int)).tolist() == [[[1, 1], [1, 1]]]


def test_boundary_aware_loss() -> None:
    """α·exp(0.5·(1-p))·(-log p) of two pixels near a border, and of one far from any, over the count of pixels."""
    p_near, p_far = 0.25, 0.8
    targets = torch.full((2, 1, 2), 0)
    targets[0, 0, 1] = 1
    targets[1, 0, 1] = VOID
    # The second picture: one pixel beside void, which is another class to it.
    probs = torch.tensor([[p_near, 1 - p_near], [p_far, 0.5]])
    logits = torch.log(torch.stack([probs, 1 - probs], dim=1)).reshape(2, 2, 1, 2)

    def of(p: float, alpha: float) -> float:
        return alpha * math.exp(0.5 * (1 - p)) * -math.log(p)

    wanted = (of(p_near, 8) + of(p_near, 8) + of(p_far, 8)) / 3
    assert boundary_aware(logits, targets).item() == pytest.approx(wanted, rel=1e-5)
    weighted = (2 * of(p_near, 8) + 0.5 * of(p_near, 8) + 2 * of(p_far, 8)) / 3
    assert boundary_aware(logits, targets, [2, 0.5]).item() == pytest.approx(weighted, rel=1e-5)
    alone = torch.zeros(1, 1, 1, dtype=torch.long)
    far = torch.log(torch.tensor([p_far, 1 - p_far])).reshape(1, 2, 1, 1)
    assert boundary_aware(far, alone).item() == pytest.approx(of(p_far, 1), rel=1e-5)


def test_the_factor_of_what_is_unsure_has_no_gradient() -> None:
    """d/dlogits of -f·log p is f·(softmax - onehot) with f held: α 1, p 0.8."""
    logits = torch.log(torch.tensor([0.8, 0.2])).reshape(1, 2, 1, 1).requires_grad_()
    boundary_aware(logits, torch.zeros(1, 1, 1, dtype=torch.long)).backward()
    factor = math.exp(0.5 * 0.2)
    assert logits.grad is not None
    assert logits.grad.flatten().tolist() == pytest.approx([-0.2 * factor, 0.2 * factor], rel=1e-5)


def test_class_weights() -> None:
    """By hand: shares .8 and .2 to the power -.5 are 1.118 and 2.236, their mean over the pixels 1.342."""
    assert class_weights(np.array([8, 2]), 0.5) == pytest.approx(
        [1.118034 / 1.341641, 2.236068 / 1.341641], rel=1e-5
    )
    assert class_weights(np.array([8, 2]), 1.0) == pytest.approx([0.625, 2.5])
    assert class_weights(np.array([8, 2, 0]), 1.0)[2] == pytest.approx(2.5), "as the rarest that is there"
