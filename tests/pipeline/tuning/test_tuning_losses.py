"""Losses of tuning against torch's own, open_clip's own, and hand calculation."""

import math
from typing import Literal

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from deponij.pipeline.tuning.losses import (
    DistillParams,
    clip_loss,
    distillation_loss,
    siglip_loss,
    soft_cross_entropy,
    soft_distillation,
)
from deponij.store.errors import UsageError

HALF, HARD = torch.tensor([[0.5, 0.5]]), DistillParams()


def logits_of(*rows: list[float]) -> Tensor:
    """Whose softmax are these probabilities."""
    return torch.tensor(rows).log()


def test_soft_cross_entropy_by_hand() -> None:
    """Targets (3/4, 1/4) of probabilities (1/2, 1/2), and (0, 1) of (1/5, 4/5)."""
    logits = logits_of([0.5, 0.5], [0.2, 0.8])
    targets = torch.tensor([[0.75, 0.25], [0.0, 1.0]])
    first, second = math.log(2), -math.log(0.8)
    assert soft_cross_entropy(logits, targets).item() == pytest.approx((first + second) / 2)
    # weights 1 and 3: the first picture's 0.75 * 1 + 0.25 * 3 = 1.5 parts, the second's 3
    weighted = soft_cross_entropy(logits, targets, torch.tensor([1.0, 3.0]))
    assert weighted.item() == pytest.approx((1.5 * first + 3 * second) / 2)


@pytest.mark.parametrize("taught", [False, True])
def test_parts_of_a_batch_come_to_the_whole_whatever_classes_weigh(taught: bool) -> None:
    """Of one picture too, where a mean by weights would know of none."""
    made = torch.Generator().manual_seed(4)
    logits, teacher = (torch.randn(5, 3, generator=made) for _ in range(2))
    targets = F.one_hot(torch.tensor([0, 0, 1, 2, 0]), 3).float()
    weights = torch.tensor([0.5, 2.0, 1.5])

    def loss(rows: slice) -> Tensor:
        if taught:
            return distillation_loss(logits[rows], targets[rows], teacher[rows], HARD, weights)
        return soft_cross_entropy(logits[rows], targets[rows], weights)

    parts = (1 * loss(slice(0, 1)) + 4 * loss(slice(1, 5))) / 5
    torch.testing.assert_close(parts, loss(slice(None)))


def test_soft_cross_entropy_is_timms() -> None:
    from timm.loss import SoftTargetCrossEntropy

    made = torch.Generator().manual_seed(2)
    logits, targets = torch.randn(7, 5, generator=made), torch.rand(7, 5, generator=made).softmax(1)
    torch.testing.assert_close(soft_cross_entropy(logits, targets), SoftTargetCrossEntropy()(logits, targets))


@pytest.mark.parametrize("weights", [None, torch.tensor([0.2, 1.0, 3.0, 0.7])])
def test_of_whole_classes_it_is_torchs(weights: Tensor | None) -> None:
    made = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(9, 4, generator=made), torch.randint(4, (9,), generator=made)
    # of class numbers torch divides by the sum of the weights
    wanted = F.cross_entropy(logits, labels, weight=weights, reduction="sum") / 9
    found = soft_cross_entropy(logits, F.one_hot(labels, 4).float(), weights)
    torch.testing.assert_close(found, wanted)


def test_hard_distillation_is_half_of_each_head() -> None:
    """The class head says 1/4 for its class, the other head 1/5 for the class that the teacher finds likeliest."""
    heads = (logits_of([0.25, 0.75]), logits_of([0.8, 0.2]))
    found = distillation_loss(heads, torch.tensor([[1.0, 0.0]]), torch.tensor([[-1.0, 2.0]]), HARD)
    assert found.item() == pytest.approx(0.5 * math.log(4) + 0.5 * math.log(5))


def test_soft_distillation_by_hand() -> None:
    """τ = 2 makes the square roots of the odds of 1:9 and 4:1, that is 1:3 and 2:1."""
    student, teacher = logits_of([0.1, 0.9]), logits_of([0.8, 0.2])
    kl = 2 / 3 * math.log((2 / 3) / (1 / 4)) + 1 / 3 * math.log((1 / 3) / (3 / 4))
    assert soft_distillation(student, teacher, 2.0).item() == pytest.approx(4 * kl, rel=1e-5)
    soft = DistillParams(kind="soft", share=0.3, temperature=2.0)
    found = distillation_loss((logits_of([0.5, 0.5]), student), torch.tensor([[1.0, 0.0]]), teacher, soft)
    assert found.item() == pytest.approx(0.7 * math.log(2) + 0.3 * 4 * kl, rel=1e-5)
    # one head learns both
    alone = distillation_loss(student, torch.tensor([[1.0, 0.0]]), teacher, soft)
    assert alone.item() == pytest.approx(0.7 * -math.log(0.1) + 0.3 * 4 * kl, rel=1e-5)


