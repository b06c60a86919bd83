"""Folding: expected groups by hand."""

import numpy as np

from deponij.pipeline.likeness.folding import fold
from deponij.pipeline.likeness.pairs import Thresholds

# Directions in the plane, in degrees.
VECTORS = np.array([[np.cos(a), np.sin(a)] for a in np.radians([0, 5, 90, 180, 270])], np.float32)
KEYS = ["a", "b", "c", "a", "e"]
HASHES = ["00" * 8, "ff" * 8, None, "0f" * 8, "ff" * 7 + "fe"]


def test_equal_pictures_equal_looks_and_near_vectors_join_the_first_of_them() -> None:
    # cos 5 degrees = .9962; row 3 has row 0's key; row 4's hash is one bit from row 1's, which is no group's first.
    assert fold(KEYS, HASHES, VECTORS, how=Thresholds(4, 0.99, -1), enough=9) == [[0, 1, 3], [2], [4]]
    # Without the near vector row 1 stands for itself, and row 4 looks like it.
    assert fold(KEYS, HASHES, VECTORS, how=Thresholds(4, 0.999, -1), enough=9) == [[0, 3], [1, 4], [2]]
    assert fold(KEYS, HASHES, VECTORS, how=Thresholds(0, 0.999, -1), enough=9) == [[0, 3], [1], [2], [4]]
    # Rows 1 and 4 are 95 degrees apart: their vectors do not confirm what their hashes propose.
    assert fold(KEYS, HASHES, VECTORS, how=Thresholds(4, 0.999), enough=9) == [[0, 3], [1], [2], [4]]


def test_no_more_groups_than_enough_but_later_hits_still_join() -> None:
    assert fold(KEYS, HASHES, VECTORS, how=Thresholds(4, 0.999), enough=1) == [[0, 3]]
    assert fold([], [], VECTORS[:0], how=Thresholds(), enough=3) == []
