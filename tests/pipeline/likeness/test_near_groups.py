"""Groups that a fold must not part: by hand, against connected components by brute force, and chains that are cut."""

import itertools

import numpy as np
import pytest

from deponij.pipeline.likeness.near_groups import near_groups
from deponij.store.errors import DataError, UsageError


def word(*bits: int) -> str:
    return f"{sum(1 << bit for bit in bits):016x}"


def test_by_hand() -> None:
    hashes = [word(), word(0, 1), word(*range(20, 40)), None, None, word(*range(20, 40))]
    keys = ["a", "b", "c", "d", "d", "e"]
    # 2 bits apart; equal hashes; equal keys without hashes.
    assert near_groups(hashes, keys=keys, max_bits=2, largest_share=1).tolist() == [0, 0, 1, 2, 2, 1]
    assert near_groups(hashes, keys=keys, max_bits=1, largest_share=1).tolist() == [0, 1, 2, 3, 3, 2]
    photos = ["p", None, "p", None, "q", "q"]
    assert near_groups(hashes, keys=keys, groups=photos, max_bits=1).tolist() == [0, 1, 0, 2, 2, 2]
    assert near_groups([]).tolist() == []


def test_without_a_limit_they_are_the_connected_components() -> None:
    from scipy.sparse.csgraph import connected_components

    rng = np.random.default_rng(0)
    seeds = rng.integers(0, 2, (12, 64))
    bits = seeds[rng.integers(0, 12, 90)] ^ (rng.random((90, 64)) < 0.03)
    hashes = ["".join(map(str, row)) for row in bits]
    hashes = [f"{int(one, 2):016x}" for one in hashes]
    near = (bits[:, None] != bits).sum(axis=2) <= 4
    n, expected = connected_components(near)
    found = near_groups(hashes, max_bits=4, largest_share=1)
    assert 12 < n < 80
    assert np.array_equal(found[:, None] == found, expected[:, None] == expected)
    assert found.max() + 1 == n


def test_a_chain_of_small_steps_makes_no_giant_and_is_cut_where_it_is_loose() -> None:
    # 100 hashes in a row; steps of one bit in fours, of three bits between the fours.
    at, hashes = 0, []
    for row in range(100):
        at += (3 if row % 4 == 0 else 1) if row else 0
        hashes.append(f"{(1 << 60) - 1 if at > 60 else (1 << at) - 1:016x}")
    hashes = hashes[:36]
    sizes = np.bincount(near_groups(hashes, max_bits=3, largest_share=4 / 36))
    assert sizes.tolist() == [4] * 9


def test_what_is_certain_is_joined_beyond_the_limit() -> None:
    hashes = [word(row % 50) for row in range(50)]
    assert near_groups(hashes, keys=["same"] * 50, max_bits=0).tolist() == [0] * 50
    # By hashes alone a tenth of all is the most; of few items, two.
    assert np.bincount(near_groups([word()] * 50)).tolist() == [5] * 10
    assert np.bincount(near_groups([word()] * 6)).tolist() == [2] * 3


def test_ten_thousand_equal_hashes_are_no_trouble() -> None:
    sizes = np.bincount(near_groups([word()] * 10_000, largest_share=0.01))
    assert sizes.tolist() == [100] * 100


def test_every_pair_of_a_group_is_joined_by_links(seed: int = 3) -> None:
    rng = np.random.default_rng(seed)
    hashes = [f"{row:016x}" for row in rng.integers(0, 1 << 12, 60).tolist()]
    found = near_groups(hashes, max_bits=2, largest_share=0.1)
    assert np.bincount(found).max() <= 6
    for group in range(found.max() + 1):
        rows = np.flatnonzero(found == group).tolist()
        reached, frontier = {rows[0]}, [rows[0]]
        while frontier:
            row = frontier.pop()
            new = {o for o in rows if (int(hashes[row], 16) ^ int(hashes[o], 16)).bit_count() <= 2} - reached
            reached |= new
            frontier += new
        assert reached == set(rows)
    # Nobody could have been joined with another group within the limit at no cost.
    for a, b in itertools.combinations(range(60), 2):
        if hashes[a] == hashes[b] and found[a] != found[b]:
            assert (found == found[a]).sum() + (found == found[b]).sum() > 6


def test_bad_input_is_refused() -> None:
    with pytest.raises(UsageError, match="one length, got 1 and \\[2\\]"):
        near_groups([None], keys=["a", "b"])
    with pytest.raises(DataError, match="16 hexadecimal"):
        near_groups(["xyz"])
