"""What a new batch of pictures adds to an archive: copies, familiar things, novel ones; and which few add most.

Shape letters: n archived items, m new ones, d width, k neighbours.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from deponij.pipeline.likeness.others import Advance, cosine_blocks, nearest_in
from deponij.pipeline.likeness.pairs import UNHASHED, Likeness, Rows, spans
from deponij.pipeline.unit_vectors import Vectors
from deponij.store.errors import UsageError

Novelty = Literal["exact", "near", "familiar", "novel"]
NOVELTIES: tuple[Novelty, ...] = ("exact", "near", "familiar", "novel")
# Nearer than this to what was picked already, an item adds nothing.
_NOTHING = 1e-5


@dataclass(frozen=True, slots=True)
class Batch:
    """Each of m new items against the archive.

    Attributes:
        novelty: `exact`: the archive has the very picture; `near`: a near-duplicate of it; `familiar`: its k-th
            nearest is within the radius; `novel`: beyond.
        scores: cosine distance to the k-th nearest of the archive, float32 [m].
        nearest: the row of the archive that it is likest to, int64 [m].
        distances: to it, float32 [m].
        bits: by which the nearest perceptual hash differs, uint8 [m]; 255 where there is none.
        gaps: distance to the nearest of the archive, float32 [m].
        density, coverage: of Naeem et al. ("Reliable Fidelity and Diversity Metrics for Generative Models", ICML
            2020), with the archive as the real and the batch as the other sample. Around each archived item is a
            ball that reaches to its k-th nearest other: density is in how many balls a new item lies, over k (1 for
            more of the same); coverage is the share of balls with a new item in them.
        expected_coverage: of as many pictures of the archive's own kind.
    """

    novelty: NDArray[np.str_]
    scores: NDArray[np.float32]
    nearest: Rows
    distances: NDArray[np.float32]
    bits: NDArray[np.uint8]
    gaps: NDArray[np.float32]
    density: float
    coverage: float
    expected_coverage: float

    def count(self, novelty: Novelty) -> int:
        """New items of one kind."""
        return int((self.novelty == novelty).sum())


def judge_batch(
    likeness: Likeness, k: int, radii: NDArray[np.float32], radius: float, advance: Advance = lambda _: None
) -> Batch:
    """Compare new items with an archive.

    Args:
        likeness: of the new items (a) with the archive (b); both with vectors.
        k: neighbours in the archive.
        radii: [n], distance of each archived item to its own k-th nearest other.
        radius: one for all, such as their 95 % quantile.

    Raises:
        UsageError: without vectors, or k is more than the archive holds.
    """
    new, archive = likeness.a.units, likeness.b.units
    if new is None or archive is None:
        raise UsageError("a batch is compared by its features; give both sets' vectors")
    m, n = len(new), len(archive)
    scores, gaps = np.empty(m, np.float32), np.empty(m, np.float32)
    nearest, n_inside, covered = np.empty(m, np.int64), np.zeros(m, np.int64), np.zeros(n, bool)
    for rows, cosines in cosine_blocks(new, archive):
        highest, columns = nearest_in(cosines, k)
        scores[rows], gaps[rows], nearest[rows] = highest[:, -1], highest[:, 0], columns[:, 0]
        inside = 1 - cosines < radii
        n_inside[rows] = inside.sum(axis=1)
        covered |= inside.any(axis=0)
        advance(rows.stop - rows.start)
    copies = _copies(likeness)
    bits, looks_like = _nearest_hashes(likeness)
    is_close = gaps <= 1 - likeness.how.min_cosine + 1e-6
    near = is_close | (looks_like >= 0)
    novelty = np.select([copies >= 0, near, scores <= radius], ["exact", "near", "familiar"], "novel").astype(
        np.str_
    )
    likest = np.where(copies >= 0, copies, np.where((looks_like >= 0) & ~is_close, looks_like, nearest))
    distances = np.clip(1 - np.einsum("md,md->m", new, archive[likest]), 0, 2).astype(np.float32)
    return Batch(
        novelty,
        scores,
        likest,
        distances,
        bits,
        gaps,
        float(n_inside.mean() / k),
        float(covered.mean()),
        expected_coverage(n, m, k),
    )


def _copies(likeness: Likeness) -> Rows:
    """Row of the archive with the same picture, [m]; -1 where there is none."""
    row_of = {key: row for row, key in enumerate(likeness.b.keys.tolist())}
    return np.array([row_of.get(key, -1) for key in likeness.a.keys.tolist()], np.int64)


def _nearest_hashes(likeness: Likeness) -> tuple[NDArray[np.uint8], Rows]:
    """Differing bits to the nearest hash of the archive, [m]; and the row of the nearest that is alike, or -1."""
    m = len(likeness.a)
    least, least_alike = np.full(m, UNHASHED, np.uint8), np.full(m, UNHASHED, np.uint8)
    rows = np.full(m, -1, np.int64)
    for some in spans(m):
        for others in spans(len(likeness.b)):
            bits, alike = likeness.bits(some, others), likeness.tile(some, others).phash
            if bits is None or alike is None:
                return least, rows
            least[some] = np.minimum(least[some], bits.min(axis=1))
            bits[~alike] = UNHASHED
            best = bits.argmin(axis=1)
            fewest = bits[np.arange(len(bits)), best]
            is_less = fewest < least_alike[some]
            rows[some] = np.where(is_less, others.start + best, rows[some])
            least_alike[some] = np.where(is_less, fewest, least_alike[some])
    return least, rows


def expected_coverage(n: int, m: int, k: int) -> float:
    """Coverage of n archived items by m others of the same distribution (Naeem et al. 2020, section 3.2).

    An item is not covered where the k nearest of all n + m - 1 others are of the archive.
    """
    share = 1.0
    for i in range(1, k + 1):
        share *= max(0, n - i) / (n + m - i)
    return 1 - share


@dataclass(frozen=True, slots=True)
class Pick:
    """New items that together add most.

    Attributes:
        rows: of the batch, int64, in the order in which they were picked.
        gaps: cosine distance of each to all that was there before it, falling.
        left: distance of the farthest new item to the archive and the pick together.
    """

    rows: Rows
    gaps: NDArray[np.float32]
    left: float


def farthest_first(units: Vectors, gaps: NDArray[np.float32], n_wanted: int) -> Pick:
    """Again and again the item that is farthest from the archive and from what was picked.

    The greedy k-center selection of Gonzalez (1985), as used by Sener and Savarese ("Active Learning for Convolutional
    Neural Networks: A Core-Set Approach", ICLR 2018). It looks for extremes, spoilt pictures among them.

    Args:
        units: [m, d], of unit length.
        gaps: [m], distance to the nearest of the archive; 0 where an item is no candidate.
        n_wanted: fewer are picked where the rest would add nothing.
    """
    left = gaps.astype(np.float32).copy()
    rows: list[int] = []
    distances: list[float] = []
    while len(left) and len(rows) < n_wanted:
        row = int(left.argmax())
        if left[row] <= _NOTHING:
            break
        rows.append(row)
        distances.append(float(left[row]))
        left = np.minimum(left, 1 - units @ units[row])
        left[row] = 0
    return Pick(
        np.array(rows, np.int64), np.array(distances, np.float32), float(max(0.0, left.max(initial=0)))
    )
