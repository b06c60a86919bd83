"""Means of equal shares: of logits, of probabilities, of calibrated probabilities. Weights live in `pools`.

Shape letters: m members, n items, C classes.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from deponij.pipeline.ensembles.ensemble import Calibrated, Codes, Ensemble, Wide
from deponij.pipeline.ensembles.registry import register


def _equal(members: Wide) -> Wide:
    """Equal shares of m members."""
    return np.full(len(members), 1 / len(members))


@register("mean-logits")
@dataclass(eq=False)
class MeanOfLogits(Ensemble):
    """The mean of the members' logits. A member counts by how large its logits are."""

    title: ClassVar[str] = "mean of logits"
    chooses: ClassVar[bool] = False
    apply: ClassVar[str] = "logits = members.mean(axis=0)"

    def _fit(self, members: Wide, codes: Codes) -> None:
        self.shares_ = _equal(members)

    def _combine(self, members: Wide) -> Wide:
        mean: Wide = members.mean(axis=0)
        return mean

    @property
    def protocol(self) -> str:
        """In words."""
        return f"mean of the logits of {self.n_members_} members; nothing chosen"


class Mixture(Calibrated):
    """The mean of the members' probabilities, each member's logits divided by its temperature."""

    apply: ClassVar[str] = (
        "scaled = members / np.reshape(temperatures, (-1, 1, 1))\n"
        "probs = np.exp(scaled - scaled.max(axis=-1, keepdims=True))\n"
        "probs /= probs.sum(axis=-1, keepdims=True)\n"
        "logits = np.log(probs.mean(axis=0))"
    )

    def _combine(self, members: Wide) -> Wide:
        log_probs = self._log_probs(members)
        # Means of probabilities that may be too small for a float.
        largest = log_probs.max(axis=0)
        logits: Wide = largest + np.log(np.exp(log_probs - largest).mean(axis=0))
        return logits


@register("mean-probs")
@dataclass(eq=False)
class MeanOfProbabilities(Mixture):
    """The mean of the members' probabilities, as they are."""

    title: ClassVar[str] = "mean of probabilities"
    chooses: ClassVar[bool] = False

    def _fit(self, members: Wide, codes: Codes) -> None:
        self.shares_ = _equal(members)
        self.temperatures_ = np.ones(len(members))

    @property
    def protocol(self) -> str:
        """In words."""
        return f"mean of the probabilities of {self.n_members_} members; nothing chosen"


@register("calibrated")
@dataclass(eq=False)
class CalibratedMean(Mixture):
    """The mean of probabilities after each member's temperature is fitted on validation by log-loss."""

    title: ClassVar[str] = "mean of calibrated probabilities"
    chooses: ClassVar[bool] = True

    def _fit(self, members: Wide, codes: Codes) -> None:
        self._calibrate(members, codes)
        self.shares_ = _equal(members)

    @property
    def protocol(self) -> str:
        """In words."""
        return (
            f"mean of the probabilities of {self.n_members_} members, each at the temperature of least log-loss "
            "on validation"
        )
