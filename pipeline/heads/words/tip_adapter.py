"""Zero-shot with a cache of labelled examples, without training.

R. Zhang et al., "Tip-Adapter: Training-free Adaption of CLIP for Few-shot Classification", ECCV 2022.

Shape letters: n images, m cached examples, d feature width, C classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deponij.pipeline.cards import REAL, Condition, Fact, rows_of
from deponij.pipeline.heads.choosing import worth
from deponij.pipeline.heads.head import Floats, Names
from deponij.pipeline.heads.registry import register
from deponij.pipeline.heads.words.text_blend import TextBlend, Wide
from deponij.pipeline.unit_vectors import blocks, directions
from deponij.store.scratch import converted, scratch

# A class's affinities add up over all its examples, of which there are more than the paper's sixteen.
DEFAULT_ALPHAS = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
DEFAULT_BETAS = (1.0, 2.0, 5.5, 10.0, 20.0, 50.0, 100.0)
# The paper's, where nothing can be chosen.
USUAL_ALPHA, USUAL_BETA = 1.0, 5.5


@dataclass(frozen=True, slots=True)
class Trial:
    """One weight and sharpness of the cache, and how they do on validation."""

    alpha: float
    beta: float
    top1: float
    log_loss: float


@register("tip-adapter")
@dataclass(eq=False)
class TipAdapter(TextBlend):
    """Logits = scale * cosine to the class vectors + alpha * affinity @ one-hot labels of the cache.

    The affinity of an image and a cached training example is exp(-beta * (1 - cosine)). Alpha and beta
    are chosen by top-1 on validation; ties go to the lower log-loss, then to the smaller alpha and
    beta. Without a validation pair they are those of the given ones that are nearest to the paper's
    1 and 5.5. Training examples are in the cache, so that answers to them say nothing.

    Args:
        alphas: weights of the cache to choose from; at 0 it is zero-shot.
        betas: sharpnesses to choose from.
        scale: of the cosine to the class vectors.

    Attributes:
        vectors_: training features of unit length, float32 [m, d], sorted by class.
        codes_: their classes, [m].
        alpha_, beta_: chosen.
        trials_: what was tried on validation.
    """

    title: ClassVar[str] = "zero-shot with a cache (Tip-Adapter)"
    choices: ClassVar[Mapping[str, str]] = {"alphas": "alpha_", "betas": "beta_"}
    remembers: ClassVar[str] = "Training items are in the cache"
    apply: ClassVar[str] = (
        "import numpy as np\n"
        "units = features / norm(features)\n"
        "affinity = np.exp(-beta * (1 - units @ vectors.T))\n"
        "logits = scale * units @ zero_shot.T + alpha * affinity @ np.eye(len(zero_shot))[codes.astype(int)]"
    )

    tensors: ClassVar[Mapping[str, str]] = {
        **TextBlend.tensors,
        **{name: f"{name}_" for name in ("vectors", "codes", "alpha", "beta")},
    }
    shapes: ClassVar[Mapping[str, str]] = {
        **TextBlend.shapes,
        **{"vectors": "n d", "codes": "n", "alpha": "1", "beta": "1"},
    }
    facts: ClassVar[Mapping[str, Fact]] = {
        **TextBlend.facts,
        "alpha": REAL,
        "beta": REAL,
        "trials": rows_of(Trial),
    }

    alphas: Sequence[float] = DEFAULT_ALPHAS
    betas: Sequence[float] = DEFAULT_BETAS
    scale: float = 100.0

    def _learn(self, units: Wide, codes: NDArray[np.int64], validation: tuple[Wide, Names] | None) -> None:
        order = np.argsort(codes, kind="stable")
        # Rounded as they are saved, so that a loaded head gives the same answers.
        self.vectors_, self.codes_ = scratch(units.shape, np.float32), codes[order]
        for some in blocks(*units.shape):
            self.vectors_[some] = units[order[some]]
        alphas, betas = (sorted({float(value) for value in values}) for values in (self.alphas, self.betas))
        self.alpha_, self.beta_ = _nearest(alphas, USUAL_ALPHA), _nearest(betas, USUAL_BETA)
        self.trials_: tuple[Trial, ...] = ()
        if validation is not None:
            zero_shot, cached = self._zero_shot_logits(validation[0]), self._cached(validation[0], betas)
            self.trials_ = tuple(
                Trial(alpha, beta, *worth(zero_shot + alpha * cached[beta], self.classes_, validation[1]))
                for beta in betas
                for alpha in alphas
            )
            best = min(self.trials_, key=lambda trial: (-trial.top1, trial.log_loss, trial.alpha, trial.beta))
            self.alpha_, self.beta_ = best.alpha, best.beta

    def decision_function(self, X: ArrayLike) -> Floats:
        """Logits [n, C] of image features [n, d] of any length; see `Head`."""
        units = directions(self._check_width(X), "features")
        logits: Floats = self._zero_shot_logits(units)
        if self.alpha_ != 0:
            logits += self.alpha_ * self._cached(units, [self.beta_])[self.beta_]
        return logits

    def _cached(self, units: Wide, betas: Sequence[float]) -> dict[float, Wide]:
        """Sums of affinities [n, C] to each class's examples, by beta."""
        stored = converted(self.vectors_, np.float64)
        present, starts = np.unique(self.codes_, return_index=True)
        sums = {beta: np.zeros((len(units), len(self.classes_))) for beta in betas}
        for some in blocks(len(units), len(stored)):
            away = units[some] @ stored.T - 1  # [block, m]
            for beta in betas:
                affinity = np.exp(beta * away)
                sums[beta][some, present] = np.add.reduceat(affinity, starts, axis=1)
        return sums

    @property
    def protocol(self) -> str:
        """In words: what was blended, and chosen on what."""
        how = f"of {len(self.trials_)} by top-1 on validation" if self.trials_ else "without validation"
        return (
            f"cosine to {self.start_} and affinities to {len(self.codes_)} cached training items; "
            f"alpha = {self.alpha_:g}, beta = {self.beta_:g} {how}; no training"
        )

    def _conditions(self) -> Sequence[Condition]:
        return (
            *super()._conditions(),
            *(
                (
                    len(values) > 0 and all(np.isfinite(value) and value >= 0 for value in values),
                    f"{name} must be numbers from 0, got {list(values)}",
                )
                for name, values in (("alphas", self.alphas), ("betas", self.betas))
            ),
        )

    def _restore(self, tensors: Mapping[str, NDArray[np.float32]], learned: Mapping[str, Any]) -> None:
        super()._restore(tensors, learned)
        self.codes_ = tensors["codes"].astype(np.int64)


def _nearest(values: Sequence[float], target: float) -> float:
    return min(values, key=lambda value: (abs(value - target), value))
