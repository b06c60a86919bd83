"""The linear probe as the thesis on TACO trains it: one linear layer, learned by AdamW.

Logistic regression solved to convergence is `logistic`. How it is trained: `training`.

Shape letters: n examples, d feature width, C classes.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deponij.pipeline.heads.gradient.head import GradientHead
from deponij.pipeline.heads.head import Floats
from deponij.pipeline.heads.registry import register


@register("linear")
class LinearHead(GradientHead):
    """logits = W x + b, learned by gradient steps; parameters as `GradientHead`.

    Attributes:
        coef_, intercept_: float32 [C, d] and [C].
    """

    title: ClassVar[str] = "linear probe (AdamW)"
    model: ClassVar[str] = "one linear layer"
    apply: ClassVar[str] = "logits = features @ weight.T + bias"

    def decision_function(self, X: ArrayLike) -> Floats:
        """Logits [n, C] of features [n, d]; see `Head`."""
        features = self._check_width(X).astype(np.float64)
        logits: Floats = features @ self.coef_.astype(np.float64).T + self.intercept_
        return logits

    def _set_layers(self, layers: list[tuple[NDArray[np.float32], NDArray[np.float32]]]) -> None:
        ((self.coef_, self.intercept_),) = layers

    def _tensors(self) -> dict[str, NDArray[np.float32]]:
        return {"weight": self.coef_, "bias": self.intercept_}

    def _restore(self, tensors: Mapping[str, NDArray[np.float32]], learned: Mapping[str, Any]) -> None:
        super()._restore(tensors, learned)
        self._set_layers([(tensors["weight"], tensors["bias"])])
