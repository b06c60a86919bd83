"""A linear probe that starts from text vectors, interpolated with them.

M. Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022, of the last layer alone: the
frozen tower's features are all there is.

Shape letters: n images, d feature width, C classes (`c` in lower case is the inverse penalty).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import JsonValue

from deponij.pipeline.heads.choosing import worth
from deponij.pipeline.heads.head import Floats, Names
from deponij.pipeline.heads.registry import register
from deponij.pipeline.heads.units import unit_rows
from deponij.pipeline.heads.words.pulled_logistic import fit_pulled
from deponij.pipeline.heads.words.text_blend import TextBlend, Wide
from deponij.store.errors import UsageError

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
        c_, alpha_: chosen. trials_: what was tried on validation. converged_: of the chosen probe.
    """

    title: ClassVar[str] = "zero-shot and probe interpolated (WiSE-FT)"
    apply: ClassVar[str] = "logits = scale * (features / norm(features)) @ weight.T"

    trials_: tuple[Trial, ...]

    def __init__(
        self,
        cs: Sequence[float] = DEFAULT_CS,
        alphas: Sequence[float] = DEFAULT_ALPHAS,
        scale: float = 100.0,
        max_iter: int = 200,
    ) -> None:
        self.cs = cs
        self.alphas = alphas
        self.scale = scale
        self.max_iter = max_iter

    def _learn(self, units: Wide, codes: NDArray[np.int64], validation: tuple[Wide, Names] | None) -> None:
        cs, alphas = sorted({float(c) for c in self.cs}), sorted({float(alpha) for alpha in self.alphas})
        self.c_ = cs[len(cs) // 2]
        self.trials_ = ()
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
        logits: Floats = self.scale * (unit_rows(features, "features") @ self.coef_.astype(np.float64).T)
        return logits

    @property
    def protocol(self) -> str:
        """In words: what was interpolated, and chosen on what."""
        how = f"of {len(self.trials_)} by top-1 on validation" if self.trials_ else "without validation"
        return (
            f"logistic regression started from and pulled towards {self.start_}, interpolated with them; "
            f"C = {self.c_:g}, alpha = {self.alpha_:g} {how}; fitted on training"
        )

    def _check_params(self) -> None:
        super()._check_params()
        if len(self.cs) == 0 or not all(np.isfinite(c) and c > 0 for c in self.cs):
            raise UsageError(f"{self.title}: cs must be positive numbers, got {list(self.cs)}")
        if len(self.alphas) == 0 or not all(0 <= alpha <= 1 for alpha in self.alphas):
            raise UsageError(f"{self.title}: alphas must lie in 0..1, got {list(self.alphas)}")
        if self.max_iter < 1:
            raise UsageError(f"{self.title}: max_iter must be at least 1, got {self.max_iter}")

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Constructor arguments."""
        return {"cs": self.cs, "alphas": self.alphas, "scale": self.scale, "max_iter": self.max_iter}

    def _learned(self) -> dict[str, JsonValue]:
        return {
            "start": self.start_,
            "c": self.c_,
            "alpha": self.alpha_,
            "converged": self.converged_,
            "trials": [[trial.c, trial.alpha, trial.top1, trial.log_loss] for trial in self.trials_],
        }

    def _tensors(self) -> dict[str, NDArray[np.float32]]:
        return {"weight": self.coef_, "zero_shot": self.zero_shot_}

    def _restore(self, tensors: Mapping[str, NDArray[np.float32]], learned: Mapping[str, Any]) -> None:
        super()._restore(tensors, learned)
        self.coef_ = tensors["weight"]
        self.c_, self.alpha_ = learned["c"], learned["alpha"]
        self.converged_ = learned["converged"]
        self.trials_ = tuple(Trial(*values) for values in learned["trials"])
