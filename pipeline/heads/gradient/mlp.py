"""The two-layer head of the protocol in docs/taco.md: Linear(d -> 512), GELU, Linear(512 -> C). Training: `training`.

Shape letters: n examples, d feature width, C classes.
"""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deponij.pipeline.heads.gradient.head import GradientHead
from deponij.pipeline.heads.gradient.layers import HIDDEN
from deponij.pipeline.heads.head import Floats
from deponij.pipeline.heads.registry import register
from deponij.pipeline.unit_vectors import blocks


@register("mlp")
class MlpHead(GradientHead):
    """logits = W2 gelu(W1 x + b1) + b2 with 512 hidden units; parameters as `GradientHead`.

    The GELU is the exact one, x times the normal distribution function.

    Attributes:
        hidden_coef_, hidden_intercept_: float32 [512, d] and [512].
        coef_, intercept_: float32 [C, 512] and [C].
    """

    title: ClassVar[str] = "MLP"
    model: ClassVar[str] = "Linear, GELU, Linear with 512 hidden units"
    apply: ClassVar[str] = (
        "from scipy.special import erf\n"
        "hidden = features @ hidden_weight.T + hidden_bias\n"
        "hidden = hidden * (1 + erf(hidden / 2**0.5)) / 2\n"
        "logits = hidden @ weight.T + bias"
    )

    tensors: ClassVar[Mapping[str, str]] = {
        "hidden_weight": "hidden_coef_",
        "hidden_bias": "hidden_intercept_",
        "weight": "coef_",
        "bias": "intercept_",
    }
    shapes: ClassVar[Mapping[str, str]] = {
        "hidden_weight": "h d",
        "hidden_bias": "h",
        "weight": "C h",
        "bias": "C",
    }

    hidden_coef_: NDArray[np.float32]
    hidden_intercept_: NDArray[np.float32]
    coef_: NDArray[np.float32]
    intercept_: NDArray[np.float32]

    def decision_function(self, X: ArrayLike) -> Floats:
        """Logits [n, C] of features [n, d]; see `Head`."""
        from scipy.special import ndtr

        features = self._check_width(X)
        first, second = (weight.astype(np.float64).T for weight in (self.hidden_coef_, self.coef_))
        logits = np.empty((len(features), second.shape[1]))
        for some in blocks(len(features), max(HIDDEN, features.shape[1])):
            hidden = features[some].astype(np.float64) @ first + self.hidden_intercept_
            hidden *= ndtr(hidden)
            logits[some] = hidden @ second + self.intercept_
        return logits
