"""Means of equal shares: of logits, of probabilities, of calibrated probabilities. Weights live in `pools`.

Shape letters: m members, n items, C classes.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from deponij.pipeline.ensembles.ensemble import Codes, Ensemble, Wide, log_softmax
from deponij.pipeline.ensembles.registry import register
from deponij.pipeline.metrics.calibration import fit_temperature


@register("mean-logits")
class MeanOfLogits(Ensemble):
    """The mean of the members' logits, as in the thesis on TACO. A member counts by how large its logits are."""

    title: ClassVar[str] = "mean of logits"
    chooses: ClassVar[bool] = False
    apply: ClassVar[str] = "logits = members.mean(axis=0)"

    def _fit(self, members: Wide, codes: Codes) -> None:
        self.shares_ = np.full(len(members), 1 / len(members))

    def _combine(self, members: Wide) -> Wide:
        mean: Wide = members.mean(axis=0)
        return mean

    @property
    def protocol(self) -> str:
        """In words."""
        return f"mean of the logits of {self.n_members_} members; nothing chosen"

    def get_params(self) -> dict[str, Any]:
        """There are none."""
        return {}


class Mixture(Ensemble):
    """The mean of the members' probabilities, each member's logits divided by its temperature.

    Attributes:
        temperatures_: [m].
    """

    apply: ClassVar[str] = (
        "scaled = members / np.reshape(temperatures, (-1, 1, 1))\n"
        "probs = np.exp(scaled - scaled.max(axis=-1, keepdims=True))\n"
        "probs /= probs.sum(axis=-1, keepdims=True)\n"
        "logits = np.log(probs.mean(axis=0))"
    )

    temperatures_: Wide

    def _combine(self, members: Wide) -> Wide:
        log_probs = log_softmax(members / self.temperatures_[:, None, None])
        # Means of probabilities that may be too small for a float.
        largest = log_probs.max(axis=0)
        logits: Wide = largest + np.log(np.exp(log_probs - largest).mean(axis=0))
        return logits

    def _learned(self) -> dict[str, JsonValue]:
        return super()._learned() | {"temperatures": self.temperatures_.tolist()}

    def _restore(self, tensors: Mapping[str, NDArray[np.float32]], learned: Mapping[str, Any]) -> None:
        super()._restore(tensors, learned)
        self.temperatures_ = np.asarray(learned["temperatures"])

    def get_params(self) -> dict[str, Any]:
        """There are none."""
        return {}


@register("mean-probs")
class MeanOfProbabilities(Mixture):
    """The mean of the members' probabilities, as they are."""

    title: ClassVar[str] = "mean of probabilities"
    chooses: ClassVar[bool] = False

    def _fit(self, members: Wide, codes: Codes) -> None:
        self.shares_ = np.full(len(members), 1 / len(members))
        self.temperatures_ = np.ones(len(members))

    @property
    def protocol(self) -> str:
        """In words."""
        return f"mean of the probabilities of {self.n_members_} members; nothing chosen"


@register("calibrated")
class CalibratedMean(Mixture):
    """The mean of probabilities after each member's temperature is fitted on validation by log-loss."""

    title: ClassVar[str] = "mean of calibrated probabilities"
    chooses: ClassVar[bool] = True

    def _fit(self, members: Wide, codes: Codes) -> None:
        self.temperatures_ = np.array([fit_temperature(member, codes) for member in members])
        self.shares_ = np.full(len(members), 1 / len(members))

    @property
    def protocol(self) -> str:
        """In words."""
        return (
            f"mean of the probabilities of {self.n_members_} members, each at the temperature of least log-loss "
            "on validation"
        )
