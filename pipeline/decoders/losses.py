"""What decoders learn by. Pixels of which nothing is said (`VOID`) never count.

Shape letters: n pictures, C classes, h and w sides.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from torch import Tensor
from torch.nn.functional import cross_entropy as torch_cross_entropy
from torch.nn.functional import log_softmax

VOID = 255
IntegerMaps = NDArray[np.integer]
# Weights by distance to the nearest border in pixels, below each of these; 1 farther away. Of the boundary-aware loss
# of SwiftNet's pyramid model.
_NEAR = ((16, 8.0), (64, 4.0), (128, 2.0))


def cross_entropy(
    logits: Tensor, targets: Tensor, weights: Sequence[float] | None = None, smoothing: float = 0.0
) -> Tensor:
    """Mean cross-entropy over the pixels that have a class; 0, with a gradient of 0, where none has.

    Args:
        logits: [n, C, h, w].
        targets: int64 [n, h, w].
        weights: of each class [C], as in torch: the mean is weighted too.
        smoothing: share of each target that is spread evenly over all classes.
    """
    logits = logits.float()  # In half precision sums over pixels, and weights of rare classes, are infinite.
    table = None if weights is None else torch.tensor(weights, dtype=logits.dtype, device=logits.device)
    losses = torch_cross_entropy(
        logits, targets, weight=table, ignore_index=VOID, reduction="sum", label_smoothing=smoothing
    )
    total = counted(targets, table)
    return losses / torch.where(total > 0, total, 1)


def counted(targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """How many pixels have a class, each by the weight of its class.

    Args:
        targets: int64 [n, h, w].
        weights: of each class [C].
    """
    said = targets != VOID
    return said.sum() if weights is None else weights[targets[said]].sum()


def boundary_aware(logits: Tensor, targets: Tensor, weights: Sequence[float] | None = None) -> Tensor:
    """Cross-entropy that looks more closely near borders and at what is unsure.

    Each pixel's -log p is multiplied by α·exp(0.5·(1-p)), with α 8, 4, 2, 1 for a distance to the nearest border below
    16, below 64, below 128 and more pixels; the sum is divided by the count of pixels with α > 0, which are those that
    have a class. (As SwiftNet's pyramid model; p takes no part in the gradient of its factor.)

    Args:
        logits: [n, C, h, w].
        targets: int64 [n, h, w].
        weights: of each class [C], a further factor of its pixels.
    """
    logits = logits.float()
    alphas = torch.from_numpy(boundary_weights(targets.cpu().numpy())).to(logits.device)
    said = targets != VOID
    classes = torch.where(said, targets, 0)
    log_p = log_softmax(logits, dim=1).gather(1, classes[:, None])[:, 0]  # [n, h, w]
    factors = alphas * torch.exp(0.5 * (1 - log_p.detach().exp()))
    if weights is not None:
        factors = factors * torch.tensor(weights, dtype=logits.dtype, device=logits.device)[classes]
    return -(factors * log_p).sum() / counted(targets).clamp(min=1)


def class_weights(counts: IntegerMaps, power: float) -> list[float]:
    """Weights of classes by how many pixels they have: (1 / share)^power, of mean 1 over the pixels.

    Args:
        counts: int64 [C]; what has no pixels counts as the rarest that has.
    """
    shares = counts / counts.sum()
    raw = np.maximum(shares, shares[shares > 0].min()) ** -power
    scaled: list[float] = (raw / (raw * shares).sum()).tolist()
    return scaled


def boundary_weights(targets: IntegerMaps) -> NDArray[np.float32]:
    """α of each pixel by its distance to the nearest pixel of another class, float32 [n, h, w]; 0 where it has none.

    Args:
        targets: [n, h, w]; pixels without a class are another class to those that have one.
    """
    weights = np.ones(targets.shape, np.float32)
    for one, label_map in zip(weights, targets, strict=True):
        distances = distances_to_others(label_map)
        for below, weight in reversed(_NEAR):
            one[distances < below] = weight
    weights[targets == VOID] = 0
    return weights


def distances_to_others(label_map: IntegerMaps) -> NDArray[np.float64]:
    """Pixels from each of [h, w] to the nearest of another class, between centres; inf where there is no other.

    Class by class, each in the frame that holds it and one pixel around: what lies nearest is never farther out.
    """
    distances = np.full(label_map.shape, np.inf)
    for one in np.unique(label_map):
        rows, columns = (np.flatnonzero((label_map == one).any(axis=axis)) for axis in (1, 0))
        frame = tuple(slice(max(0, side[0] - 1), side[-1] + 2) for side in (rows, columns))
        its = label_map[frame] == one
        if not its.all():
            distances[frame][its] = distance_transform_edt(its)[its]
    return distances
