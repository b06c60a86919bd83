"""The training objectives against hand calculation."""

import math

import pytest
import torch
import torch.nn.functional as F

from deponij.sample.minis.objectives import (
    dino_loss,
    ibot_loss,
    koleo_loss,
    moco_loss,
    sinkhorn,
)


def test_dino_loss_by_hand() -> None:
    """Two global views and a local one, one picture, two prototypes, temperature 1."""
    student = [
        torch.tensor([[0.0, 0.0]]),
        torch.tensor([[math.log(3.0), 0.0]]),
        torch.tensor([[0.0, math.log(4.0)]]),
    ]
    teacher = [torch.tensor([[0.25, 0.75]]), torch.tensor([[1.0, 0.0]])]
    # Student probabilities: (1/2, 1/2), (3/4, 1/4), (1/5, 4/5). Compared pairs (student, teacher):
    pairs = [
        -math.log(1 / 2),  # (0, 1)
        -0.25 * math.log(3 / 4) - 0.75 * math.log(1 / 4),  # (1, 0)
        -0.25 * math.log(1 / 5) - 0.75 * math.log(4 / 5),  # (2, 0)
        -math.log(1 / 5),  # (2, 1)
    ]
    assert dino_loss(student, teacher, 1.0, n_global=2).item() == pytest.approx(sum(pairs) / 4, abs=1e-6)


def test_dino_temperature_divides_the_logits() -> None:
    logits, probs = torch.randn(4, 5), torch.softmax(torch.randn(4, 5), -1)
    expected = F.cross_entropy(logits / 0.1, probs)
    assert dino_loss([logits], [probs], 0.1, n_global=0).item() == pytest.approx(expected.item(), rel=1e-5)


def test_sinkhorn_uses_all_prototypes_equally() -> None:
    q = sinkhorn(torch.randn(64, 8, generator=torch.Generator().manual_seed(1)), 0.5, iterations=50)
    assert torch.allclose(q.sum(1), torch.ones(64), atol=1e-5)
    assert torch.allclose(q.sum(0), torch.full((8,), 64 / 8), atol=1e-3)


def test_sinkhorn_of_one_round_by_hand() -> None:
    # exp(logits) = [[1, 2], [3, 4]]; columns sum to 4 and 6: [[1/4, 1/3], [3/4, 2/3]], then rows to 1.
    q = sinkhorn(torch.log(torch.tensor([[1.0, 2.0], [3.0, 4.0]])), 1.0, iterations=1)
    expected = torch.tensor([[3 / 7, 4 / 7], [9 / 17, 8 / 17]])
    assert torch.allclose(q, expected, atol=1e-6)


def test_ibot_loss_by_hand() -> None:
    """Only masked patches count; each picture counts the same however many it has masked."""
    student = torch.zeros(3, 2)  # of the patches (0, 0), (0, 1) and (1, 2)
    student[1] = torch.tensor([math.log(3.0), 0.0])
    teacher = torch.tensor([1.0, 0.0]).expand(3, 2)
    masked = torch.tensor([[True, True, False], [False, False, True]])
    first, second = (-math.log(1 / 2) - math.log(3 / 4)) / 2, -math.log(1 / 2)
    assert ibot_loss(student, teacher, masked, 1.0).item() == pytest.approx((first + second) / 2, abs=1e-6)
    assert ibot_loss(student[:0], teacher[:0], torch.zeros_like(masked), 1.0).item() == 0


def test_moco_loss_by_hand() -> None:
    # Inverse temperature 2; similarities of the first row: 1 and 0, of the second: 0.6 and 0.8.
    student = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    first = -math.log(math.exp(2) / (math.exp(2) + 1))
    second = -math.log(math.exp(1.6) / (math.exp(1.6) + math.exp(1.2)))
    found = moco_loss(student, torch.eye(2), torch.tensor(2.0)).item()
    assert found == pytest.approx((first + second) / 2, abs=1e-6)


def test_koleo_loss_by_hand() -> None:
    # On the circle at 0, 90 and 100 degrees: nearest distances 2 sin 45, 2 sin 5, 2 sin 5 degrees.
    angles = torch.deg2rad(torch.tensor([0.0, 90.0, 100.0]))
    rows = torch.stack([angles.cos(), angles.sin()], 1) * torch.tensor([[1.0], [2.0], [5.0]])
    near, far = 2 * math.sin(math.radians(5)), 2 * math.sin(math.radians(45))
    assert koleo_loss(rows).item() == pytest.approx(-(math.log(far) + 2 * math.log(near)) / 3, abs=1e-4)
