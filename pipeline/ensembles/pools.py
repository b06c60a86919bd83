"""Weighted sums of calibrated log-probabilities, with weights chosen on validation.

A weighted mean of probabilities would be less sure than any of its members, so that the likelihood
prefers few of them; sums of log-probabilities need not be, for the weights also set how sure they are.

Shape letters: m members, n items, C classes.
"""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from threadpoolctl import threadpool_limits

from deponij.pipeline.cards import ARRAY, Fact
from deponij.pipeline.ensembles.ensemble import Calibrated, Codes, Wide
from deponij.pipeline.ensembles.registry import register
from deponij.pipeline.metrics.calibration import log_softmax

# Where validation is answered without an error any larger weights would be better still.
_MAX_WEIGHT = 10.0
# Of all members together where none of them tells anything: almost the uniform distribution.
_LEAST_WEIGHT = 1e-3


class LogPool(Calibrated):
    """Logits = the sum of weight x log-probability over the members, each at its own temperature.

    Attributes:
        weights_: [m], from 0; their sum says how sure the answers are, `shares_` are what is left.
    """

    apply: ClassVar[str] = (
        "scaled = members / np.reshape(temperatures, (-1, 1, 1))\n"
        "scaled -= scaled.max(axis=-1, keepdims=True)\n"
        "log_probs = scaled - np.log(np.exp(scaled).sum(axis=-1, keepdims=True))\n"
        "logits = (np.reshape(weights, (-1, 1, 1)) * log_probs).sum(axis=0)"
    )

    facts: ClassVar[Mapping[str, Fact]] = {**Calibrated.facts, "weights": ARRAY}

    def _fit(self, members: Wide, codes: Codes) -> None:
        weights = self._weigh(self._calibrate(members, codes), codes)
        total = float(weights.sum())
        self.shares_ = weights / total if total > 0 else np.full(len(members), 1 / len(members))
        self.weights_ = self.shares_ * max(total, _LEAST_WEIGHT)

    @abstractmethod
    def _weigh(self, log_probs: Wide, codes: Codes) -> Wide:
        """Weights [m] of log-probabilities [m, n, C] of items of these classes [n]."""

    def _combine(self, members: Wide) -> Wide:
        logits: Wide = np.tensordot(self.weights_, self._log_probs(members), axes=1)
        return logits


@register("weighted")
@dataclass(eq=False)
class WeightedSum(LogPool):
    """The weights from 0 of the least log-loss on validation; the problem is convex."""

    title: ClassVar[str] = "weighted mean of log-probabilities"
    chooses: ClassVar[bool] = True

    def _weigh(self, log_probs: Wide, codes: Codes) -> Wide:
        return pool_weights(log_probs, codes)

    @property
    def protocol(self) -> str:
        """In words."""
        return (
            f"weighted sum of the calibrated log-probabilities of {self.n_members_} members, of which "
            f"{int((self.shares_ >= 0.01).sum())} weigh 1 % or more; temperatures and weights by log-loss on "
            "validation"
        )


def pool_weights(log_probs: Wide, codes: Codes) -> Wide:
    """Weights [m] in 0..10 of the least log-loss, of log-probabilities [m, n, C] of items of these classes [n]."""
    from scipy.optimize import minimize

    right = np.take_along_axis(log_probs, codes[None, :, None], axis=2)[:, :, 0]  # [m, n]

    def objective(weights: Wide) -> tuple[float, Wide]:
        pooled = log_softmax(np.tensordot(weights, log_probs, axes=1))  # [n, C]
        expected = np.einsum("nc,mnc->mn", np.exp(pooled), log_probs)
        log_loss = -float(np.take_along_axis(pooled, codes[:, None], axis=1).mean())
        return log_loss, (expected - right).mean(axis=1)

    n_members = len(log_probs)
    # One thread, so that the same answers give the same bytes whatever the machine's count.
    with threadpool_limits(limits=1):
        solved = minimize(
            objective,
            np.full(n_members, 1 / n_members),
            jac=True,
            method="L-BFGS-B",
            bounds=[(0, _MAX_WEIGHT)] * n_members,
            options={"ftol": 1e-12, "gtol": 1e-8, "maxiter": 1000},
        )
    weights: Wide = solved.x
    return weights
