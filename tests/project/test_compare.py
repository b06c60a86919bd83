"""`deponij compare`: figures by hand on made-up folders, what is printed, and what cannot be compared."""

import re
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from cli_world import call, done
from resealing import rewrite
from scipy.stats import binomtest

from deponij.pipeline.heads.examples import Examples
from deponij.pipeline.metrics.intervals import wilson
from deponij.project.learning import compare
from deponij.project.learning.compare_runs import compare_runs
from deponij.project.learning.results import judge, write_results
from deponij.store.errors import DataError, StoreError, UsageError

NAMES = ("Bottle", "Can", "Cup")
LETTERS = (("a", "bbbbbbbbbb" + "cccccb" + "uubb"), ("b", "bbbbcccccc" + "ccbbbb" + "uuub"))


def folder(
    path: Path,
    answers: str,
    *,
    truth: str = "bbbbbbbbbbccccccuuuu",
    parts: str | None = None,
    split: str = "random",
    labels: str = "label",
    names: tuple[str, ...] = NAMES,
    ids: list[str] | None = None,
    groups: list[str] | None = None,
) -> Path:
    """Results of a classifier that answers so: a letter an item, b(ottle), c(an) or (c)u(p)."""
    code = {"b": 0, "c": 1, "u": 2}
    logits = np.array(
        [[2.0 * (code[answer] == column) for column in range(len(names))] for answer in answers]
    )
    ids = ids or [f"i{n}" for n in range(len(truth))]
    examples = Examples(
        ids=np.array(ids),
        labels=np.array([NAMES[code[letter]] for letter in truth]),
        parts=np.array([{"r": "train", "t": "test"}[letter] for letter in parts or "t" * len(truth)]),
        groups=np.array(groups or ids),
        unit="photographs",
        pool_classes=NAMES,
        n_items=len(truth),
        n_outside_pool=0,
        n_without_label=0,
        n_without_features=0,
    )
    judged = judge(
        logits,
        names,
        examples,
        method="made-up",
        title="made up",
        protocol="none",
        backbone=path.name,
        fingerprint="f" * 20,
        labels=labels,
        split=split,
    )
    write_results(path, judged.evaluation, judged.predictions, judged.logits)
    return path


def test_two_runs_on_what_both_tested_by_the_later_labels(tmp_path: Path) -> None:
    """Of A's 20 test items B has taught itself 4 and has 2 others; of the 16, two are labelled otherwise since.

    By hand: A answers b for all and is right by its own on the 10 bottles less the four that B learned from, 6; B's
    labels make i4 and i5 cans, so that it has 4.
    """
    a = folder(tmp_path / "one", "b" * 20)
    truth = "bbbbccbbbbccccccuuuu" + "bb"
    b = folder(tmp_path / "two", truth, truth=truth, parts="rrrr" + "t" * 18)
    found = compare_runs(a, b)
    assert (found.n, found.n_only_a, found.n_only_b, found.n_relabelled) == (16, 4, 2, 2)
    assert (found.n_right_own_a, found.a.n_right, found.b.n_right) == (6, 4, 16)
    assert found.difference.value == -12 / 16
    notes = " ".join(found.notes)
    assert "2 of them have another label in B than in A" in notes and "by its own A has 6 right" in notes
    with pytest.raises(DataError, match="'label' against 'kind'"):
        compare_runs(a, folder(tmp_path / "three", "b" * 20, labels="kind"))
    with pytest.raises(DataError, match="none of the 20 items"):
        compare_runs(a, folder(tmp_path / "four", "b" * 20, ids=[f"x{n}" for n in range(20)]))


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """Of 20 items A has 17 right (all bottles and cans but one, all but two cups), B 9, one of them a cup."""
    a = folder(tmp_path / "a", "bbbbbbbbbb" + "cccccb" + "uubb")
    b = folder(tmp_path / "b", "bbbbcccccc" + "ccbbbb" + "uuub")
    return a, b


