"""The families' training objectives, each as its paper and reference code state it.

Contrasts of pairs, which tuning needs too, are in `deponij.pipeline.tuning.losses`.

Letters: n pictures in the batch, d dimensions, k prototypes, t patches. All take and give float32 tensors.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def region_loss(regions: Tensor, texts: Tensor, alike: Tensor, scale: Tensor) -> Tensor:
    """`clip_loss` of regions, where pairs beside the diagonal that fit as well count neither for nor against.

    Args:
        regions, texts: [n, d], L2-normalised; row i of one belongs to row i of the other.
        alike: bool [n, n], whether text j would do for region i, too.
        scale: the inverse temperature.
    """
    own = torch.eye(len(regions), dtype=torch.bool, device=regions.device)
    logits = (scale * regions @ texts.T).masked_fill(alike & ~own, float("-inf"))  # [n, n]
    target = torch.arange(len(regions), device=regions.device)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def cell_loss(maps: Tensor, shares: Tensor, texts: Tensor, alike: Tensor, scale: Tensor) -> Tensor:
    """What each position says, weighed by how much of it a region takes up; texts that fit as well do not count.

    Args:
        maps: [r, d, h, w], of each region the map that it lies in.
        shares: [r, h, w], 0 to 1.
        texts: [r, d], L2-normalised.
        alike: bool [r, r], whether text j would do for region i.
        scale: the inverse temperature.
    """
    own = torch.eye(len(texts), dtype=torch.bool, device=texts.device)
    logits = scale * torch.einsum("rdhw,sd->rshw", F.normalize(maps, dim=1), texts)
    logits = logits.masked_fill((alike & ~own)[:, :, None, None], float("-inf"))
    surprise = -F.log_softmax(logits, dim=1)[own]  # [r, h, w]
    return (surprise * shares).sum() / shares.sum()


def pooled(maps: Tensor, shares: Tensor) -> Tensor:
    """Means of maps over regions, by how much of each cell a region takes up.

    Args:
        maps: [n, d, h, w].
        shares: of one region of each map, [n, h, w], 0 to 1.

    Returns:
        [n, d], L2-normalised.
    """
    return F.normalize(torch.einsum("ndhw,nhw->nd", F.normalize(maps, dim=1), shares), dim=1)


@torch.no_grad()
def sinkhorn(logits: Tensor, temperature: float, iterations: int = 3) -> Tensor:
    """Teacher's assignments with equal use of all prototypes (SwAV; dinov2 `sinkhorn_knopp_teacher`).

    Args:
        logits: [n, k].

    Returns:
        [n, k], rows sum to 1.
    """
    q = torch.exp((logits - logits.max()) / temperature).T  # [k, n]
    n_prototypes, n_rows = q.shape
    q = q / q.sum()
    for _ in range(iterations):
        q = q / q.sum(dim=1, keepdim=True) / n_prototypes
        q = q / q.sum(dim=0, keepdim=True) / n_rows
    return (q * n_rows).T


def dino_loss(student: list[Tensor], teacher: list[Tensor], temperature: float, *, n_global: int) -> Tensor:
    """Cross-entropy between views (Caron et al. 2021, algorithm 1): a view is never compared with itself.

    Args:
        student: logits [n, k] per view, the `n_global` global views first, in the teacher's order.
        teacher: probabilities [n, k] per global view.
        temperature: the student's.
        n_global: how many of the student's views the teacher saw too.

    Returns:
        Mean over all compared pairs of views and over the batch.
    """
    total, pairs = student[0].new_zeros(()), 0
    for i, logits in enumerate(student):
        log_p = F.log_softmax(logits / temperature, dim=-1)
        for j, probs in enumerate(teacher):
            if i < n_global and i == j:
                continue
            total = total - (probs * log_p).sum(-1).mean()
            pairs += 1
    return total / pairs


def ibot_loss(student: Tensor, teacher: Tensor, masked: Tensor, temperature: float) -> Tensor:
    """Masked patches foretell what the teacher sees (Zhou et al. 2022, equation 2; dinov2 `iBOTPatchLoss`).

    Args:
        student: logits [m, k] of the m masked patches, in the order of `masked`'s true entries.
        teacher: their probabilities [m, k], from the whole pictures.
        masked: bool [n, t].
        temperature: the student's.

    Returns:
        Mean over masked patches of each picture, then over all n pictures; 0 where nothing is masked.
    """
    loss = -(teacher * F.log_softmax(student / temperature, dim=-1)).sum(-1)  # [m]
    share = 1 / masked.sum(1, keepdim=True).clamp(min=1).to(loss.dtype)  # [n, 1]
    return (loss * share.expand(masked.shape)[masked]).sum() / len(masked)


def moco_loss(student: Tensor, teacher: Tensor, scale: Tensor) -> Tensor:
    """Contrast of a student's view with a slow teacher's other view (Chen et al. 2021, MoCo v3, algorithm 1).

    Args:
        student, teacher: [n, d], L2-normalised; row i of one belongs to row i of the other.
        scale: the inverse temperature.
    """
    target = torch.arange(len(student), device=student.device)
    return F.cross_entropy(scale * student @ teacher.T, target)


def koleo_loss(features: Tensor, eps: float = 1e-8) -> Tensor:
    """Minus the mean log distance to the nearest other row (Sablayrolles et al. 2019; dinov2 `KoLeoLoss`).

    Args:
        features: [n, d], any length; normalised here.
    """
    x = F.normalize(features, dim=-1, eps=eps)
    with torch.no_grad():
        similarity = x @ x.T
        similarity.fill_diagonal_(-1)
        nearest = similarity.argmax(1)
    distance = F.pairwise_distance(x, x[nearest], 2, eps)
    return -torch.log(distance + eps).mean()
