"""Near-duplicates with different labels, planted one by one."""

from typing import Any

import numpy as np

from deponij.pipeline.likeness.pairs import Thresholds
from deponij.pipeline.mistakes.twins import find_twins

N = 8


def twins(names: list[str] | None = None, **changes: Any) -> list[tuple[str, str, str, float, bool]]:
    """Eight unlike items (orthogonal features, hashes far apart), with changes."""
    hashes = [f"{(0x9E3779B97F4A7C15 * (row + 1)) % 2**64:016x}" for row in range(N)]
    given: dict[str, Any] = {
        "features": np.eye(N, 16, dtype=np.float32),
        "keys": [f"key{row}" for row in range(N)],
        "phashes": hashes,
        "groups": np.array([f"photo{row}" for row in range(N)]),
        "how": Thresholds(),
    } | changes
    labels = np.array(names or [f"class {row % 2}" for row in range(N)])
    features = given.pop("features")
    found = find_twins(features, [f"i{row}" for row in range(N)], labels, **given)
    return [(one.a, one.b, one.how, one.similarity, one.same_photo) for one in found]


def flipped(value: str, bits: int) -> str:
    return f"{int(value, 16) ^ (2**bits - 1):016x}"


def test_unlike_items_have_no_twins() -> None:
    assert twins() == []


def test_equal_pictures() -> None:
    keys = [f"key{row}" for row in range(N)]
    keys[5] = keys[2]
    assert twins(keys=keys) == [("i2", "i5", "picture", 1.0, False)]
    # With one label there is nothing wrong.
    assert twins(["same"] * N, keys=keys) == []


def test_pictures_that_look_alike() -> None:
    hashes: list[str | None] = [f"{(0x9E3779B97F4A7C15 * (row + 1)) % 2**64:016x}" for row in range(N)]
    hashes[3] = flipped(str(hashes[0]), 8)
    # Features at a right angle do not confirm it; 8 bits ask for a cosine of 0.85, here it is 0.88.
    assert twins(phashes=hashes) == []
    features = np.eye(N, 16, dtype=np.float32)
    features[3, [0, 3]] = 0.88, np.sqrt(1 - 0.88**2)
    # 8 of 64 bits differ.
    assert twins(phashes=hashes, features=features) == [("i0", "i3", "phash", 1 - 8 / 64, False)]
    assert twins(phashes=hashes, features=features, how=Thresholds(7)) == []
    assert twins(phashes=[None] * N) == []


def test_features_that_are_alike() -> None:
    features = np.eye(N, 16, dtype=np.float32)
    features[6] = features[1] + 0.1 * np.eye(16, dtype=np.float32)[12]
    (found,) = twins(features=features)
    # The cosine of (1, 0) and (1, 0.1).
    assert found[:3] == ("i1", "i6", "embedding")
    np.testing.assert_allclose(found[3], 1 / np.sqrt(1.01), atol=1e-6)
    assert twins(features=features, how=Thresholds(min_cosine=0.999)) == []


def test_the_surest_first_and_each_pair_once() -> None:
    features = np.eye(N, 16, dtype=np.float32)
    features[1] = features[0]
    features[7] = features[4] + 0.05 * np.eye(16, dtype=np.float32)[12]
    keys = [f"key{row}" for row in range(N)]
    keys[3] = keys[2]
    groups = np.array([f"photo{row}" for row in range(N)])
    groups[1] = groups[0]
    found = twins(features=features, keys=keys, groups=groups)
    assert [(a, b, how) for a, b, how, _, _ in found] == [
        ("i2", "i3", "picture"),
        ("i0", "i1", "embedding"),
        ("i4", "i7", "embedding"),
    ]
    assert [same for *_, same in found] == [False, True, False]


def test_rows_without_length_are_like_nothing() -> None:
    assert twins(features=np.zeros((N, 16), np.float32)) == []