def test_figures_by_hand(pair: tuple[Path, Path]) -> None:
    found = compare.run(*pair)
    # Bottles: A 10, B 4; cans: A 5, B 2; cups: A 2, B 3. Only B has the third cup right.
    assert (found.a.n_right, found.b.n_right, found.n) == (17, 9, 20)
    assert found.a.top1_interval == pytest.approx(wilson(17 / 20, 20), abs=0.03)
    assert (found.n_groups, found.unit, found.difference.test) == (20, "items", "McNemar")
    assert (found.difference.only_a, found.difference.only_b, found.difference.n_groups_apart) == (9, 1, 10)
    assert found.difference.p == pytest.approx(binomtest(9, 10).pvalue)
    assert found.difference.value == pytest.approx(8 / 20)
    low, high = found.difference.interval
    assert 0.05 < low < 0.36 < high < 0.7
    assert found.is_more_than_chance
    assert found.verdict == (
        "A beats B by 40.0 percentage points, which is more than chance explains (McNemar, p = 0.021)."
    )
    changes = {one.name: (one.n_difference, one.support, one.recall_a, one.recall_b) for one in found.classes}
    assert changes == {"Bottle": (6, 10, 1.0, 0.4), "Can": (3, 6, 5 / 6, 2 / 6), "Cup": (-1, 4, 0.5, 0.75)}
    assert [one.name for one in found.classes] == ["Bottle", "Can", "Cup"]
    # Agreement: 20 - 9 - 1 items that both have right or both wrong.
    assert found.consistency.observed_agreement == 10 / 20


def test_whole_photographs_are_exchanged(tmp_path: Path) -> None:
    """The same answers, two items of each photograph: leads by hand, and every exchange of them."""
    photos = [f"p{n // 2}" for n in range(20)]
    a = folder(tmp_path / "a", "bbbbbbbbbb" + "cccccb" + "uubb", groups=photos)
    b = folder(tmp_path / "b", "bbbbcccccc" + "ccbbbb" + "uuub", groups=photos)
    found = compare.run(a, b)
    assert (found.n, found.n_groups, found.unit) == (20, 10, "photographs")
    # Bottles: photographs 2 to 4, two each; cans: 6 with two, 7 with one; cups: -1.
    leads = np.array([2, 2, 2, 2, 1, -1])
    sums = np.array(list(product((-1, 1), repeat=6))) @ leads
    assert found.difference.p == pytest.approx(np.mean(np.abs(sums) >= 8))
    assert (found.difference.n_groups_apart, found.difference.test) == (6, "whole photographs exchanged")
    assert (
        found.a.top1_interval[0]
        < compare.run(*(folder(tmp_path / f"{x}1", w) for x, w in LETTERS)).a.top1_interval[0]
    )
    few = [f"p{n // 4}" for n in range(20)]
    c, d = (folder(tmp_path / f"{name}2", letters, groups=few) for name, letters in LETTERS)
    assert (compare.run(c, d).difference.interval, compare.run(c, d).a.top1_interval) == (None, None)
    out = done("compare", c, d).out
    assert "85.0 [too few]" in out
    assert "A − B: +40.0 points, 5 photographs, too few for intervals, which take 10" in out
    with pytest.raises(DataError, match="group the items differently"):
        compare.run(a, d)


def test_the_other_way_round(pair: tuple[Path, Path]) -> None:
    there, back = compare.run(*pair), compare.run(*pair[::-1])
    assert back.difference.value == -there.difference.value
    assert (back.difference.only_a, back.difference.only_b) == (1, 9)
    assert back.difference.p == there.difference.p
    assert back.consistency == there.consistency
    assert back.verdict.startswith("B beats A by 40.0")


def test_what_may_be_chance_is_called_so(tmp_path: Path) -> None:
    a = folder(tmp_path / "a", "bbbbbbbbbb" + "cccccc" + "uubb")
    b = folder(tmp_path / "b", "bbbbbbbbbb" + "cccccb" + "uubb")
    found = compare.run(a, b)
    assert (found.is_more_than_chance, found.difference.p) == (False, 1.0)
    assert found.verdict == "A is ahead by 5.0 percentage points, which may be chance (McNemar, p = 1.000)."
    same = compare.run(a, a)
    assert same.verdict == "A and B have exactly the same 20 items right and wrong."
    assert (same.difference.value, same.difference.p, same.consistency.kappa) == (0, 1, 1)
    level = folder(tmp_path / "c", "cbbbbbbbbb" + "cccccc" + "uuub")
    assert (
        compare.run(a, level).verdict
        == "A and B have equally many of 20 items right, though not the same ones."
    )


