"""Perceptual hashes: 64 bits that two copies of one picture nearly share, and the search for such pairs.

The hash is the DCT hash of Zauner, "Implementation and Benchmarking of Perceptual Image Hash
Functions" (2010), in the very form of `imagehash.phash` (imagehash 4.3): greyscale, 32 x 32 by
Lanczos, two-dimensional DCT-II, the 8 x 8 lowest frequencies against their median, row by row.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deponij.pipeline.unit_vectors import blocks
from deponij.store.errors import DataError

HASH_PX = 8
GRID_PX = 4 * HASH_PX
HASH_BITS = HASH_PX * HASH_PX
# Coefficients (up to about 1e6) are compared after rounding, or a picture of one colour would be hashed by
# the noise of floating-point arithmetic. Nothing else is changed by it.
_DECIMALS = 6
_HASH = re.compile(rf"[0-9a-fA-F]{{{HASH_BITS // 4}}}")


# Row k holds the k-th frequency of the unnormalised DCT-II over n = 32 samples, as in `scipy.fft.dct`:
# 2 cos(pi k (2 x + 1) / (2 n)). [8, 32]
_DCT: NDArray[np.float64] = 2 * np.cos(
    np.pi / (2 * GRID_PX) * np.outer(np.arange(HASH_PX), 2 * np.arange(GRID_PX) + 1)
)


class NearPairs(NamedTuple):
    """Pairs of rows whose hashes lie close, sorted by (row_a, row_b). All arrays [n_pairs]."""

    row_a: NDArray[np.int64]
    row_b: NDArray[np.int64]
    distance: NDArray[np.int64]


def phash(image: Image.Image) -> str:
    """The 64-bit perceptual hash of a decoded picture, as 16 hexadecimal characters."""
    grey = image.convert("L").resize((GRID_PX, GRID_PX), Image.Resampling.LANCZOS)
    pixels = np.asarray(grey, dtype=np.float64)  # [32, 32]
    low = np.round(_DCT @ pixels @ _DCT.T, _DECIMALS)  # [8, 8]
    bits = low > np.median(low)
    return np.packbits(bits).tobytes().hex()


class Hashes(NamedTuple):
    """Hashes as machine words, uint64 [n]; and of which items there is one, bool [n]."""

    words: NDArray[np.uint64]
    is_known: NDArray[np.bool_]

    @classmethod
    def of(cls, phashes: Sequence[str | None]) -> Self:
        """Parse 16 hexadecimal characters each; None, from a picture that could not be read, is unknown.

        Raises:
            DataError: a hash is something else.
        """
        wrong = next((one for one in phashes if one and not _HASH.fullmatch(one)), None)
        if wrong is not None:
            raise DataError(f"a perceptual hash is {HASH_BITS // 4} hexadecimal characters, got {wrong!r}")
        words = np.array([int(one, 16) if one else 0 for one in phashes], np.uint64)
        return cls(words, np.array([bool(one) for one in phashes], np.bool_))


def hamming(hashes_a: Sequence[str], hashes_b: Sequence[str]) -> NDArray[np.int64]:
    """Number of differing bits of each pair, [n], for two sequences of n hashes.

    Raises:
        DataError: a hash is not 16 hexadecimal characters.
        ValueError: the lengths differ.
    """
    if len(hashes_a) != len(hashes_b):
        raise ValueError(f"{len(hashes_a)} hashes against {len(hashes_b)}; pairs need equal numbers")
    return np.asarray(np.bitwise_count(Hashes.of(hashes_a).words ^ Hashes.of(hashes_b).words), np.int64)


def near_pairs(
    hashes_a: Sequence[str | None], hashes_b: Sequence[str | None], max_distance: int
) -> NearPairs:
    """All pairs (one of a, one of b) at most `max_distance` bits apart, block by block.

    Rows without a hash are in no pair.

    Raises:
        DataError: a hash is not 16 hexadecimal characters.
    """
    a, b = Hashes.of(hashes_a), Hashes.of(hashes_b)
    pairs = [np.empty((3, 0), np.int64)]
    for rows in blocks(len(a.words), len(b.words)):
        bits = np.bitwise_count(a.words[rows, None] ^ b.words)
        near = (bits <= max_distance) & a.is_known[rows, None] & b.is_known
        near_a, near_b = np.nonzero(near)
        pairs.append(np.stack([rows.start + near_a, near_b, bits[near].astype(np.int64)]))
    return NearPairs(*np.concatenate(pairs, axis=1))
