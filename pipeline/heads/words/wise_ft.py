"""A linear probe that starts from text vectors, interpolated with them.

M. Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022, of the last layer alone: the
frozen tower's features are all there is.

Shape letters: n images, d feature width, C classes (`c` in lower case is the inverse penalty).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deponij.pipeline.cards import FLAG, REAL, Condition, Fact, are_positive, rows_of
from deponij.pipeline.heads.choosing import worth
from deponij.pipeline.heads.head import Floats, Names
from deponij.pipeline.heads.registry import register
from deponij.pipeline.heads.softmax_regression import fit_pulled
from deponij.pipeline.heads.words.text_blend import TextBlend, Wide
from deponij.pipeline.unit_vectors import cosines

DEFAULT_CS = (0.1, 1.0, 10.0, 100.0, 1000.0)
# Eleven steps from zero-shot to the probe; the paper recommends the middle where nothing can be chosen.
DEFAULT_ALPHAS = tuple(step / 10 for step in range(11))
USUAL_ALPHA = 0.5


@dataclass(frozen=True, slots=True)
class Trial:
    """One strength and interpolation, and how they do on validation."""

    c: float
    alpha: float
    top1: float
    log_loss: float


@register("wise-ft")
@dataclass(eq=False)
class WiseFt(TextBlend):
    """Class vectors (1 - alpha) * zero-shot + alpha * probe; logits are `scale` times their products.

    The probe is logistic regression on features of unit length, started at the zero-shot class vectors
    and pulled towards them by an L2 penalty. Its strength C and alpha are chosen together by top-1 on
    validation; ties go to the lower log-loss, then to the smaller alpha and C, which are nearer to
    zero-shot. Without a validation pair C is the middle of `cs` and alpha 0.5 (else the middle one).

    Args:
        cs: inverse penalties to choose from.
        alphas: interpolations to choose from; 0 is zero-shot, 1 the probe.
        scale: of the cosine.
        max_iter: L-BFGS iterations of one fit.

    Attributes:
        coef_: the interpolated class vectors, float32 [C, d].
        c_, alpha_: chosen.
        trials_: what was tried on validation.
        converged_: of the chosen probe.
    """

    title: ClassVar[str] = "zero-shot and probe interpolated (WiSE-FT)"
    choices: ClassVar[Mapping[str, str]] = {"cs": "c_", "alphas": "alpha_"}
    apply: ClassVar[str] = "logits = scale * (features / norm(features)) @ weight.T"

    tensors: ClassVar[Mapping[str, str]] = {"weight": "coef_", **TextBlend.tensors}
    shapes: ClassVar[Mapping[str, str]] = {"weight": "C d", **TextBlend.shapes}
    facts: ClassVar[Mapping[str, Fact]] = {
        **TextBlend.facts,
        **dict.fromkeys(("c", "alpha"), REAL),
        "converged": FLAG,
        "trials": rows_of(Trial),
    }

    cs: Sequence[float] = DEFAULT_CS
    alphas: Sequence[float] = DEFAULT_ALPHAS
    scale: float = 100.0
    max_iter: int = 200

    def _learn(self, units: Wide, codes: NDArray[np.int64], validation: tuple[Wide, Names] | None) -> None:
        cs, alphas = sorted({float(c) for c in self.cs}), sorted({float(alpha) for alpha in self.alphas})
        self.c_ = cs[len(cs) // 2]
        self.trials_: tuple[Trial, ...] = ()
        self.alpha_ = USUAL_ALPHA if USUAL_ALPHA in alphas else alphas[len(alphas) // 2]
        # From the strongest pull to the weakest, each starting where the last one ended.
        towards = self.scale * self.zero_shot_.astype(np.float64)
        probes, last = {}, towards
        for c in cs if validation is not None else [self.c_]:
            probes[c] = fit_pulled(units, codes, towards, c, start=last, max_iter=self.max_iter)
            last = probes[c].weight
        if validation is not None:
            self.trials_ = tuple(
                Trial(
                    c,
                    alpha,
                    *worth(self._logits(validation[0], probe.weight, alpha), self.classes_, validation[1]),
                )
                for c, probe in probes.items()
                for alpha in alphas
            )
            best = min(self.trials_, key=lambda trial: (-trial.top1, trial.log_loss, trial.alpha, trial.c))
            self.c_, self.alpha_ = best.c, best.alpha
        self.converged_ = probes[self.c_].converged
        self.coef_ = self._interpolated(probes[self.c_].weight, self.alpha_).astype(np.float32)

    def _interpolated(self, probe: Wide, alpha: float) -> Wide:
        between: Wide = (1 - alpha) * self.zero_shot_.astype(np.float64) + alpha * (probe / self.scale)
        return between

    def _logits(self, units: Wide, probe: Wide, alpha: float) -> Wide:
        logits: Wide = self.scale * (units @ self._interpolated(probe, alpha).T)
        return logits

    def decision_function(self, X: ArrayLike) -> Floats:
        """Logits [n, C] of image features [n, d] of any length; see `Head`."""
        features = self._check_width(X)
        logits: Floats = self.scale * cosines(features, self.coef_, "features")
        return logits

    @property
    def protocol(self) -> str:
        """In words: what was interpolated, and chosen on what."""
        how = f"of {len(self.trials_)} by top-1 on validation" if self.trials_ else "without validation"
        return (
            f"logistic regression started from and pulled towards {self.start_}, interpolated with them; "
            f"C = {self.c_:g}, alpha = {self.alpha_:g} {how}; fitted on training"
        )

    def _conditions(self) -> Sequence[Condition]:
        return (
            *super()._conditions(),
            (are_positive(self.cs), f"cs must be positive numbers, got {list(self.cs)}"),
            (
                len(self.alphas) > 0 and all(0 <= alpha <= 1 for alpha in self.alphas),
                f"alphas must lie in 0..1, got {list(self.alphas)}",
            ),
            (self.max_iter >= 1, f"max_iter must be at least 1, got {self.max_iter}"),
        )
