"""Splits: sizes, strata, groups, determinism; on TACO's real geometry where that is there."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from sklearn.model_selection import StratifiedGroupKFold, StratifiedShuffleSplit

from deponij.pipeline.data.splitting.grouping import assign_groups
from deponij.pipeline.data.splitting.partition import (
    Split,
    given_split,
    group_split,
    random_split,
    taco56_split,
)
from deponij.pipeline.data.splitting.strata import allocate
from deponij.pipeline.data.splitting.strategies import SplitParams, make_split, register, strategies
from deponij.pipeline.metrics.evaluation import PARTS
from deponij.store.errors import DataError, UsageError

# Second letters of train, val, test; as first drawn.
PINNED = "rrrrrarrrrrerrrrarer"
PINNED_GROUPS = "rrrrrrrrrrrrrrreeerrrrrrrrraaa"


@pytest.fixture(scope="module")
def taco(shared: Path) -> dict[str, list[object]]:
    """Columns of TACO's 4,784 instances, made from the official file alone."""
    coco = json.loads((shared / "data" / "taco" / "annotations.json").read_text())
    names = {category["id"]: category["name"] for category in coco["categories"]}
    files = {image["id"]: image["file_name"] for image in coco["images"]}
    counts = Counter(annotation["category_id"] for annotation in coco["annotations"])
    seen: Counter[str] = Counter()
    rows = []
    for annotation in coco["annotations"]:
        file, name = files[annotation["image_id"]], names[annotation["category_id"]]
        large = counts[annotation["category_id"]] >= 3
        rows.append((f"{file}#{seen[file]}", file, name, name if large else None))
        seen[file] += 1
    return dict(
        zip(("item_id", "image_id", "category", "taco56"), map(list, zip(*rows, strict=True)), strict=True)
    )


def by_class(labels: object, split: Split, part: str) -> Counter[str]:
    return Counter(str(label) for label, of in zip(labels, split.parts, strict=True) if of == part)  # type: ignore[call-overload]


def test_taco56_counts(taco: dict[str, list[object]]) -> None:
    """3,823 / 478 / 478 of 4,779, five instances outside; both figures from the published protocol (docs/taco.md)."""
    split = make_split(taco, SplitParams(strategy="taco56"))
    assert split.counts == {"train": 3823, "val": 478, "test": 478, "outside": 5}
    outside = {taco["category"][row] for row, part in enumerate(split.parts) if part is None}
    assert outside == {"Battery", "Carded blister pack", "Other plastic cup"}
    # protocols: about 7 of 56 classes are absent from test; every class can be learned.
    present = by_class(taco["taco56"], split, "test")
    assert 44 <= len(present) <= 54
    assert len(by_class(taco["taco56"], split, "train")) == 56
    # Stratified: each class has its tenth within one item.
    for name, count in Counter(filter(None, taco["taco56"])).items():
        assert abs(present[str(name)] - count / 10) < 1 + 1e-9


def test_taco56_is_the_same_for_all_label_sets_and_depends_on_the_seed(taco: dict[str, list[object]]) -> None:
    first = make_split(taco, SplitParams(strategy="taco56", labels="category")).parts
    assert (make_split(taco, SplitParams(strategy="taco56", labels="taco56")).parts == first).all()
    assert (make_split(taco, SplitParams(strategy="taco56", seed=1)).parts != first).mean() > 0.1


