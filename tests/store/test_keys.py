"""Keys and row checksums: what they cover, against hashlib and zlib."""

import hashlib
import zlib

import numpy as np

from deponij.store.keys import key_of_bytes, key_of_pixels, key_of_text
from deponij.store.shard import row_checksums


def test_a_crop_s_key_covers_mode_size_and_pixels() -> None:
    raw = bytes(range(24))
    expected = hashlib.blake2b(b"pixels:RGB:4x2:" + raw, digest_size=20).hexdigest()
    assert key_of_pixels("RGB", (4, 2), raw) == expected
    # The same bytes are other pictures, and what is no crop is none of them.
    others = [
        key_of_pixels("RGB", (2, 4), raw),
        key_of_pixels("RGB", (8, 1), raw),
        key_of_pixels("L", (4, 2), raw),
        key_of_pixels("RGB", (4, 2), raw[::-1]),
        key_of_bytes(raw),
        key_of_text(raw.decode()),
    ]
    assert len({expected, *others}) == 7


def test_a_row_s_checksum_covers_all_its_arrays() -> None:
    rng = np.random.default_rng(0)
    arrays = {
        "b": rng.normal(size=(5, 3)).astype(np.float32),
        "a": rng.normal(size=(5, 2, 2)).astype(np.float16),
    }
    found = row_checksums(arrays, 5)
    # In the order of their names.
    assert found.tolist() == [
        zlib.crc32(arrays["a"][i].tobytes() + arrays["b"][i].tobytes()) for i in range(5)
    ]
    for name, array in arrays.items():
        changed = arrays | {name: array.copy()}
        changed[name].view(np.uint8).reshape(5, -1)[3, 0] ^= 1
        assert np.flatnonzero(row_checksums(changed, 5) != found).tolist() == [3]
