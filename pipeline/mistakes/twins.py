"""Near-duplicates with different labels: equal pictures, equal looks that features confirm, or nearly equal features.

Shape letters: n items, d feature width.
"""

from collections.abc import Sequence

import numpy as np
from threadpoolctl import threadpool_limits

from deponij.pipeline.heads.head import Floats, Names
from deponij.pipeline.likeness.pairs import HOWS, Evidence, Likeness, Link, Thresholds, spans
from deponij.pipeline.likeness.phash import HASH_BITS
from deponij.pipeline.mistakes.records import Twin
from deponij.store.scratch import converted


def find_twins(
    features: Floats,
    ids: Sequence[str],
    names: Names,
    *,
    keys: Sequence[str],
    phashes: Sequence[str | None],
    groups: Names,
    how: Thresholds,
) -> list[Twin]:
    """Pairs of n items with different labels that look alike, the most alike first.

    Args:
        features: [n, d], finite.
        names: labels [n].
        groups: photographs [n].
        keys: of the pictures' bytes.
        phashes: 16 hexadecimal characters, or None.
        how: from when items count as near-duplicates.
    """
    # In one precision and on one thread: the same items give the same twins.
    likeness = Likeness(Evidence(keys, phashes, converted(features, np.float32)), how=how)
    _, codes = np.unique(names, return_inverse=True)
    links: list[tuple[int, int, Link]] = []
    with threadpool_limits(limits=1):
        for number, rows in enumerate(spans(len(codes))):
            # The other half of the square is the same.
            for others in spans(len(codes))[number:]:
                alike = likeness.tile(rows, others).any & (codes[rows, None] != codes[others])
                for row in rows.start + np.flatnonzero(alike.any(axis=1)):
                    later = others.start + np.flatnonzero(alike[row - rows.start])
                    later = later[later > row]
                    links += [
                        (int(row), int(other), link)
                        for other, link in zip(later, likeness.links(row, later), strict=True)
                    ]
    twins = [
        Twin(
            a=str(ids[a]),
            b=str(ids[b]),
            label_a=str(names[a]),
            label_b=str(names[b]),
            similarity=round(_similarity(link), 6),
            how=link.how[0],
            same_photo=bool(groups[a] == groups[b]),
        )
        for a, b, link in sorted(links)
    ]
    return sorted(twins, key=lambda twin: (HOWS.index(twin.how), -twin.similarity))


def _similarity(link: Link) -> float:
    """By the strongest evidence that holds; see `Twin`."""
    if link.how[0] == "picture":
        return 1.0
    return 1 - (link.bits or 0) / HASH_BITS if link.how[0] == "phash" else link.cosine or 0.0
