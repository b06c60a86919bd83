"""Near-duplicates folded: of hits that show the same thing only the best ranked stays.

Shape letters: n hits, d width.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from deponij.pipeline.likeness.phash import hamming
from deponij.store.errors import UsageError


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
        vectors: [n, d], of unit length. enough: groups; later hits may join them, but open no others.

    Raises:
        UsageError: a threshold out of its range.
    """
    if not 0 < min_cosine <= 1 or not 0 <= max_bits <= 64:
        raise UsageError(f"cosines lie in (0, 1] and bits in 0..64, got {min_cosine} and {max_bits}")
    groups: list[list[int]] = []
    for hit in range(len(keys)):
        home = _home(hit, [group[0] for group in groups], keys, phashes, vectors, max_bits, min_cosine)
        if home is not None:
            groups[home].append(hit)
        elif len(groups) < enough:
            groups.append([hit])
    return groups


def _home(
    hit: int,
    firsts: list[int],
    keys: Sequence[str],
    phashes: Sequence[str | None],
    vectors: NDArray[np.float32],
    max_bits: int,
    min_cosine: float,
) -> int | None:
    if not firsts:
        return None
    alike = vectors[firsts] @ vectors[hit] >= min_cosine
    for place, first in enumerate(firsts):
        if alike[place] or keys[first] == keys[hit]:
            return place
        a, b = phashes[first], phashes[hit]
        if a and b and hamming([a], [b])[0] <= max_bits:
            return place
    return None
