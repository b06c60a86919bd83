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
    how: Thresholds,
    enough: int,
) -> list[list[int]]:
    """Groups of n hits in falling order of score; the first of each group stands for it.

    A hit joins the first group whose first hit is the same picture (equal keys), looks the same (perceptual hashes a few
    bits apart, confirmed by the vectors) or has nearly the same vector.

    Args:
        vectors: [n, d].
        enough: groups; later hits may join them, but open no others.
    """
    likeness = Likeness(Evidence(keys, phashes, vectors), how=how)
    groups: list[list[int]] = []
    for hit in range(len(keys)):
        firsts = np.array([group[0] for group in groups], np.int64)
        homes = np.flatnonzero(likeness.tile(firsts, slice(hit, hit + 1)).any)
        if len(homes):
            groups[homes[0]].append(hit)
        elif len(groups) < enough:
            groups.append([hit])
    return groups
