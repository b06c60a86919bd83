"""Stacking: logistic regression on the members' answers.

D. H. Wolpert, "Stacked generalization", 1992; log-probabilities as in K. M. Ting, I. H. Witten, 1999.

Shape letters: m members, n items, C classes (`c` in lower case is the inverse penalty).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from deponij.pipeline.cards import REAL, Condition, Fact, are_positive
from deponij.pipeline.ensembles.ensemble import Calibrated, Codes, Wide, folds
from deponij.pipeline.ensembles.pools import pool_weights
from deponij.pipeline.ensembles.registry import register
from deponij.pipeline.heads.softmax_regression import fit_pulled
from deponij.pipeline.metrics.calibration import negative_log_likelihood

DEFAULT_CS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)


@register("stacking")
@dataclass(eq=False)
class Stacking(Calibrated):
    """Multinomial logistic regression on the members' calibrated log-probabilities, fitted on validation.

    It is pulled towards the best weighted sum of log-probabilities (the ensemble `weighted`), so that with
    few validation items it stays near it. The strength of the pull is the one with the least log-loss out of fold (ties: the
    stronger pull); the last fit is on all validation items. Their answers are kept out of fold, so that
    validation figures and temperatures stay honest.

    Args:
        cs: inverse penalties to choose from.
        folds: of the cross-fitting; fewer where there are fewer items.
        seed: of the folds.

    Attributes:
        weight_: float32 [C, m * C].
        c_: the chosen c.
        trials_: each c and its log-loss out of fold.
    """

    title: ClassVar[str] = "stacking"
    chooses: ClassVar[bool] = True
    apply: ClassVar[str] = (
        "scaled = members / np.reshape(temperatures, (-1, 1, 1))\n"
        "scaled -= scaled.max(axis=-1, keepdims=True)\n"
        "log_probs = scaled - np.log(np.exp(scaled).sum(axis=-1, keepdims=True))\n"
        "logits = np.concatenate(list(log_probs), axis=1) @ weight.T"
    )

    tensors: ClassVar[Mapping[str, str]] = {"weight": "weight_"}
    shapes: ClassVar[Mapping[str, str]] = {"weight": "C mC"}
    facts: ClassVar[Mapping[str, Fact]] = {
        **Calibrated.facts,
        "c": REAL,
        "trials": Fact(
            lambda trials: list(map(list, trials)),
            lambda rows: tuple(map(tuple, rows)),
            of=list[tuple[float, float]],
        ),
    }

    cs: Sequence[float] = DEFAULT_CS
    folds: int = 5
    seed: int = 0

    def _conditions(self) -> Sequence[Condition]:
        return (
            (are_positive(self.cs), f"cs must be positive numbers, got {list(self.cs)}"),
            (self.folds >= 2, f"folds must be at least 2, got {self.folds}"),
            (self.seed >= 0, f"seed must be 0 or more, got {self.seed}"),
        )

    def _fit(self, members: Wide, codes: Codes) -> None:
        log_probs = self._calibrate(members, codes)
        cs = sorted({float(c) for c in self.cs})
        self.c_ = cs[0]
        self.trials_: tuple[tuple[float, float], ...] = ()
        if len(codes) > 1:
            fold = folds(codes, self.folds, self.seed)
            answers = {c: _by_folds(log_probs, codes, fold, c) for c in cs}
            self.trials_ = tuple((c, negative_log_likelihood(answers[c], codes)) for c in cs)
            self.c_ = min(self.trials_, key=lambda trial: (trial[1], trial[0]))[0]
            self._answers = answers[self.c_]
        self.weight_ = _stack(log_probs, codes, self.c_).astype(np.float32)
        blocks = np.abs(self.weight_.reshape(self.n_classes_, self.n_members_, self.n_classes_)).sum(
            axis=(0, 2)
        )
        self.shares_ = blocks.astype(np.float64) / float(blocks.sum())

    def _apart(self, members: Wide, codes: Codes) -> Wide:
        """As they were answered for the choice of c: to choose it in every fold anew would cost five times as much."""
        return self._answers

    def _combine(self, members: Wide) -> Wide:
        logits: Wide = _side_by_side(self._log_probs(members)) @ self.weight_.astype(np.float64).T
        return logits

    @property
    def protocol(self) -> str:
        """In words."""
        return (
            f"logistic regression on the log-probabilities of {self.n_members_} members, pulled towards their best "
            f"weighted sum; c = {self.c_:g} of {len(self.cs)} by log-loss out of fold on validation, fitted on validation"
        )


def _side_by_side(log_probs: Wide) -> Wide:
    """[m, n, C] as [n, m * C]."""
    return np.concatenate(list(log_probs), axis=1)


def _stack(log_probs: Wide, codes: Codes, c: float) -> Wide:
    """Weights [C, m * C] fitted on members' log-probabilities [m, n, C] of items of these classes [n]."""
    towards: Wide = np.kron(pool_weights(log_probs, codes), np.eye(log_probs.shape[2])).astype(np.float64)
    return fit_pulled(_side_by_side(log_probs), codes, towards, c).weight


def _by_folds(log_probs: Wide, codes: Codes, fold: Codes, c: float) -> Wide:
    """Logits [n, C], each item's by a fit on the other folds."""
    logits = np.empty(log_probs.shape[1:])
    for number in range(fold.max() + 1):
        left_out = fold == number
        weight = _stack(log_probs[:, ~left_out], codes[~left_out], c)
        logits[left_out] = _side_by_side(log_probs[:, left_out]) @ weight.T
    return logits
