"""Perceptual hashes: 64 bits that two copies of one picture nearly share, and the search for such pairs.

The hash is the DCT hash of Zauner, "Implementation and Benchmarking of Perceptual Image Hash
Functions" (2010), in the very form of `imagehash.phash` (imagehash 4.3): greyscale, 32 x 32 by
Lanczos, two-dimensional DCT-II, the 8 x 8 lowest frequencies against their median, row by row.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

HASH_PX = 8
GRID_PX = 4 * HASH_PX
HASH_BITS = HASH_PX * HASH_PX
# Coefficients (up to about 1e6) are compared after rounding, or a picture of one colour would be hashed by
# the noise of floating-point arithmetic. Nothing else is changed by it.
_DECIMALS = 6
_BLOCK_CELLS = 2_000_000

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


def hamming(hashes_a: Sequence[str], hashes_b: Sequence[str]) -> NDArray[np.int64]:
    """Number of differing bits of each pair, [n], for two sequences of n hashes.

    Raises:
        ValueError: the lengths differ, or a hash is not 16 hexadecimal characters.
    """
    a, b = _words(hashes_a), _words(hashes_b)
    if a.shape != b.shape:
        raise ValueError(f"{len(a)} hashes against {len(b)}; pairs need equal numbers")
    return np.asarray(np.bitwise_count(a ^ b), dtype=np.int64)


def near_pairs(
    hashes_a: Sequence[str | None], hashes_b: Sequence[str | None], max_distance: int
) -> NearPairs:
    """All pairs (one of a, one of b) at most `max_distance` bits apart.

    Rows without a hash (None, from a picture that could not be read) are in no pair. Works block by
    block, in about 40 MB whatever the lengths.

    Raises:
        ValueError: a hash is not 16 hexadecimal characters.
    """
    rows_a = np.array([row for row, value in enumerate(hashes_a) if value is not None], dtype=np.int64)
    rows_b = np.array([row for row, value in enumerate(hashes_b) if value is not None], dtype=np.int64)
    a = _words([value for value in hashes_a if value is not None])
    b = _words([value for value in hashes_b if value is not None])
    step = max(1, _BLOCK_CELLS // max(1, len(b)))
    found: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]] = []
    for start in range(0, len(a), step):
        distance = np.bitwise_count(a[start : start + step, None] ^ b[None, :])  # [<= step, n_b]
        near_a, near_b = np.nonzero(distance <= max_distance)
        found.append((rows_a[start + near_a], rows_b[near_b], distance[near_a, near_b].astype(np.int64)))
    if not found:
        nothing = np.empty(0, dtype=np.int64)
        return NearPairs(nothing, nothing, nothing)
    return NearPairs(*(np.concatenate(column) for column in zip(*found, strict=True)))


def _words(hashes: Sequence[str]) -> NDArray[np.uint64]:
    """Hashes as machine words, [n]."""
    wrong = next((value for value in hashes if len(value) != HASH_BITS // 4), None)
    if wrong is not None:
        raise ValueError(f"{wrong!r} is not a hash of {HASH_BITS // 4} hexadecimal characters")
    return np.frombuffer(bytes.fromhex("".join(hashes)), dtype=">u8").astype(np.uint64)
