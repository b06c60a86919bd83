"""A backbone with a classifier on top, which learn together.

Shape letters: n pictures, d width of the embedding, C classes, h and w sides of the input.
"""

from torch import Tensor, nn

from deponij.pipeline.tuning.tower import Tower


class Network(nn.Module):
    """forward(normalised pixels [n, 3, h, w]) -> logits [n, C]: embed, standardise by fixed moments, classify linearly.

    Started from a probe of the frozen features it answers as the probe does, before it has learned anything.

    Args:
        tower: pixels -> embeddings [n, d].
        mean, scale: float32 [d], of the frozen features.
        weight, bias: float32 [C, d] and [C], of the classifier of standardised features.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, tower: Tower, mean: Tensor, scale: Tensor, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.tower: Tower = tower
        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale)
        self.head = nn.Linear(weight.shape[1], weight.shape[0])
        self.head.weight.data.copy_(weight)
        self.head.bias.data.copy_(bias)

    def forward(self, pixels: Tensor) -> Tensor:
        """See the class."""
        standardised = (self.tower(pixels) - self.mean) / self.scale
        logits: Tensor = self.head(standardised)
        return logits
