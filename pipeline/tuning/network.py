"""A backbone with a classifier on top, which learn together.

Shape letters: n pictures, d width of the embedding, C classes, h and w sides of the input.
"""

from torch import Tensor, nn

from deponij.pipeline.tuning.tower import Tower

Logits = Tensor | tuple[Tensor, Tensor]


class Network(nn.Module):
    """forward(normalised pixels [n, 3, h, w]) -> logits [n, C]: embed, standardise by fixed moments, classify linearly.

    Started from a probe of the frozen features it answers as the probe does, before it has learned anything.

    A tower with a distillation token (DeiT, Touvron et al. 2021) may have a classifier on each of both tokens: logits are
    then (of the class token, of the distillation token) in training mode, and their mean in evaluation mode.

    Args:
        tower: pixels -> embeddings [n, d].
        mean, scale: float32 [d], of the frozen features.
        weight, bias: float32 [C, d] and [C], of the classifier of standardised features.
        on_both_tokens: whether there are two classifiers; both begin alike.
    """

    mean: Tensor
    scale: Tensor

    def __init__(
        self,
        tower: Tower,
        mean: Tensor,
        scale: Tensor,
        weight: Tensor,
        bias: Tensor,
        *,
        on_both_tokens: bool = False,
    ) -> None:
        super().__init__()
        self.tower: Tower = tower
        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale)
        self.heads = nn.ModuleList(_linear(weight, bias) for _ in range(2 if on_both_tokens else 1))

    def forward(self, pixels: Tensor) -> Logits:
        """See the class."""
        embedded = self.tower.both_tokens(pixels) if len(self.heads) == 2 else (self.tower(pixels),)
        first, *other = (
            head((one - self.mean) / self.scale) for head, one in zip(self.heads, embedded, strict=True)
        )
        logits: Tensor = first
        if not other:
            return logits
        return (logits, other[0]) if self.training else (logits + other[0]) / 2


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    made = nn.Linear(weight.shape[1], weight.shape[0])
    made.weight.data.copy_(weight)
    made.bias.data.copy_(bias)
    return made
