"""What is alike among items: the same picture, the same looks, nearly the same features. Tile by tile, never n x n.

Three kinds of evidence, kept apart: equal keys (`picture`), which need no other; perceptual hashes a few bits apart
(`phash`), which the features must confirm where there are any; and a high cosine of the features (`embedding`). Groups
made of them: `groups`; what folds must not part: `near_groups`; a new batch against an archive: `coverage`; hits of a
search: `folding`; labels that contradict each other: `mistakes.twins`. The numbers are measured on photographs, for all
of these: docs/duplicates.md.
Shape letters: n items, a and b rows of a tile, d feature width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from deponij.pipeline.likeness.phash import HASH_BITS, Hashes
from deponij.pipeline.unit_vectors import unit
from deponij.store.errors import UsageError

How = Literal["picture", "phash", "embedding"]
HOWS: tuple[How, ...] = ("picture", "phash", "embedding")
Mask = NDArray[np.bool_]
Rows = NDArray[np.int64]
# Bits of 64 that hashes may differ in: where features confirm the pair, and where there is nothing but the hash.
MAX_BITS, MAX_BITS_ALONE = 10, 4
# The cosine that suffices without a hash.
MIN_COSINE = 0.97
# The cosine that confirms equal hashes, and how much more each differing bit asks for: 0.75 at 4 bits, 0.9 at 10.
CONFIRM_COSINE, CONFIRM_PER_BIT = 0.65, 0.025
# Side of a tile: its cosines, hashes and masks take some 40 MB.
TILE = 2048
# Of hash rows that are compared in one go, so that they stay in the processor's cache.
_HASH_STEP = 64
# Products of equal vectors differ in their last bits.
_TOLERANCE = 1e-6
# Stands for the distance to a picture without a hash.
UNHASHED = 255


@dataclass(frozen=True, slots=True)
class Thresholds:
    """From when two pictures count as near-duplicates.

    Attributes:
        max_bits: of 64 in which perceptual hashes may differ; None: `MAX_BITS` where features confirm what hashes
            propose, `MAX_BITS_ALONE` where there are none.
        min_cosine: of the features as they are, the cosine that search ranks by; from here no hash is needed.
        confirm_cosine: that confirms equal hashes; each differing bit asks for `CONFIRM_PER_BIT` more. -1 confirms all.
    """

    max_bits: int | None = None
    min_cosine: float = MIN_COSINE
    confirm_cosine: float = CONFIRM_COSINE

    def __post_init__(self) -> None:
        cosines = self.min_cosine, self.confirm_cosine
        if not 0 < cosines[0] <= 1 or not -1 <= cosines[1] <= 1 or not 0 <= (self.max_bits or 0) <= HASH_BITS:
            raise UsageError(
                f"cosines lie in (0, 1], those that confirm in [-1, 1], and bits in 0..{HASH_BITS}; got "
                f"{cosines[0]}, {cosines[1]} and {self.max_bits}"
            )

    def bits(self, is_confirmed: bool) -> int:
        """In which hashes may differ, with features that confirm them or without."""
        if self.max_bits is not None:
            return self.max_bits
        return MAX_BITS if is_confirmed else MAX_BITS_ALONE

    def confirming(self, bits: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The cosine that confirms hashes so many bits apart."""
        if self.confirm_cosine <= -1:
            return np.full(bits.shape, -np.inf, np.float32)
        return (self.confirm_cosine + CONFIRM_PER_BIT * bits.astype(np.float32)).astype(np.float32)

    def words(self, has_hashes: bool, has_features: bool) -> str:
        """What counts, for a person."""
        hashes = f"hashes up to {self.bits(has_features)} of {HASH_BITS} bits apart"
        if not has_features:
            return hashes if has_hashes else "equal content"
        features = f"a cosine from {self.min_cosine:g}"
        if not has_hashes:
            return features
        confirmed = f"{self.confirm_cosine:g} and {CONFIRM_PER_BIT:g} for each bit"
        return f"{hashes} with a cosine from {confirmed}, or {features}"


class Evidence:
    """What is known of n items' looks.

    Args:
        keys: [n], of the pictures' content.
        phashes: [n], 16 hexadecimal characters or None; None: there are none.
        vectors: [n, d], of any length but zero; None: there are none.

    Raises:
        UsageError: the lengths differ.
        DataError: a hash or a vector is damaged.
    """

    def __init__(
        self,
        keys: Sequence[str],
        phashes: Sequence[str | None] | None = None,
        vectors: NDArray[np.floating] | None = None,
    ) -> None:
        lengths = {len(keys), *(len(one) for one in (phashes, vectors) if one is not None)}
        if len(lengths) > 1:
            raise UsageError(f"keys, hashes and vectors must be of one length, got {sorted(lengths)}")
        self.keys = np.asarray(keys, np.str_)
        self.units = None if vectors is None else unit(vectors)
        hashes = None if phashes is None else Hashes.of(phashes)
        self.hashes = hashes if hashes is not None and hashes.is_known.any() else None

    def __len__(self) -> int:
        return len(self.keys)