def test_items_are_matched_by_id(pair: tuple[Path, Path], tmp_path: Path) -> None:
    order = np.random.default_rng(0).permutation(20)
    letters = ("bbbbcccccc" + "ccbbbb" + "uuub", "bbbbbbbbbbccccccuuuu")
    answers, truth = ("".join(np.array(list(word))[order]) for word in letters)
    shuffled = folder(tmp_path / "b2" / "b", answers, truth=truth, ids=[f"i{n}" for n in order])
    there, again = (
        compare.run(pair[0], other).model_copy(update={"b": None}) for other in (pair[1], shuffled)
    )
    assert there == again


def test_json_and_words(pair: tuple[Path, Path]) -> None:
    found = done("compare", *pair, "--json").json
    assert set(found) == set(compare.Comparison.model_fields)
    difference = found["difference"]
    assert (difference["only_a"], difference["only_b"], difference["test"]) == (9, 1, "McNemar")
    assert difference["p"] == pytest.approx(0.021484375)
    out = done("compare", *pair).out
    assert "label: 20 items, test part of split random" in out
    assert "A − B: +40.0 points [" in out
    assert "95 % over 20 items" in out
    assert "only A right 9, only B right 1: p = 0.021 (McNemar)" in out
    assert "A beats B by 40.0 percentage points" in out
    # Class, support, recalls, gain in items: largest gains first.
    assert re.findall(r"│ (\w+) +│ +(\d+) +│ +([\d.]+) +│ +([\d.]+) +│ +([+-]\d) +│", out) == [
        ("Bottle", "10", "100.0", "40.0", "+6"),
        ("Can", "6", "83.3", "33.3", "+3"),
        ("Cup", "4", "50.0", "75.0", "-1"),
    ]


def test_other_parts_are_compared_with_a_warning(tmp_path: Path) -> None:
    parts = "rt" * 10
    a = folder(tmp_path / "a", "b" * 20, parts=parts)
    found = compare.run(a, a, "train")
    assert (found.part, found.n) == ("train", 10)
    assert any("'train' was used for learning" in note for note in found.notes)
    assert not any("used for learning" in note for note in compare.run(a, a).notes)
    with pytest.raises(UsageError, match="no items of the part 'val'; it has: train, test"):
        compare.run(a, a, "val")


def test_classes_that_one_cannot_answer_are_said(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    narrow = folder(tmp_path / "narrow", "b" * 20, names=NAMES[:2])
    found = compare.run(pair[0], narrow)
    assert "B cannot answer the classes of 4 items; they count as wrong." in found.notes
    assert found.b.n_right == 10


def test_other_questions_are_refused(pair: tuple[Path, Path], tmp_path: Path) -> None:
    a, letters = pair[0], "b" * 20
    for change, message in (
        ({"split": "group"}, "split: 'random' against 'group'"),
        ({"labels": "taco10"}, "labels: 'label' against 'taco10'"),
    ):
        with pytest.raises(DataError, match=message):
            compare.run(a, folder(tmp_path / next(iter(change)), letters, **change))
    fewer = folder(tmp_path / "fewer", letters[1:], truth="bbbbbbbbbccccccuuuu")
    with pytest.raises(
        DataError, match="1 items are only in the first and 0 only in the second, such as 'i19'"
    ):
        compare.run(a, fewer)
    relabelled = folder(tmp_path / "relabelled", letters, truth="cbbbbbbbbbccccccuuuu")
    with pytest.raises(
        DataError, match="the truth of 1 items differs, the first: 'i0' is 'Bottle' against 'Can'"
    ):
        compare.run(a, relabelled)
    moved = folder(tmp_path / "moved", letters, parts="r" + "t" * 19)
    with pytest.raises(
        DataError, match="put 1 items in other parts, the first: 'i0' in 'test' against 'train'"
    ):
        compare.run(a, moved)


def test_what_holds_no_results_is_refused(pair: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there are no results in"):
        compare.run(pair[0], tmp_path)
    rewrite(pair[1] / "result.json", lambda _: {"method": "x"})
    answer = call("compare", *pair)
    assert (answer.status, answer.out) == (1, "")
    assert "result.json is of another version: title: Field required" in answer.err
