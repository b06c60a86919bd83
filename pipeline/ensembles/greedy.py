"""Greedy selection of members with replacement.

After R. Caruana, A. Niculescu-Mizil, G. Crew, A. Ksikes, "Ensemble selection from libraries of models",
ICML 2004, which averages probabilities; here log-probabilities are averaged, for the reason in `pools`.

Shape letters: m members, n items, C classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from deponij.pipeline.cards import Condition
from deponij.pipeline.ensembles.ensemble import Codes, Wide
from deponij.pipeline.ensembles.pools import LogPool
from deponij.pipeline.ensembles.registry import register

# Differences of log-loss below this are those of rounding.
_SAME = 1e-5
# Newton's steps for the sharpness of one selection, what log-loss is worth another one, and its bounds. It starts at
# the last selection's.
_STEPS = 4
_WORTH_A_STEP = 1e-9
_LEAST, _MOST = 0.05, 10.0


@register("greedy")
@dataclass(eq=False)
class GreedySelection(LogPool):
    """Members are taken one by one, each the one with which the mean log-probability does best.

    A member may be taken again, so that counts are weights. A selection is worth its log-loss on
    validation at the sharpness that suits it best, for a mean of many answers is too unsure as it is.
    Selection ends after `rounds`. Kept is the earliest round whose log-loss, summed over the items, is
    within 1 of the best (Akaike's price of a parameter), so that noise is not taken for help. Log-loss,
    not accuracy, decides: on a few hundred items accuracy has many ties and rewards chance.

    Args:
        rounds: members that are taken at most.

    Attributes:
        counts_: how often each member was taken, [m].
    """

    title: ClassVar[str] = "greedy selection"
    chooses: ClassVar[bool] = True

    rounds: int = 30
    counts_: NDArray[np.int64] = field(init=False, repr=False)

    def _conditions(self) -> Sequence[Condition]:
        return ((self.rounds >= 1, f"rounds must be at least 1, got {self.rounds}"),)

    def _weigh(self, log_probs: Wide, codes: Codes) -> Wide:
        taken: list[int] = []
        steps: list[tuple[float, float]] = []
        total, sharpness = np.zeros(log_probs.shape[1:]), 1.0
        for number in range(1, self.rounds + 1):
            candidates = [_worth((total + member) / number, codes, sharpness) for member in log_probs]
            best = _first_within(_SAME, [loss for loss, _ in candidates])
            sharpness = candidates[best][1]
            taken.append(best)
            steps.append(candidates[best])
            total += log_probs[best]
        n_kept = _first_within(1 / len(codes), [loss for loss, _ in steps]) + 1
        self.counts_ = np.bincount(taken[:n_kept], minlength=len(log_probs))
        weights: Wide = steps[n_kept - 1][1] * self.counts_ / n_kept
        return weights

    @property
    def protocol(self) -> str:
        """In words."""
        return (
            f"greedy selection with replacement among {self.n_members_} members by log-loss on validation: "
            f"{int((self.shares_ > 0).sum())} taken; mean of their calibrated log-probabilities"
        )


def _first_within(margin: float, losses: list[float]) -> int:
    return int(np.flatnonzero(np.asarray(losses) <= min(losses) + margin)[0])


def _worth(logits: Wide, codes: Codes, sharpness: float) -> tuple[float, float]:
    """Log-loss of logits [n, C] at the sharpness at which it is lowest, and that; it is convex in it."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    right = np.take_along_axis(shifted, codes[:, None], axis=1)[:, 0]
    best = (np.inf, sharpness)
    for _ in range(_STEPS + 1):
        powers = np.exp(sharpness * shifted)
        sums = powers.sum(axis=1)
        best = min(best, (float((np.log(sums) - sharpness * right).mean()), sharpness))
        powers *= shifted
        expected = powers.sum(axis=1) / sums
        variance = np.einsum("nc,nc->n", powers, shifted) / sums - np.square(expected)
        slope, curvature = float((expected - right).mean()), float(variance.mean())
        # Where the loss is a parabola, as near its lowest point, a step gains slope^2 / (2 curvature).
        if slope**2 <= 2 * _WORTH_A_STEP * curvature:
            break
        step = slope / curvature
        sharpness = min(max(sharpness - step, _LEAST), _MOST)
    return best