def test_taco56_scales_for_missing_photographs_and_says_so(taco: dict[str, list[object]]) -> None:
    failure = [None if row % 3 else "picture is missing" for row in range(4784)]
    split = make_split({**taco, "failure": failure}, SplitParams(strategy="taco56"))
    n = split.counts["train"] + split.counts["val"] + split.counts["test"]
    assert split.counts["test"] == -(-n // 10)
    assert split.counts["val"] == -(-(n - split.counts["test"]) // 9)
    assert any("not comparable" in note and f"{n:,}" in note for note in split.notes)
    assert all(split.parts[row] is None for row in range(0, 4784, 3))
    with pytest.raises(DataError, match=r"needs TACO's 4,779 .* found 3,1"):
        make_split({**taco, "failure": failure}, SplitParams(strategy="taco56", allow_partial=False))


def test_the_old_name_of_a_strategy_says_the_new_one() -> None:
    with pytest.raises(ValueError, match="'thesis' is called 'taco56' now"):
        SplitParams(strategy="thesis")


def test_taco56_refuses_what_is_not_taco() -> None:
    with pytest.raises(DataError, match="no column 'taco56'"):
        make_split({"item_id": ["a"], "label": ["x"]}, SplitParams(strategy="taco56"))
    with pytest.raises(DataError, match="found 5,000"):
        taco56_split(["Can"] * 5000)
    with pytest.raises(DataError, match="has a label"):
        taco56_split([None] * 10)


@pytest.mark.filterwarnings("ignore:The least populated class")
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_groups_of_taco_are_whole_and_balanced(taco: dict[str, list[object]], seed: int) -> None:
    params = SplitParams(strategy="group", labels="taco56", seed=seed)
    split = make_split(taco, params)
    sides: dict[object, set[object]] = {}
    for image, part in zip(taco["image_id"], split.parts, strict=True):
        if part is not None:
            sides.setdefault(image, set()).add(part)
    assert {len(parts) for parts in sides.values()} == {1}
    for part, share in zip(PARTS, params.fractions, strict=True):
        assert abs(split.counts[part] - 4779 * share) <= 5
    # Class shares lie no further from the whole's than scikit-learn's group folds bring them on average.
    labels = np.asarray([str(name) for name in taco["taco56"] if name])
    groups = [image for image, name in zip(taco["image_id"], taco["taco56"], strict=True) if name]
    folds = StratifiedGroupKFold(10, shuffle=True, random_state=seed).split(labels, labels, groups)
    theirs = np.mean([class_distance(labels[rows].tolist(), labels.tolist()) for _, rows in folds])
    for part in ("val", "test"):
        ours = class_distance(list(by_class(taco["taco56"], split, part).elements()), labels.tolist())
        assert ours < theirs
    assert any("Groups are whole" in note for note in split.notes)


def class_distance(some: list[str], everything: list[str]) -> float:
    a, b = Counter(some), Counter(everything)
    return sum(abs(a[name] / len(some) - b[name] / len(everything)) for name in b) / 2


def test_allocation_is_that_of_scikit_learn() -> None:
    """The same count for every class but where remainders tie, which both decide by chance."""
    rng = np.random.default_rng(0)
    for trial in range(20):
        labels = rng.choice(12, size=400, p=rng.dirichlet(np.full(12, 0.8)))
        counts = Counter(labels.tolist())
        labels = np.asarray([label for label in labels if counts[label] >= 2])
        n_test = int(rng.integers(12, 120))
        theirs = StratifiedShuffleSplit(1, test_size=n_test, random_state=trial)
        ((_, test),) = theirs.split(labels, labels)
        drawn = Counter(labels[test].tolist())
        ours = allocate({str(name): count for name, count in Counter(labels.tolist()).items()}, n_test)
        assert sum(ours.values()) == n_test
        for name, count in Counter(labels.tolist()).items():
            share = n_test * count / len(labels)
            assert abs(ours[str(name)] - share) < 1 or count <= 2
            assert abs(ours[str(name)] - drawn[name]) <= 1


def test_random_by_hand() -> None:
    """100 a, 50 b, 10 c, 2 d: test ceil(16.2) = 17, val 17; shares 10.5, 5.25, 1.05 of 17."""
    labels = ["a"] * 100 + ["b"] * 50 + ["c"] * 10 + ["d"] * 2
    split = random_split(labels, seed=3)
    assert split.counts == {"train": 128, "val": 17, "test": 17, "outside": 0}
    for part in ("val", "test"):
        found = by_class(labels, split, part)
        assert found["d"] == 0
        assert found["a"] in (10, 11)
        assert found["b"] in (5, 6)
        assert found["c"] in (1, 2)
    assert any("Too small" in note and "d" in note for note in split.notes)


def test_rows_in_another_order_and_other_rows_change_little() -> None:
    rng = np.random.default_rng(0)
    ids = [f"cls/{n}.png" for n in range(1000)]
    labels = [f"c{n % 7}" for n in range(1000)]
    split = dict(zip(ids, random_split(labels, seed=5, ids=ids).parts, strict=True))
    order = rng.permutation(1000)
    again = random_split([labels[i] for i in order], seed=5, ids=[ids[i] for i in order]).parts
    assert {ids[i]: part for i, part in zip(order, again, strict=True)} == split
    more = random_split(
        [*labels, *labels[:20]], seed=5, ids=[*ids, *(f"new/{n}.png" for n in range(20))]
    ).parts
    assert np.mean([part != split[name] for name, part in zip(ids, more[:1000], strict=True)]) < 0.02
    other = random_split(labels, seed=6, ids=ids).parts
    assert np.mean([part != split[name] for name, part in zip(ids, other, strict=True)]) > 0.2


def test_the_same_split_for_ever() -> None:
    """Pinned: a change of the drawing would make stored results incomparable."""
    split = random_split(["a", "b"] * 10, seed=7)
    assert "".join(str(part)[1] for part in split.parts) == PINNED
    groups = [f"g{n // 3}" for n in range(30)]
    assert (
        "".join(str(part)[1] for part in group_split(groups, ["a", "b"] * 15, seed=7).parts) == PINNED_GROUPS
    )


def test_nulls_and_failures_lie_outside() -> None:
    columns = {
        "item_id": [str(n) for n in range(40)],
        "label": [None if n < 5 else "a" for n in range(40)],
        "failure": ["broken" if n >= 35 else None for n in range(40)],
    }
    split = make_split(columns, SplitParams())
    assert split.counts == {"train": 24, "val": 3, "test": 3, "outside": 10}
    assert all(part is None for part in [*split.parts[:5], *split.parts[35:]])
    assert any("5 items could not be read" in note for note in split.notes)
    with pytest.raises(DataError, match="none of the 40 items could be read"):
        make_split({**columns, "failure": ["broken"] * 40}, SplitParams())
    floats = random_split([float("nan"), 1.0, 1.0, 1.0, 2.0, 2.0, 2.0])
    assert floats.parts[0] is None
    assert floats.counts["outside"] == 1


def test_labels_are_found_by_name() -> None:
    columns = {"item_id": [str(n) for n in range(30)], "category": ["x", "y", "z"] * 10}
    assert by_class(columns["category"], make_split(columns, SplitParams()), "test") == {
        "x": 1,
        "y": 1,
        "z": 1,
    }
    bare = make_split({"item_id": columns["item_id"]}, SplitParams())
    assert bare.counts == {"train": 24, "val": 3, "test": 3, "outside": 0}
    with pytest.raises(UsageError, match="no column 'kind'; they have category, item_id"):
        make_split(columns, SplitParams(labels="kind"))
    with pytest.raises(UsageError, match="no column 'image_id'"):
        make_split(columns, SplitParams(strategy="group"))


def test_a_given_split_is_kept_and_val_carved_from_train() -> None:
    ids = [str(n) for n in range(100)]
    brought = ["train"] * 80 + ["test"] * 15 + [None] * 5
    labels = ["a", "b"] * 50
    columns = {"item_id": ids, "image_id": ids, "given": brought, "label": labels}
    split = make_split(columns, SplitParams(strategy="given"))
    assert split.counts == {"train": 72, "val": 8, "test": 15, "outside": 5}
    assert by_class(labels, split, "val") == {"a": 4, "b": 4}
    assert [part == "test" for part in split.parts] == [part == "test" for part in brought]
    kept = make_split(columns, SplitParams(strategy="given", val_from_train=0))
    assert kept.parts.tolist() == brought
    own = ["train"] * 60 + ["val"] * 20 + ["test"] * 20
    assert given_split(own).parts.tolist() == own
    assert given_split(own, [None, *labels[1:]]).parts.tolist() == [None, *own[1:]]
    with pytest.raises(DataError, match="brings no split"):
        given_split([None, None])
    with pytest.raises(DataError, match="found 'dev'"):
        given_split(["train", "dev"])


def test_val_carved_from_a_given_train_keeps_photographs_whole() -> None:
    groups = [f"photo{n // 5}" for n in range(100)]
    split = given_split(["train"] * 80 + ["test"] * 20, ["a"] * 100, groups)
    assert split.counts["val"] in range(5, 11)
    assert not set(np.asarray(groups)[split.parts == "val"]) & set(np.asarray(groups)[split.parts == "train"])
    one = given_split(["train"] * 5 + ["test"] * 5, ["a"] * 10, groups[:10])
    assert one.counts == {"train": 5, "val": 0, "test": 5, "outside": 0}


@pytest.mark.parametrize("last", ["no items", "without labels"])
def test_a_given_val_without_a_test_is_the_test_part(last: str) -> None:
    """What results are read from has chosen nothing: val is made of train, whole photographs of it."""
    groups = [f"photo{n // 5}" for n in range(200)]
    given = ["train"] * 160 + ["val"] * 40
    labels: list[str | None] = ["a", "b"] * 100
    if last == "without labels":
        groups, given, labels = [*groups, "x", "y"], [*given, "test", "test"], [*labels, None, None]
    split = given_split(given, labels, groups)
    assert (split.parts[:160] != "test").all() and (split.parts[160:200] == "test").all()
    assert (
        split.counts["val"] == 15 and split.counts["train"] == 145
    )  # of 32 photographs 3 are nearest to a tenth
    assert not set(np.asarray(groups)[split.parts == "val"]) & set(np.asarray(groups)[split.parts == "train"])
    assert "val items are the test part here" in split.notes[1]
    assert split.notes[2] == "15 of 160 training items were made val."
    kept = given_split(given, labels, groups, val_from_train=0)
    assert (kept.counts["train"], kept.counts["val"], kept.counts["test"]) == (160, 0, 40)


def test_a_split_without_a_test_part_says_so() -> None:
    columns = {"item_id": range(40), "label": ["a", "b"] * 20}
    for fractions, is_told in (((0.8, 0.2, 0.0), True), ((0.8, 0.1, 0.1), False)):
        notes = make_split(columns, SplitParams(fractions=fractions)).notes
        assert any("There is no test part" in note for note in notes) == is_told


def test_a_given_train_alone_gives_val_and_test() -> None:
    split = given_split(["train"] * 200 + [None] * 10, ["a", "b"] * 105)
    # A tenth, and a tenth of the rest.
    assert split.counts == {"train": 162, "val": 18, "test": 20, "outside": 10}
    assert [note.split()[-1] for note in split.notes] == ["items.", "items.", "val.", "test."]
    assert given_split(["train"] * 200, val_from_train=0.7).counts["train"] > 0


def test_groups_go_where_a_plain_sum_over_parts_and_classes_is_least() -> None:
    """The loss as it is documented, summed anew for every group and part; sizes weigh as all classes together."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        group_of, class_of = rng.integers(0, 25, size=120), rng.integers(0, 6, size=120)
        _, group_of = np.unique(group_of, return_inverse=True)
        fractions = np.array([0.7, 0.1, 0.2])
        n_groups = int(group_of.max()) + 1
        counts = np.zeros((3, 7))
        table = np.zeros((n_groups, 7))
        np.add.at(table, (group_of, class_of), 1)
        table[:, 6] = table.sum(axis=1)
        target = np.outer(fractions, table.sum(axis=0))
        weight = np.array([1.0] * 6 + [6.0])
        expected = np.empty(n_groups, dtype=int)
        for group in sorted(range(n_groups), key=lambda group: (-table[group, 6], group)):
            losses = []
            for part in range(3):
                tried = counts.copy()
                tried[part] += table[group]
                losses.append((weight * (tried - target) ** 2 / np.maximum(target, 1)).sum())
            expected[group] = int(np.argmin(losses))
            counts[expected[group]] += table[group]
        found = assign_groups(group_of, class_of, fractions, np.arange(n_groups))
        assert found.tolist() == expected.tolist()


def test_groups_without_names_and_too_few_groups() -> None:
    split = group_split(["g"] * 10 + [None] * 90, ["a"] * 100)
    assert len(set(split.parts[:10])) == 1
    assert split.counts == {"train": 80, "val": 10, "test": 10, "outside": 0}
    with pytest.raises(DataError, match=r"2 group\(s\) cannot fill 3 parts"):
        group_split(["g", "g", "h"], ["a"] * 3)
    assert set(group_split(["g"] * 20 + ["h", "i"], ["a"] * 22).parts) == set(PARTS)
    # Here the balance alone would leave a part empty.
    assert set(group_split([0, 0, 0, 1, 1, 2, 2, 2, 2], list("cabaabbba"), seed=1).parts) == set(PARTS)
    alone = random_split(["a", "b"] * 20, seed=4)
    assert (group_split(range(40), ["a", "b"] * 20, seed=4).parts == alone.parts).all()


@pytest.mark.parametrize("fractions", [(0.8, 0.1, 0.2), (0.0, 0.5, 0.5), (1.2, -0.1, -0.1)])
def test_fractions_must_be_shares(fractions: tuple[float, float, float]) -> None:
    with pytest.raises(UsageError, match="sum to 1"):
        random_split(["a"] * 10, fractions)
    with pytest.raises(ValidationError):
        SplitParams(fractions=fractions)


def test_unknown_strategies_are_told_with_the_nearest() -> None:
    assert strategies() == ["folds", "given", "group", "random", "taco56"]
    with pytest.raises(ValidationError, match="Did you mean 'group'"):
        SplitParams(strategy="groups")
    with pytest.raises(ValueError, match="is taken by"):
        register("group")(lambda columns, params: random_split([]))
    with pytest.raises(ValidationError, match="extra"):
        SplitParams(kind="random")  # type: ignore[call-arg]


@settings(max_examples=60)
@given(
    st.lists(st.one_of(st.none(), st.sampled_from("abcdef")), min_size=1, max_size=80),
    st.sampled_from([(0.8, 0.1, 0.1), (0.5, 0.0, 0.5), (0.05, 0.05, 0.9), (1.0, 0.0, 0.0)]),
    st.integers(0, 5),
    st.integers(1, 6),
)
def test_any_labels_can_be_split(
    labels: list[str | None], fractions: tuple[float, float, float], seed: int, group_size: int
) -> None:
    if not any(labels):
        with pytest.raises(DataError):
            random_split(labels, fractions, seed)
        return
    split = random_split(labels, fractions, seed)
    assert [part is None for part in split.parts] == [label is None for label in labels]
    counts = Counter(label for label in labels if label is not None)
    assert set(by_class(labels, split, "train")) == set(counts)  # no class leaves train
    assert {name for name, n in counts.items() if n < 3} <= {
        name for name, n in counts.items() if by_class(labels, split, "train")[name] == n
    }
    groups = [row // group_size for row in range(len(labels))]
    n_groups = len({group for group, label in zip(groups, labels, strict=True) if label is not None})
    if n_groups >= sum(fraction > 0 for fraction in fractions):
        grouped = group_split(groups, labels, fractions, seed)
        for group in set(groups):
            assert (
                len({part for of, part in zip(groups, grouped.parts, strict=True) if of == group} - {None})
                <= 1
            )
