"""Folds: what must hold of every one of them is counted here, not taken from the code."""

from collections import Counter

import numpy as np
import pytest

from deponij.pipeline.data.splitting.folds import fold_split
from deponij.pipeline.data.splitting.strategies import SplitParams, make_split
from deponij.store.errors import DataError, UsageError


def far_hashes(n: int, seed: int = 0) -> list[str]:
    """Random 64-bit hashes; of 200, no two are within 8 bits (the chance of a pair is 3e-10)."""
    return [
        f"{word:016x}" for word in np.random.default_rng(seed).integers(0, 2**63, n, dtype=np.uint64).tolist()
    ]


def labels_of(n: int) -> list[str]:
    return ["abc"[i % 3] for i in range(n)]


def test_every_item_is_in_one_fold_of_equal_size_and_classes() -> None:
    n = 120
    split = fold_split([f"p{i}" for i in range(n)], labels_of(n), far_hashes(n), n_folds=10)
    assert set(split.parts.tolist()) == {"test"}
    assert split.folds is not None
    assert Counter(split.folds.tolist()) == dict.fromkeys(range(10), 12)
    for name in "abc":
        counts = Counter(split.folds[np.array(labels_of(n)) == name].tolist())
        assert set(counts.values()) == {4}, name


def test_groups_stay_whole_and_items_without_a_label_are_outside() -> None:
    n = 90
    groups = [f"photo{i // 3}" for i in range(n)]
    labels: list[str | None] = [*labels_of(n)]
    labels[4] = None
    split = fold_split(groups, labels, far_hashes(n), n_folds=5)
    assert split.folds is not None and split.groups is not None
    assert (split.folds[4], split.parts[4], split.groups[4]) == (-1, None, None)
    of_group: dict[str, set[int]] = {}
    for group, fold in zip(groups, split.folds.tolist(), strict=True):
        of_group.setdefault(group, set()).add(fold)
    assert all(len(folds - {-1}) == 1 for folds in of_group.values())
    assert [one for one in split.groups.tolist() if one] == [g for i, g in enumerate(groups) if i != 4]


def test_near_duplicates_share_a_fold_and_a_group_along_chains() -> None:
    n = 150
    hashes = far_hashes(n)
    # 10 is 6 bits from 3, and 50 is 6 others from 10: 12 from 3.
    first = int(hashes[3], 16)
    hashes[10], hashes[50] = f"{first ^ 0b111111:016x}", f"{first ^ 0b111111111111:016x}"
    names = [f"p{i:03}" for i in range(n)]
    split = fold_split(names, labels_of(n), hashes, n_folds=6, ids=names)
    assert split.folds is not None and split.groups is not None
    assert len({int(split.folds[i]) for i in (3, 10, 50)}) == 1
    assert {split.groups[i] for i in (3, 10, 50)} == {"p003"}
    assert split.groups[4] == "p004"
    assert any("2 items look much like one" in note for note in split.notes)


def test_what_ties_too_much_together_is_cut_to_closer_likeness() -> None:
    n = 80
    # Each is 4 bits from the next one: at 8 bits all are one chain. Two are equal.
    words, word = [], 0
    for i in range(n):
        word ^= 0b1111 << (4 * (i % 16))
        words.append(word ^ (i << 3 if i % 2 else 0))
    hashes = [f"{one & (2**64 - 1):016x}" for one in words]
    hashes[40] = hashes[7]
    split = fold_split([f"p{i}" for i in range(n)], labels_of(n), hashes, n_folds=4)
    assert split.folds is not None
    assert max(Counter(split.folds.tolist()).values()) <= 24
    assert split.folds[40] == split.folds[7]


def test_row_order_decides_nothing_and_the_seed_does() -> None:
    n = 60
    groups, hashes = [f"p{i // 2}" for i in range(n)], far_hashes(n)
    hashes[9] = hashes[30]
    ids = [f"i{i}" for i in range(n)]

    def folds(order: list[int], seed: int) -> dict[str, tuple[int, str]]:
        split = fold_split(
            [groups[i] for i in order],
            [labels_of(n)[i] for i in order],
            [hashes[i] for i in order],
            n_folds=5,
            seed=seed,
            ids=[ids[i] for i in order],
        )
        assert split.folds is not None and split.groups is not None
        return {ids[i]: (int(f), str(g)) for i, f, g in zip(order, split.folds, split.groups, strict=True)}

    plain = folds(list(range(n)), 0)
    assert folds(np.random.default_rng(1).permutation(n).tolist(), 0) == plain
    assert folds(list(range(n)), 1) != plain


def test_few_groups_make_fewer_folds_and_too_few_are_refused() -> None:
    split = fold_split(["x", "x", "y", "z", "z", "v"], list("ababab"), far_hashes(6), n_folds=10)
    assert split.folds is not None
    assert split.folds.max() == 3
    with pytest.raises(DataError, match=r"2 group\(s\).*3 folds"):
        fold_split(["x", "x", "y"], list("aba"), far_hashes(3))


def test_a_class_that_belongs_together_is_told() -> None:
    split = fold_split(["x", "x", "y", "z", "v", "w"], list("aabbbb"), far_hashes(6), n_folds=3)
    assert any("none is known when it is tested: a." in note for note in split.notes)
    # Of two groups one teaches while the other is tested.
    split = fold_split(["x", "y", "z", "u", "v", "w"], list("aabbbb"), far_hashes(6), n_folds=3)
    assert not any("none is known" in note for note in split.notes)


def test_the_strategy_leaves_failed_items_outside_and_pictures_without_a_hash_alone() -> None:
    n = 12
    columns = {
        "item_id": [f"i{i}" for i in range(n)],
        "image_id": [f"p{i}" for i in range(n)],
        "label": labels_of(n),
        "phash": [None, None, *far_hashes(n - 2)],
        "failure": [None, "broken", *[None] * (n - 2)],
    }
    split = make_split(columns, SplitParams(strategy="folds", n_folds=3))
    assert split.folds is not None and split.groups is not None
    assert (split.parts[1], split.folds[1], split.groups[1]) == (None, -1, None)
    assert Counter(split.folds.tolist()) == {-1: 1, 0: 4, 1: 4, 2: 3} or split.counts["test"] == 11
    with pytest.raises(UsageError, match="no column 'phash'"):
        make_split({k: v for k, v in columns.items() if k != "phash"}, SplitParams(strategy="folds"))


def test_equal_contents_share_a_fold_and_a_group_without_a_hash() -> None:
    """Forty pictures twice: by chance all pairs would share a fold of five once in 5**40 seeds."""
    n = 80
    keys, names = [f"key{i // 2}" for i in range(n)], [f"p{i:02}" for i in range(n)]
    split = fold_split(names, labels_of(n), [None] * n, keys, n_folds=5, ids=names)
    assert split.folds is not None and split.groups is not None
    assert (split.folds[0::2] == split.folds[1::2]).all()
    assert split.groups.tolist() == [names[i - i % 2] for i in range(n)]
