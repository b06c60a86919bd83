"""Near-duplicates with different labels: equal pictures, equal looks, or nearly equal features.

Shape letters: n items, d feature width.
"""

from collections import defaultdict
from collections.abc import Sequence
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from deponij.pipeline.heads.head import Floats, Names
from deponij.pipeline.likeness.phash import HASH_BITS, near_pairs
from deponij.pipeline.mistakes.records import Twin

How = Literal["picture", "phash", "embedding"]
_ORDER: tuple[How, ...] = ("picture", "phash", "embedding")
_BLOCK_CELLS = 8_000_000


def find_twins(
    features: Floats,
    ids: Sequence[str],
    names: Names,
    *,
    keys: Sequence[str],
    phashes: Sequence[str | None],
    groups: Names,
    max_bits: int,
    min_similarity: float,
) -> list[Twin]:
    """Pairs of n items with different labels that look alike, the most alike first.

    Args:
        features: [n, d], finite. names: labels [n]. groups: photographs [n].
        keys: of the pictures' bytes. phashes: 16 hexadecimal characters, or None.
        max_bits: two hashes may differ in.
        min_similarity: of features: cosine after the mean of all has been taken off, for many models put
            everything into one narrow cone.
    """
    found: dict[tuple[int, int], tuple[How, float]] = {}
    for pair, similarity in _alike(features, min_similarity):
        found[pair] = "embedding", similarity
    near = near_pairs(phashes, phashes, max_bits)
    for a, b, bits in zip(near.row_a.tolist(), near.row_b.tolist(), near.distance.tolist(), strict=True):
        found[a, b] = "phash", 1 - bits / HASH_BITS
    for pair in _equal(keys):
        found[pair] = "picture", 1.0
    twins = [
        Twin(
            a=str(ids[a]),
            b=str(ids[b]),
            label_a=str(names[a]),
            label_b=str(names[b]),
            similarity=round(similarity, 6),
            how=how,
            same_photo=bool(groups[a] == groups[b]),
        )
        for (a, b), (how, similarity) in sorted(found.items())
        if a < b and names[a] != names[b]
    ]
    return sorted(twins, key=lambda twin: (_ORDER.index(twin.how), -twin.similarity))


def _equal(keys: Sequence[str]) -> list[tuple[int, int]]:
    rows = defaultdict(list)
    for row, key in enumerate(keys):
        rows[key].append(row)
    return [pair for same in rows.values() for pair in combinations(same, 2)]


def _alike(features: Floats, min_similarity: float) -> list[tuple[tuple[int, int], float]]:
    centred = features.astype(np.float32) - features.mean(axis=0, dtype=np.float64).astype(np.float32)
    lengths = np.linalg.norm(centred, axis=1, keepdims=True)
    unit: NDArray[np.float32] = centred / np.where(lengths > 0, lengths, np.float32(1))
    step = max(1, _BLOCK_CELLS // max(1, len(unit)))
    found = []
    with threadpool_limits(limits=1):
        for start in range(0, len(unit), step):
            cosines = unit[start : start + step] @ unit.T
            rows, others = np.nonzero(cosines >= min_similarity)
            later = others > rows + start
            for row, other in zip(rows[later].tolist(), others[later].tolist(), strict=True):
                found.append(((row + start, other), min(1.0, float(cosines[row, other]))))
    return found
