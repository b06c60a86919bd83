"""Wilson's interval for a share. Of clustered values: `clustered`. Two models on the same items: `paired`."""

from math import sqrt

Interval = tuple[float, float]
# Of the standard normal distribution, for 95 %.
NORMAL_95 = 1.959963984540054


def wilson(share: float, n: float, quantile: float = NORMAL_95) -> Interval:
    """Wilson's score interval for a share of n trials, as (low, high) in [0, 1].

    Source: E. B. Wilson, JASA 22 (1927) 209-212; method 3 of R. G. Newcombe, Statistics in
    Medicine 17 (1998) 857-872.

    Args:
        n: above 0; need not be whole, for it may be an effective number.
        quantile: how many standard errors the share may be from the truth.

    Raises:
        ValueError: a share outside [0, 1], or no trials.
    """
    if not 0 <= share <= 1 or not n > 0:
        raise ValueError(f"need a share of 0 to 1 and n above 0, got {share} of {n}")
    square = quantile * quantile / n
    spread = quantile * sqrt(share * (1 - share) / n + square / (4 * n))
    low, high = ((share + square / 2 + side * spread) / (1 + square) for side in (-1, 1))
    # At the ends the exact bound is 0 or 1; rounding must not push it past.
    return (0.0 if share == 0 else max(0.0, low)), (1.0 if share == 1 else min(1.0, high))
