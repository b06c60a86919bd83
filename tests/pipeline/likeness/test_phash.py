"""Perceptual hashes: against imagehash's values, on copies, and the search for near pairs."""

import io
import itertools
import time

import numpy as np
import pytest
from PIL import Image, ImageFilter
from scipy.fft import dct

from deponij.pipeline.likeness.phash import _DCT, hamming, near_pairs, phash
from deponij.store.errors import DataError


def ramps(width: int, height: int) -> Image.Image:
    """A fixed picture from whole numbers alone."""
    y, x = np.mgrid[0:height, 0:width]
    planes = [(3 * x + 5 * y) % 256, (x * y) % 256, ((x - 20) ** 2 + (y - 9) ** 2) % 256]
    return Image.fromarray(np.stack(planes, -1).astype(np.uint8))


def blobs(seed: int, width: int = 96, height: int = 72) -> Image.Image:
    """A random picture with structure at several scales, as photographs have."""
    rng = np.random.default_rng(seed)
    layers = np.zeros((height, width, 3))
    for cells, gain in ((3, 60), (8, 40), (24, 15)):
        small = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        layers += (np.asarray(small.resize((width, height), Image.Resampling.BICUBIC)) / 255 - 0.5) * 2 * gain
    return Image.fromarray(np.clip(128 + layers, 0, 255).astype(np.uint8))


# str(imagehash.phash(picture)) of imagehash 4.3.2.
@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        (ramps(64, 48), "80033f6f1e707c79"),
        (ramps(200, 31), "80070d1d0f3f3e3f"),
        (ramps(7, 5), "a952946ba9b55b94"),
        (ramps(64, 48).convert("L"), "80033f6f1e707c79"),
        (blobs(0), "dfce0720f7296a0c"),
        (blobs(1), "88cdd8f926ae8693"),
    ],
)
def test_hash_is_imagehashs(picture: Image.Image, expected: str) -> None:
    assert phash(picture) == expected


def test_transform_is_scipys() -> None:
    assert np.allclose(_DCT, dct(np.eye(32), axis=0)[:8], atol=1e-13)


def test_pictures_of_one_colour_have_one_hash() -> None:
    hashes = {phash(Image.new("RGB", (40 + k, 30), (k, 100, 200 - k))) for k in range(0, 200, 7)}
    assert hashes == {"8000000000000000"}
    assert phash(Image.new("RGB", (5, 5))) == "0000000000000000"


NEAR_BITS = 8


def recompressed(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer)


def test_copies_are_near_and_other_pictures_are_not() -> None:
    pictures = [blobs(seed) for seed in range(60)]
    hashes = [phash(picture) for picture in pictures]
    for quality in (75, 60):
        copies = [phash(recompressed(picture, quality)) for picture in pictures]
        assert hamming(hashes, copies).max() <= NEAR_BITS
    for resample in (Image.Resampling.BICUBIC, Image.Resampling.BILINEAR):
        smaller = [phash(picture.resize((86, 65), resample)) for picture in pictures]
        assert hamming(hashes, smaller).max() <= NEAR_BITS
    assert hamming(hashes, [phash(p.filter(ImageFilter.GaussianBlur(0.5))) for p in pictures]).max() <= 6
    near = near_pairs(hashes, hashes, NEAR_BITS)
    assert np.array_equal(near.row_a, near.row_b)
    others = hamming(*zip(*itertools.combinations(hashes, 2), strict=True))
    assert others.min() > 2 * NEAR_BITS - 2


def test_hamming_counts_bits() -> None:
    zero = "0" * 16
    assert hamming([zero, zero, zero], ["8" + "0" * 15, "f" * 16, "0" * 14 + "03"]).tolist() == [1, 64, 2]
    with pytest.raises(ValueError, match="equal numbers"):
        hamming([zero], [])
    with pytest.raises(DataError, match="16 hexadecimal"):
        hamming(["0"], [zero])


def random_hashes(n_rows: int, seed: int) -> list[str]:
    return [
        bytes(row).hex() for row in np.random.default_rng(seed).integers(0, 256, (n_rows, 8), dtype=np.uint8)
    ]


@pytest.mark.parametrize("max_distance", [0, 3, 24])
def test_near_pairs_are_those_of_brute_force(max_distance: int) -> None:
    a, b = random_hashes(70, 1), random_hashes(50, 2)
    b[3], b[7] = a[5], a[5][:-1] + ("0" if a[5][-1] != "0" else "1")
    expected = []
    for (row_a, one), (row_b, other) in itertools.product(enumerate(a), enumerate(b)):
        distance = (int(one, 16) ^ int(other, 16)).bit_count()
        if distance <= max_distance:
            expected.append((row_a, row_b, distance))
    found = near_pairs(a, b, max_distance)
    assert [tuple(int(value) for value in row) for row in zip(*found, strict=True)] == expected
    assert (5, 3, 0) in expected


def test_rows_without_a_hash_are_in_no_pair() -> None:
    same = "0123456789abcdef"
    found = near_pairs([None, same, None], [same, None, same], 64)
    assert list(zip(found.row_a.tolist(), found.row_b.tolist(), strict=True)) == [(1, 0), (1, 2)]
    for empty in ([], [None]):
        assert near_pairs(empty, [same], 64).row_a.shape == (0,)
        assert near_pairs([same], empty, 64).row_a.shape == (0,)


def test_blocks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = random_hashes(40, 3), random_hashes(30, 4)
    whole = near_pairs(a, b, 26)
    monkeypatch.setattr("deponij.pipeline.unit_vectors.BLOCK_CELLS", 65)
    pieces = near_pairs(a, b, 26)
    assert len(whole.row_a) > 0
    assert all(np.array_equal(one, other) for one, other in zip(whole, pieces, strict=True))


def test_thousands_against_thousands_take_a_moment() -> None:
    a, b = random_hashes(5000, 5), random_hashes(5000, 6)
    start = time.process_time()
    near_pairs(a, b, NEAR_BITS)
    # About 0.1 s of a processor; a loop in Python would take half a minute.
    assert time.process_time() - start < 3
