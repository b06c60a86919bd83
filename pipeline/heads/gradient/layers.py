"""The layers of heads that are trained together: first weights, answers, and gradients written out by hand.

By autograd a step takes 30 to 60 % longer: `benchmarks/heads.py` would miss its limits.
Biases are a column of the weights: features end with a 1, and so do hidden units. The steps: `training`.

Shape letters: R heads, b examples that all of them see or each has, d feature width with the 1 and zeros up to a multiple
of 16, h hidden units likewise, C classes.
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from deponij.pipeline.unit_vectors import blocks
from deponij.store.scratch import scratch

if TYPE_CHECKING:
    from torch import Tensor, dtype

HIDDEN = 512
# Rows that begin at multiples of 64 bytes are read fastest.
_PAD = 16


def with_ones(features: NDArray[np.floating], rows: NDArray[np.integer]) -> "Tensor":
    """These rows [m] of features [n, d] as a tensor with a column of 1 and zeros up to a multiple of 16."""
    import torch

    dim = features.shape[1]
    dtype = np.float64 if features.dtype == np.float64 else np.float32
    padded = scratch((len(rows), _padded(dim + 1)), dtype)
    for some in blocks(*padded.shape):
        padded[some, :dim] = features[rows[some]]
    padded[:, dim], padded[:, dim + 1 :] = 1, 0
    return torch.from_numpy(padded)


def _padded(width: int) -> int:
    return -(-width // _PAD) * _PAD


def first_weights(
    kind: str, dim: int, n_classes: int, seed: int, std: float | None, dtype: "dtype"
) -> list["Tensor"]:
    """As `torch.manual_seed(seed)` and torch's Linear draw them, or normal; [out, in padded] a layer."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    sizes = {
        "linear": [(n_classes, dim)],
        "mlp": [(HIDDEN, dim), (n_classes, HIDDEN)],
    }[kind]
    layers = []
    for n_out, n_in in sizes:
        weight, bias = torch.empty(n_out, n_in), torch.zeros(n_out)
        if std is None:
            torch.nn.init.kaiming_uniform_(weight, a=5**0.5, generator=generator)
            torch.nn.init.uniform_(bias, -(n_in**-0.5), n_in**-0.5, generator=generator)
        else:
            torch.nn.init.normal_(weight, 0.0, std, generator=generator)
        padded = torch.zeros(n_out, _padded(n_in + 1), dtype=dtype)
        padded[:, :n_in], padded[:, n_in] = weight, bias
        layers.append(padded)
    return layers


def softmax(logits: "Tensor") -> "Tensor":
    """Over the last dimension."""
    import torch

    if logits.shape[-1] >= _PAD:
        return torch.softmax(logits, -1)
    # Rows shorter than a register are not vectorised: torch's takes four times as long for ten classes.
    powers = (logits - logits.amax(-1, keepdim=True)).exp_()
    return powers.div_(powers.sum(-1, keepdim=True))


class Linear:
    """logits = x W^T. Weights [R, C, d]."""

    def __init__(self, weights: list["Tensor"], dim: int) -> None:
        import torch

        self.weights = weights
        self.widths = [dim]
        self.gradients_ = [torch.empty_like(tensor) for tensor in weights]

    def logits(self, x: "Tensor") -> "Tensor":
        """[R, b, C] of examples [b, d], or of each head's own [R, b, d]."""
        import torch

        if x.dim() == 3:
            return torch.bmm(x, self.weights[0].mT)
        n_heads, n_classes, width = self.weights[0].shape
        return (x @ self.weights[0].view(-1, width).T).view(-1, n_heads, n_classes).transpose(0, 1)

    def gradients(self, x: "Tensor", errors: "Tensor") -> None:
        """Set `gradients_` by the errors [R, b, C] of the logits of x, which were asked for last."""
        import torch

        if x.dim() == 3:
            torch.bmm(errors.mT, x, out=self.gradients_[0])
            return
        out = self.gradients_[0].view(-1, x.shape[-1])
        torch.mm(errors.transpose(0, 1).reshape(len(x), -1).T, x, out=out)


class Mlp(Linear):
    """logits = gelu(x W1^T) W2^T. Weights [R, 512, d] and [R, C, h]."""

    def __init__(self, weights: list["Tensor"], dim: int) -> None:
        super().__init__(weights, dim)
        self.widths = [dim, HIDDEN]

    def logits(self, x: "Tensor") -> "Tensor":
        """[R, b, C] of examples [b, d], or of each head's own [R, b, d]."""
        import torch

        self.before = super().logits(x)  # [R, b, 512]
        # gelu, with the 1 of the second layer's bias.
        self.hidden = x.new_zeros(*self.before.shape[:-1], self.weights[1].shape[-1])  # [R, b, h]
        # Not `gelu.out`: with an output of other strides than its input it writes elsewhere (torch 2.15).
        self.hidden[..., :HIDDEN] = torch.nn.functional.gelu(self.before)
        self.hidden[..., HIDDEN] = 1
        return self.hidden @ self.weights[1].mT

    def gradients(self, x: "Tensor", errors: "Tensor") -> None:
        """Set `gradients_` by the errors [R, b, C] of the logits of x, which were asked for last."""
        import torch

        torch.bmm(errors.mT, self.hidden, out=self.gradients_[1])
        back = errors @ self.weights[1][..., :HIDDEN]  # [R, b, 512]
        super().gradients(x, torch.ops.aten.gelu_backward(back, self.before))
