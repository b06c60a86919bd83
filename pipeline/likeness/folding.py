"""Near-duplicates folded: of hits that show the same thing only the best ranked stays.

Shape letters: n hits, d width.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from deponij.pipeline.likeness.pairs import Evidence, Likeness, Thresholds


def fold(
    keys: Sequence[str],
    phashes: Sequence[str | None],
    vectors: NDArray[np.float32],
    *,
    max_bits: int,
    min_cosine: float,
    enough: int,
) -> list[list[int]]:
    """Groups of n hits in falling order of score; the first of each group stands for it.

    A hit joins the first group whose first hit is the same picture (equal keys), looks the same (perceptual hashes
    at most `max_bits` of 64 apart) or has nearly the same vector (cosine of at least `min_cosine`).

    Args:
        vectors: [n, d].
        enough: groups; later hits may join them, but open no others.

    Raises:
        UsageError: a threshold out of its range.
    """
    likeness = Likeness(Evidence(keys, phashes, vectors), how=Thresholds(max_bits, min_cosine))
    groups: list[list[int]] = []
    for hit in range(len(keys)):
        firsts = np.array([group[0] for group in groups], np.int64)
        homes = np.flatnonzero(likeness.tile(firsts, slice(hit, hit + 1)).any)
        if len(homes):
            groups[homes[0]].append(hit)
        elif len(groups) < enough:
            groups.append([hit])
    return groups
