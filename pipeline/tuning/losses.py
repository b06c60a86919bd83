"""What whole networks learn by when they are tuned: classes, soft targets, a teacher, or pairs of pictures and texts.

Shape letters: n pictures in the batch, C classes, d dimensions. All take and give float tensors; a loss is a mean over
the batch.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from deponij.store.errors import UsageError

Outputs = Tensor | tuple[Tensor, Tensor]


def soft_cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Cross-entropy with targets that are shares of classes.

    Torch's `cross_entropy` of shares: Σ w t (-log p) / n, over pictures and classes. Where targets are class numbers torch
    divides by Σ w, so that a batch of one class has no weights, and parts of a batch come to something else than the whole.

    Args:
        logits: [n, C].
        targets: [n, C], rows sum to 1.
        weights: w of each class [C], of mean 1 over the pictures that are learned from.
    """
    return F.cross_entropy(logits, targets, weight=weights)


class DistillParams(BaseModel):
    """How much a student learns from its teacher.

    Attributes:
        kind: `hard`: from the class that the teacher finds the likeliest; `soft`: from its probabilities.
        share: λ, of the teacher in the loss; the classes have the rest.
        temperature: τ, which `soft` divides logits of both by.
        divided_by: what the sum of `soft` is divided by: `pictures` (n, as the papers state it), or `entries` (n C, as
            DeiT's code does, which makes the same λ weigh C times less).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["hard", "soft"] = "hard"
    share: float = Field(default=0.5, ge=0, le=1)
    temperature: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    divided_by: Literal["pictures", "entries"] = "pictures"


def distillation_loss(
    outputs: Outputs, targets: Tensor, teacher: Tensor, params: DistillParams, weights: Tensor | None = None
) -> Tensor:
    """(1-λ) CE(class head, targets) + λ (what the other head learns from the teacher).

    Hard: CE(other head, argmax teacher), with λ = 1/2 that of DeiT (Touvron et al. 2021, equation 3). Soft: τ² KL (ibid.,
    equation 2; Hinton et al. 2015). A student with one head learns both with it.

    Args:
        outputs: logits [n, C], or those of the class head and of the distillation head, as timm's distilled networks give
            them in training mode once `set_distilled_training` was called.
        targets: [n, C], rows sum to 1.
        teacher: logits [n, C]; no gradient goes there.
        weights: of each class [C], for the targets alone.

    Raises:
        UsageError: teacher and student know different numbers of classes.
    """
    own, other = outputs if isinstance(outputs, tuple) else (outputs, outputs)
    if other.shape != teacher.shape:
        raise UsageError(
            f"the teacher's logits are {list(teacher.shape)} and the student's {list(other.shape)}; "
            "they must be of the same pictures and classes"
        )
    teacher = teacher.detach()
    if params.kind == "hard":
        learned = F.cross_entropy(other, teacher.argmax(1))
    else:
        learned = soft_distillation(other, teacher, params.temperature, params.divided_by)
    return (1 - params.share) * soft_cross_entropy(own, targets, weights) + params.share * learned


def soft_distillation(
    student: Tensor,
    teacher: Tensor,
    temperature: float = 1.0,
    divided_by: Literal["pictures", "entries"] = "pictures",
) -> Tensor:
    """τ² KL(softmax(teacher / τ) ‖ softmax(student / τ)), natural logarithm, 0 where both agree.

    Args:
        student, teacher: logits [n, C].
        divided_by: see `DistillParams`.
    """
    log_q, log_p = (F.log_softmax(one / temperature, dim=1) for one in (student, teacher))
    total = F.kl_div(log_q, log_p, reduction="sum", log_target=True) * temperature**2
    return total / (len(student) if divided_by == "pictures" else student.numel())


def clip_loss(image: Tensor, text: Tensor, scale: Tensor, captions: Tensor | None = None) -> Tensor:
    """Softmax contrast over the batch, both ways (Radford et al. 2021, figure 3; open_clip's `ClipLoss`).

    Where k rows have one caption, each of them has 1/k of the target of each: they are no negatives of each other.

    Args:
        image, text: [n, d], L2-normalised; row i of one belongs to row i of the other.
        scale: the inverse temperature (not its logarithm).
        captions: int64 [n], equal where captions are; None where all differ.
    """
    logits = scale * image @ text.T  # [n, n]
    same = _same(image, captions)
    target = same / same.sum(dim=1, keepdim=True)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def siglip_loss(
    image: Tensor, text: Tensor, scale: Tensor, bias: Tensor, captions: Tensor | None = None
) -> Tensor:
    """Sigmoid loss over all pairs (Zhai et al. 2023, algorithm 1; open_clip's `SigLipLoss`).

    Rows of one caption are positive pairs of each other.

    Args:
        image, text: [n, d], L2-normalised; row i of one belongs to row i of the other.
        scale, bias: of the logits; the paper starts at 10 and -10.
        captions: int64 [n], equal where captions are; None where all differ.
    """
    logits = scale * image @ text.T + bias  # [n, n]
    return -F.logsigmoid((2 * _same(image, captions) - 1) * logits).sum() / len(image)


def _same(image: Tensor, captions: Tensor | None) -> Tensor:
    """[n, n]: 1 where a picture and a text belong together."""
    if captions is None:
        return torch.eye(len(image), device=image.device)
    return (captions[:, None] == captions).float()
