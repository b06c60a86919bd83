"""The linear probe by gradient descent, by the protocol in docs/taco.md: one linear layer, learned by AdamW.

Logistic regression solved to convergence is `logistic`. How it is trained: `training`.

Shape letters: n examples, d feature width, C classes.
"""

from typing import ClassVar

from deponij.pipeline.heads.gradient.head import GradientHead
from deponij.pipeline.heads.head import AffineHead
from deponij.pipeline.heads.registry import register


@register("linear")
class LinearHead(GradientHead, AffineHead):
    """logits = W x + b, learned by gradient steps; parameters as `GradientHead`."""

    title: ClassVar[str] = "linear probe (AdamW)"
    model: ClassVar[str] = "one linear layer"
