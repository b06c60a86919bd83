"""Intervals for shares of counted items. Comparisons of two models on the same items do not live here."""

from math import sqrt
from statistics import NormalDist


def wilson(n_hits: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval for the share `n_hits / n`, as (low, high) in [0, 1].

    Source: E. B. Wilson, JASA 22 (1927) 209-212; method 3 of R. G. Newcombe, Statistics in
    Medicine 17 (1998) 857-872. With n = 0 nothing is known, and (0, 1) is returned.

    Raises:
        ValueError: not 0 <= n_hits <= n, or a confidence outside (0, 1).
    """
    if not 0 <= n_hits <= n:
        raise ValueError(f"need 0 <= n_hits <= n, got n_hits = {n_hits}, n = {n}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence}")
    if n == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share = n_hits / n
    centre = share + z * z / (2 * n)
    spread = z * sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low, high = ((centre + side * spread) / (1 + z * z / n) for side in (-1, 1))
    # At the ends the exact bound is 0 or 1; rounding must not push it past.
    return (0.0 if n_hits == 0 else max(0.0, low)), (1.0 if n_hits == n else min(1.0, high))
