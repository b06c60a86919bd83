"""Multinomial logistic regression that is pulled towards given weights instead of towards zero.

With few examples it stays where it starts: at text vectors for a head, at the mean for an ensemble.

Shape letters: n examples, d inputs, C classes (`c` in lower case is the inverse penalty).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

Wide = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Fit:
    """Weights [C, d] and whether they are final."""

    weight: Wide
    converged: bool
    n_iter: int


def fit_pulled(
    inputs: Wide,
    codes: NDArray[np.integer],
    towards: Wide,
    c: float,
    *,
    start: Wide | None = None,
    max_iter: int = 200,
) -> Fit:
    """Minimise c * (sum of log-losses) + |weight - towards|^2 / 2 by L-BFGS; logits = inputs @ weight.T.

    One thread is used, so that the same examples give the same bytes whatever the machine's count.

    Args:
        inputs: [n, d]; codes: columns [n]; towards: [C, d].
        c: as scikit-learn's C; at 0 the result would be `towards`.
        start: where to begin, [C, d]; by default at `towards`.
    """
    from scipy.optimize import minimize

    rows = np.arange(len(codes))

    def objective(flat: Wide) -> tuple[float, Wide]:
        weight = flat.reshape(towards.shape)
        logits = inputs @ weight.T  # [n, C]
        logits -= logits.max(axis=1, keepdims=True)
        powers = np.exp(logits)
        sums = powers.sum(axis=1)
        log_loss = float((np.log(sums) - logits[rows, codes]).sum())
        residuals = powers / sums[:, None]
        residuals[rows, codes] -= 1
        away = weight - towards
        gradient = c * (residuals.T @ inputs) + away
        return c * log_loss + 0.5 * float(np.square(away).sum()), gradient.ravel()

    first = towards if start is None else start
    with threadpool_limits(limits=1):
        found = minimize(
            objective,
            first.ravel(),
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": max_iter, "ftol": 1e-9, "gtol": 1e-6 * max(1.0, c * len(codes))},
        )
    return Fit(found.x.reshape(towards.shape), bool(found.success), int(found.nit))