class Alike(NamedTuple):
    """One tile, bool [a, b] each; None: that evidence is lacking."""

    picture: Mask
    phash: Mask | None
    embedding: Mask | None

    @property
    def any(self) -> Mask:
        """Of any kind, [a, b]."""
        alike = self.picture.copy()
        for mask in (self.phash, self.embedding):
            if mask is not None:
                alike |= mask
        return alike


class Likeness:
    """Which rows of one set are alike with which of another, or of the same.

    Args:
        a, b: what is known of both; only evidence that both have counts.
        b: None for the same set.
    """

    def __init__(self, a: Evidence, b: Evidence | None = None, how: Thresholds | None = None) -> None:
        self.a, self.b = a, a if b is None else b
        self.how = how or Thresholds()
        _, codes = np.unique(np.concatenate([self.a.keys, self.b.keys]), return_inverse=True)
        self._codes_a = codes[: len(self.a)].astype(np.int32)
        self._codes_b = codes[len(codes) - len(self.b) :].astype(np.int32)

    def tile(self, rows_a: Rows | slice, rows_b: Rows | slice) -> Alike:
        """Which of these are alike."""
        picture = self._codes_a[rows_a, None] == self._codes_b[None, rows_b]
        bits, cosines = self.bits(rows_a, rows_b), self.cosines(rows_a, rows_b)
        return Alike(
            picture,
            None if bits is None else self._like_hashes(bits, cosines),
            None if cosines is None else cosines >= self.how.min_cosine - _TOLERANCE,
        )

    def _like_hashes(self, bits: NDArray[np.uint8], cosines: NDArray[np.float32] | None) -> Mask:
        near: Mask = bits <= self.how.bits(cosines is not None)
        if cosines is not None:
            proposed = np.nonzero(near)
            near[proposed] = cosines[proposed] >= self.how.confirming(bits[proposed]) - _TOLERANCE
        return near

    def bits(self, rows_a: Rows | slice, rows_b: Rows | slice) -> NDArray[np.uint8] | None:
        """Differing bits of 64, uint8 [a, b]; 255 where a hash is lacking."""
        if self.a.hashes is None or self.b.hashes is None:
            return None
        words_a, is_known_a = (one[rows_a] for one in self.a.hashes)
        words_b, is_known_b = (one[rows_b] for one in self.b.hashes)
        apart = np.empty((len(words_a), len(words_b)), np.uint8)
        for start in range(0, len(words_a), _HASH_STEP):
            some = slice(start, start + _HASH_STEP)
            np.bitwise_count(words_a[some, None] ^ words_b, out=apart[some])
        apart[~is_known_a] = UNHASHED
        apart[:, ~is_known_b] = UNHASHED
        return apart

    def cosines(self, rows_a: Rows | slice, rows_b: Rows | slice) -> NDArray[np.float32] | None:
        """Cosines of the features, float32 [a, b]."""
        if self.a.units is None or self.b.units is None:
            return None
        cosines: NDArray[np.float32] = self.a.units[rows_a] @ self.b.units[rows_b].T
        return cosines

    def links(self, row: int, rows: Rows) -> list["Link"]:
        """What speaks for one row of a being alike with each of some rows of b."""
        one = slice(row, row + 1)
        tile, bits, cosines = self.tile(one, rows), self.bits(one, rows), self.cosines(one, rows)
        return [
            Link(
                tuple(how for how in HOWS if (mask := getattr(tile, how)) is not None and mask[0, place]),
                None if bits is None or bits[0, place] == UNHASHED else int(bits[0, place]),
                None if cosines is None else float(np.clip(cosines[0, place], -1, 1)),
            )
            for place in range(len(rows))
        ]


class Link(NamedTuple):
    """Of one pair: the kinds of evidence that hold, differing bits of 64, and the cosine of the features."""

    how: tuple[How, ...]
    bits: int | None
    cosine: float | None


def spans(n: int) -> list[slice]:
    """0..n in steps of a tile's side."""
    return [slice(start, min(n, start + TILE)) for start in range(0, n, TILE)]


def codes_of(names: Sequence[str | None]) -> NDArray[np.int32]:
    """A number for each name, int32 [n]; items without a name share theirs with nobody."""
    known: dict[object, int] = {}
    return np.array(
        [known.setdefault((row,) if name is None else name, len(known)) for row, name in enumerate(names)],
        np.int32,
    ).reshape(len(names))
