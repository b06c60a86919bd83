"""What decoders learn by. Pixels of which nothing is said (`VOID`) never count.

Shape letters: n pictures, C classes, h and w sides.
"""

from collections.abc import Sequence

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor
from torch.nn.functional import cross_entropy as torch_cross_entropy
from torch.nn.functional import log_softmax

VOID = 255
# Weights by distance to the nearest border in pixels, below each of these; 1 farther away. Of the boundary-aware loss
# of SwiftNet's pyramid model.
_NEAR = ((16, 8.0), (64, 4.0), (128, 2.0))


def cross_entropy(logits: Tensor, targets: Tensor, weights: Sequence[float] | None = None) -> Tensor:
    """Mean cross-entropy over the pixels that have a class; 0, with a gradient of 0, where none has.

    Args:
        logits: [n, C, h, w]. targets: int64 [n, h, w].
        weights: of each class [C], as in torch: the mean is weighted too.
    """
    table = None if weights is None else torch.tensor(weights, dtype=logits.dtype, device=logits.device)
    losses = torch_cross_entropy(logits, targets, weight=table, ignore_index=VOID, reduction="sum")
    said = targets != VOID
    total = said.sum() if table is None else table[targets[said]].sum()
    return losses / total.clamp(min=1e-12 if table is not None else 1)


def boundary_aware(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy that looks more closely near borders and at what is unsure.

    Each pixel's -log p is multiplied by α·exp(0.5·(1-p)), with α 8, 4, 2, 1 for a distance to the nearest border below
    16, below 64, below 128 and more pixels; the sum is divided by the count of pixels with α > 0, which are those that
    have a class. (As SwiftNet's pyramid model; p takes no part in the gradient of its factor.)

    Args:
        logits: [n, C, h, w]. targets: int64 [n, h, w].
    """
    alphas = boundary_weights(targets.cpu().numpy())
    weights = torch.from_numpy(alphas).to(logits)
    classes = targets.clamp(max=logits.shape[1] - 1)
    log_p = log_softmax(logits, dim=1).gather(1, classes[:, None])[:, 0]  # [n, h, w]
    focus = torch.exp(0.5 * (1 - log_p.detach().exp()))
    return -(weights * focus * log_p).sum() / (weights > 0).sum().clamp(min=1)


def boundary_weights(targets: np.ndarray) -> np.ndarray:
    """α of each pixel by its distance to the nearest pixel of another class, float32 [n, h, w]; 0 where it has none.

    Args:
        targets: int64 [n, h, w]; borders to pixels without a class count as borders.
    """
    weights = np.ones(targets.shape, np.float32)
    for one, label_map in zip(weights, targets, strict=True):
        distances = border_distances(label_map)
        for below, weight in reversed(_NEAR):
            one[distances < below] = weight
    weights[targets == VOID] = 0
    return weights


def border_distances(label_map: np.ndarray) -> np.ndarray:
    """Distance in pixels of each pixel of [h, w] to the nearest that has another class beside it; inf without borders."""
    border = np.zeros(label_map.shape, bool)
    for axis in (0, 1):
        differs = np.diff(label_map, axis=axis) != 0
        first = tuple(slice(None, -1) if one == axis else slice(None) for one in (0, 1))
        second = tuple(slice(1, None) if one == axis else slice(None) for one in (0, 1))
        border[first] |= differs
        border[second] |= differs
    if not border.any():
        return np.full(label_map.shape, np.inf)
    found: np.ndarray = distance_transform_edt(~border)
    return found
