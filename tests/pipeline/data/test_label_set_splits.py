"""Splits of items with several labels: sizes, every class's share, groups, and what has no labels."""

import numpy as np
import pytest

from deponij.pipeline.data.splitting.partition import given_split, group_split, random_split
from deponij.store.errors import DataError

SHARES = {"train": 0.8, "val": 0.1, "test": 0.1}


def drawn(n: int = 600, seed: int = 0) -> list[list[str] | None]:
    """Ten classes from frequent to rare, one to four an item; some items without labels, some with none of the classes."""
    generator = np.random.default_rng(seed)
    weights = np.geomspace(1, 0.05, 10)
    sets: list[list[str] | None] = []
    for row in range(n):
        chosen = generator.choice(10, generator.integers(1, 5), replace=False, p=weights / weights.sum())
        sets.append(None if row % 50 == 0 else [] if row % 50 == 1 else sorted(f"c{k}" for k in chosen))
    return sets


def worst_share(parts: np.ndarray, sets: list[list[str] | None]) -> float:
    """The largest difference between a part's share of a class's items and the share that was asked for."""
    names = sorted({name for one in sets for name in one or ()})
    away = []
    for name in names:
        rows = [row for row, one in enumerate(sets) if one and name in one]
        away += [abs(np.mean(parts[rows] == part) - share) for part, share in SHARES.items()]
    return float(max(away))


def test_every_class_has_its_share_in_every_part() -> None:
    sets = drawn()
    split = random_split(sets, (0.8, 0.1, 0.1))
    n = sum(one is not None for one in sets)
    assert split.counts["outside"] == len(sets) - n
    assert abs(split.counts["test"] - 0.1 * n) <= 2
    # Drawn at random, the worst is several times as far off.
    at_random = np.random.default_rng(0).choice(list(SHARES), len(sets), p=list(SHARES.values()))
    assert worst_share(split.parts, sets) < 0.05 < worst_share(at_random, sets)
    assert "balanced over parts" in split.notes[0]


def test_it_depends_on_ids_and_seed_alone() -> None:
    sets, ids = drawn(200), [f"i{k}" for k in range(200)]
    order = np.random.default_rng(5).permutation(200)
    first = random_split(sets, ids=ids).parts
    again = random_split([sets[k] for k in order], ids=[ids[k] for k in order]).parts
    assert (first[order] == again).all()
    assert (first != random_split(sets, seed=1, ids=ids).parts).any()


def test_groups_stay_whole() -> None:
    sets = drawn()
    groups = [f"g{k // 3}" for k in range(len(sets))]
    split = group_split(groups, sets)
    for name in set(groups):
        assert (
            len({split.parts[k] for k in range(len(sets)) if groups[k] == name and sets[k] is not None}) <= 1
        )
    assert worst_share(split.parts, sets) < 0.1


def test_a_given_split_is_completed() -> None:
    sets = drawn()
    given = ["test" if k % 5 == 0 else "train" for k in range(len(sets))]
    split = given_split(given, sets)
    assert split.counts["test"] == sum(k % 5 == 0 and sets[k] is not None for k in range(len(sets)))
    n_train = sum(k % 5 != 0 and one is not None for k, one in enumerate(sets))
    assert abs(split.counts["val"] - 0.1 * n_train) <= 2


def test_a_class_that_a_part_lacks_is_told() -> None:
    sets: list[list[str] | None] = [["common"] for _ in range(40)]
    sets[0] = ["common", "rare"]
    notes = " ".join(random_split(sets).notes)
    assert "1 of 2 classes have no val item" in notes
    assert "1 of 2 classes have no test item" in notes


def test_without_labels_or_with_too_few_groups() -> None:
    with pytest.raises(DataError, match="none of the 2 items has labels|has a label"):
        random_split([None, None])
    with pytest.raises(DataError, match=r"2 group\(s\) cannot fill 3 parts"):
        group_split(["a", "a", "b"], [["x"], ["y"], ["x"]])
