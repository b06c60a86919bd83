"""The layers of heads that are trained together: first weights, answers, and gradients written out by hand.

Biases are a column of the weights: features end with a 1, and so do hidden units. The steps: `training`.

Shape letters: G seeds, R heads a seed, b examples of a step, n examples that all seeds see, d feature
width with the 1 and zeros up to a multiple of 16, h hidden units likewise, C classes.
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor, dtype

HIDDEN = 512
# Rows that begin at multiples of 64 bytes are read fastest.
_PAD = 16


def with_ones(features: NDArray[np.floating]) -> "Tensor":
    """Features [n, d] as a tensor with a column of 1 and zeros up to a multiple of 16."""
    import torch

    n, dim = features.shape
    dtype = torch.float64 if features.dtype == np.float64 else torch.float32
    padded = torch.zeros(n, _padded(dim + 1), dtype=dtype)
    padded[:, :dim] = torch.from_numpy(np.ascontiguousarray(features, dtype=np.dtype(str(dtype)[6:])))
    padded[:, dim] = 1
    return padded


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
    """logits = x W^T. Weights [G, R, C, d]; logits [G, b, R, C]."""

    def __init__(self, weights: list["Tensor"], dim: int) -> None:
        import torch

        self.weights = weights
        self.widths = [dim]
        self.gradients_ = [torch.empty_like(tensor) for tensor in weights]

    def logits(self, x: "Tensor") -> "Tensor":
        (weights,) = self.weights
        n_seeds, n_slots, n_classes, width = weights.shape
        flat = weights.view(n_seeds, n_slots * n_classes, width)
        return (x @ flat.mT).view(n_seeds, -1, n_slots, n_classes)

    def beside(self, values: "Tensor") -> "Tensor":
        """Values of each example [G, b, k], for all heads of its seed."""
        return values.unsqueeze(2)

    def gradients(self, x: "Tensor", errors: "Tensor") -> None:
        import torch

        n_seeds, n_slots, n_classes, width = self.weights[0].shape
        out = self.gradients_[0].view(n_seeds, n_slots * n_classes, width)
        torch.bmm(errors.view(n_seeds, -1, n_slots * n_classes).mT, x, out=out)

    def shared_logits(self, x: "Tensor") -> "Tensor":
        """Logits [G, R, n, C] of examples [n, d] that all seeds see."""
        (weights,) = self.weights
        n_seeds, n_slots, n_classes, width = weights.shape
        logits = (x @ weights.view(-1, width).T).view(-1, n_seeds, n_slots, n_classes)
        return logits.permute(1, 2, 0, 3)


class Mlp:
    """logits = gelu(x W1^T) W2^T. Weights [G, R, 512, d] and [G, R, C, h]; logits [G, R, b, C]."""

    def __init__(self, weights: list["Tensor"], dim: int) -> None:
        import torch

        self.weights = weights
        self.widths = [dim, HIDDEN]
        self.gradients_ = [torch.empty_like(tensor) for tensor in weights]

    def logits(self, x: "Tensor") -> "Tensor":
        n_seeds, n_slots, _, width = self.weights[0].shape
        flat = self.weights[0].view(n_seeds, n_slots * HIDDEN, width)
        self.before = (x @ flat.mT).view(n_seeds, -1, n_slots, HIDDEN).transpose(1, 2)  # [G, R, b, 512]
        self.hidden = self._activate(self.before)
        return self.hidden @ self.weights[1].mT

    def _activate(self, before: "Tensor") -> "Tensor":
        """gelu, with the 1 of the second layer's bias: [..., b, h]."""
        import torch

        hidden = before.new_zeros(*before.shape[:-1], self.weights[1].shape[-1])
        # Not `gelu.out`: with an output of other strides than its input it writes elsewhere (torch 2.15).
        hidden[..., :HIDDEN] = torch.nn.functional.gelu(before)
        hidden[..., HIDDEN] = 1
        return hidden

    def beside(self, values: "Tensor") -> "Tensor":
        """Values of each example [G, b, k], for all heads of its seed."""
        return values.unsqueeze(1)

    def gradients(self, x: "Tensor", errors: "Tensor") -> None:
        import torch

        n_seeds, n_slots, n_batch, _ = errors.shape
        width = x.shape[-1]
        flat = errors.flatten(0, 1)
        torch.bmm(flat.mT, self.hidden.flatten(0, 1), out=self.gradients_[1].flatten(0, 1))
        back = flat @ self.weights[1].flatten(0, 1)[..., :HIDDEN]  # [G R, b, 512]
        back = torch.ops.aten.gelu_backward(back.view(n_seeds, n_slots, n_batch, HIDDEN), self.before)
        back = back.transpose(1, 2).reshape(n_seeds, n_batch, n_slots * HIDDEN)
        torch.bmm(back.mT, x, out=self.gradients_[0].view(n_seeds, n_slots * HIDDEN, width))

    def shared_logits(self, x: "Tensor") -> "Tensor":
        """Logits [G, R, n, C] of examples [n, d] that all seeds see."""
        n_seeds, n_slots, _, width = self.weights[0].shape
        before = (x @ self.weights[0].view(-1, width).T).view(-1, n_seeds, n_slots, HIDDEN)
        return self._activate(before.permute(1, 2, 0, 3)) @ self.weights[1].mT
