"""The cosine of bilinearly upsampled features with class vectors, without upsampling the features.

Upsampling is linear, so the products with class vectors commute with it. The length does not: an upsampled vector is a
mean of four neighbours, and |Σ wᵢ xᵢ|² = Σ wᵢ wⱼ xᵢ·xⱼ. The weights are products of a row's and a column's, so the sum
is a few small matrix products of the map's own lengths and of its dot products with the cells beside, below and across.
Exact up to rounding, at a small part of the time and memory.

Shape letters: n pictures, C classes, d width of class vectors; h and w sides of a map, H and W of what is asked for.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import conv2d, interpolate, normalize

# As `normalize`: no division by nothing.
_SHORTEST = 1e-12


def upsampled_cosine(features: Tensor, vectors: Tensor, size: Sequence[int]) -> Tensor:
    """Cosine of features [n, d, h, w], upsampled to H x W, with vectors [C, d] of unit length: [n, C, H, W]."""
    height, width = size
    if features.shape[-2:] == (height, width):
        return conv2d(normalize(features, dim=1), vectors[:, :, None, None])
    products = conv2d(features, vectors[:, :, None, None])
    products = interpolate(products, size=(height, width), mode="bilinear", align_corners=False)
    return products / upsampled_length(features, size).unsqueeze(1)


def upsampled_length(features: Tensor, size: Sequence[int]) -> Tensor:
    """Lengths of features [n, d, h, w] after upsampling to H x W: [n, H, W]."""
    own, beside, below, across = _Neighbours.apply(features)
    rows, columns = (
        _weights(cells, pixels, features) for cells, pixels in zip(features.shape[-2:], size, strict=True)
    )
    row_pairs, column_pairs = rows[:, :-1] * rows[:, 1:], columns[:, :-1] * columns[:, 1:]
    rows, columns = rows.square(), columns.square()
    within = own @ columns.T + 2 * beside @ column_pairs.T  # [n, h, W]
    between = below @ columns.T + across @ column_pairs.T  # [n, h - 1, W]
    squared: Tensor = rows @ within + 2 * row_pairs @ between
    return squared.clamp(min=_SHORTEST**2).sqrt()


def _weights(n_cells: int, n_pixels: int, like: Tensor) -> Tensor:
    """Weight of each cell in each pixel of a side, as `interpolate` takes them, [n_pixels, n_cells]: two in a row."""
    cells = torch.eye(n_cells, device=like.device, dtype=like.dtype)
    return interpolate(cells[None], size=n_pixels, mode="linear", align_corners=False)[0].T.contiguous()


class _Neighbours(torch.autograd.Function):
    """Dot products of each cell's vector with itself and its neighbours.

    From features [n, d, h, w]: own [n, h, w], beside [n, h, w-1], below [n, h-1, w], and across [n, h-1, w-1], which is
    the sum of both diagonals of each square of four cells. Picture by picture, and with a backward of its own: of
    slices autograd would make as many maps full of zeros.
    """

    @staticmethod
    def forward(ctx: Any, features: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        ctx.save_for_backward(features)
        products = [_products(one) for one in features]
        own, beside, below, across = (torch.stack(parts) for parts in zip(*products, strict=True))
        return own, beside, below, across

    @staticmethod
    @torch.autograd.function.once_differentiable  # type: ignore[untyped-decorator, unused-ignore]
    def backward(ctx: Any, own: Tensor, beside: Tensor, below: Tensor, across: Tensor) -> Tensor:
        (features,) = ctx.saved_tensors
        gradient = torch.empty_like(features)
        for one, into, *of in zip(features, gradient, 2 * own, beside, below, across, strict=True):
            _add_products(one, into, *of)
        return gradient


def _products(one: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of one picture's features [d, h, w]."""
    return (
        one.square().sum(0),
        (one[..., :-1] * one[..., 1:]).sum(0),
        (one[:, :-1] * one[:, 1:]).sum(0),
        (one[:, :-1, :-1] * one[:, 1:, 1:]).add_(one[:, :-1, 1:] * one[:, 1:, :-1]).sum(0),
    )


def _add_products(
    one: Tensor, into: Tensor, twice_own: Tensor, beside: Tensor, below: Tensor, across: Tensor
) -> None:
    """Gradient with respect to one picture's features [d, h, w]."""
    torch.mul(one, twice_own, out=into)
    into[..., :-1].addcmul_(one[..., 1:], beside)
    into[..., 1:].addcmul_(one[..., :-1], beside)
    into[:, :-1].addcmul_(one[:, 1:], below)
    into[:, 1:].addcmul_(one[:, :-1], below)
    into[:, :-1, :-1].addcmul_(one[:, 1:, 1:], across)
    into[:, 1:, 1:].addcmul_(one[:, :-1, :-1], across)
    into[:, :-1, 1:].addcmul_(one[:, 1:, :-1], across)
    into[:, 1:, :-1].addcmul_(one[:, :-1, 1:], across)