@pytest.mark.parametrize(("divided_by", "divisor"), [("pictures", 6), ("entries", 6 * 5)])
def test_soft_distillation_is_a_sum_over_what_it_is_divided_by(
    divided_by: Literal["pictures", "entries"], divisor: int
) -> None:
    """DeiT's code: the sum over all entries, divided by their number (`numel`)."""
    made = torch.Generator().manual_seed(1)
    student, teacher = torch.randn(6, 5, generator=made), torch.randn(6, 5, generator=made)
    p, q = (teacher / 3).softmax(1), (student / 3).softmax(1)
    wanted = 9 * (p * (p / q).log()).sum() / divisor
    torch.testing.assert_close(soft_distillation(student, teacher, 3.0, divided_by), wanted)
    assert soft_distillation(teacher, teacher, 3.0, divided_by).item() == pytest.approx(0, abs=1e-6)


def test_no_gradient_reaches_the_teacher() -> None:
    student, teacher = torch.randn(3, 4, requires_grad=True), torch.randn(3, 4, requires_grad=True)
    targets = torch.full((3, 4), 0.25)
    for kind in ("hard", "soft"):
        distillation_loss(student, targets, teacher, DistillParams.model_validate({"kind": kind})).backward()
    assert teacher.grad is None and student.grad is not None


def test_a_teacher_of_other_classes_is_refused() -> None:
    with pytest.raises(UsageError, match="same pictures and classes"):
        distillation_loss(HALF, HALF, torch.zeros(1, 3), HARD)


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    image, text = (F.normalize(torch.randn(9, 16, generator=generator), dim=-1) for _ in range(2))
    return image, text


def test_clip_loss_is_open_clips(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    from open_clip.loss import ClipLoss

    scale = torch.tensor(13.0)
    assert clip_loss(*pair, scale).item() == pytest.approx(ClipLoss()(*pair, scale).item(), abs=1e-6)


def test_siglip_loss_is_open_clips(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    from open_clip.loss import SigLipLoss

    scale, bias = torch.tensor(11.0), torch.tensor(-8.0)
    expected = SigLipLoss()(*pair, scale, bias).item()
    assert siglip_loss(*pair, scale, bias).item() == pytest.approx(expected, abs=1e-5)


def test_contrast_of_matching_pairs_is_lower(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    image, text = pair
    scale, bias = torch.tensor(10.0), torch.tensor(-5.0)
    assert clip_loss(image, image, scale) < clip_loss(image, text, scale)
    assert siglip_loss(image, image, scale, bias) < siglip_loss(image, text, scale, bias)


def test_captions_that_all_differ_change_nothing(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    from open_clip.loss import ClipLoss, SigLipLoss

    scale, bias, captions = torch.tensor(7.0), torch.tensor(-3.0), torch.tensor([8, 1, 0, 5, 2, 7, 3, 4, 6])
    assert clip_loss(*pair, scale, captions).item() == pytest.approx(
        ClipLoss()(*pair, scale).item(), abs=1e-6
    )
    expected = SigLipLoss()(*pair, scale, bias).item()
    assert siglip_loss(*pair, scale, bias, captions).item() == pytest.approx(expected, abs=1e-6)


def test_rows_of_one_caption_are_no_negatives_of_each_other() -> None:
    """Pictures e1, e2, e3 with texts e1, e1, e3, of which the first two are one caption.

    CLIP with scale ln 2, whose exponents are 2 where cosines are 1, else 1. By rows: (2, 2, 1)/5 and (1, 1, 1)/3 with the
    target (1/2, 1/2, 0), (1, 1, 2)/4 with (0, 0, 1). By columns: (2, 1, 1)/4 twice and (1, 1, 2)/4.
    SigLIP with scale 1 and bias 0: three pairs of cosine 1, all positive, six of cosine 0, positive or not.
    """
    image, captions = torch.eye(3), torch.tensor([4, 4, 1])
    text = image[[0, 0, 2]]
    by_row = (math.log(5 / 2) + math.log(3) + math.log(2)) / 3
    by_column = (2 * (math.log(2) + math.log(4)) / 2 + math.log(2)) / 3
    found = clip_loss(image, text, torch.tensor(math.log(2)), captions).item()
    assert found == pytest.approx((by_row + by_column) / 2, rel=1e-6)
    wanted = (3 * math.log(1 + math.exp(-1)) + 6 * math.log(2)) / 3
    found = siglip_loss(image, text, torch.tensor(1.0), torch.tensor(0.0), captions).item()
    assert found == pytest.approx(wanted, rel=1e-6)
