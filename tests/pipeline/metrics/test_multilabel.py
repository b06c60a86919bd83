"""Multi-label figures: scikit-learn's functions, values computed by hand, and what a block left out changes."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, jaccard_score

from deponij.pipeline.metrics.clustered import Estimate
from deponij.pipeline.metrics.multilabel import (
    MAX_BLOCKS,
    average_precision,
    blocks_of,
    choose_thresholds,
    score_multilabel,
)

NAMES = list("abcde")


def drawn(n: int = 200, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Truths and probabilities [n, 5], many of them equal."""
    generator = np.random.default_rng(seed)
    truth = generator.random((n, 5)) < [0.5, 0.3, 0.1, 0.05, 0.02]
    return truth, np.round(np.clip(truth * 0.3 + generator.random((n, 5)) * 0.7, 0, 1), 2)


def scores_of(truth: np.ndarray, probs: np.ndarray, threshold: float = 0.5, groups: object = None):  # type: ignore[no-untyped-def]
    names = np.arange(len(truth)).astype(str) if groups is None else np.asarray(groups).astype(str)
    return score_multilabel(truth, probs, np.full(truth.shape[1], threshold), names, NAMES[: truth.shape[1]])


def test_the_same_as_scikit_learn_also_with_ties() -> None:
    truth, probs = drawn()
    found, answers = scores_of(truth, probs, 0.45), probs >= 0.45
    expected = {
        "map_macro": average_precision_score(truth, probs, average="macro"),
        "map_micro": average_precision_score(truth, probs, average="micro"),
        "f1_macro": f1_score(truth, answers, average="macro"),
        "f1_micro": f1_score(truth, answers, average="micro"),
        "f1_micro_half": f1_score(truth, probs >= 0.5, average="micro"),
        "jaccard": jaccard_score(truth, answers, average="samples", zero_division=1),
    }
    # Records keep six digits.
    assert {name: getattr(found, name) for name in expected} == pytest.approx(expected, rel=1e-5)
    by_class = average_precision_score(truth, probs, average=None)
    assert [one.ap for one in found.by_class] == pytest.approx(list(by_class), rel=1e-5)


def test_average_precision_by_hand() -> None:
    """Ranks + - +: precision 1 at the first positive, 2/3 at the second, half of the recall each."""
    ap = average_precision(np.array([True, False, True]), np.array([0.9, 0.8, 0.7]))
    assert ap[0] == pytest.approx((1 + 2 / 3) / 2)


def test_a_choice_of_items_is_as_if_there_were_no_others() -> None:
    truth, probs = drawn()
    kept = np.random.default_rng(1).random((4, len(truth))) < 0.7
    found = average_precision(truth[:, 1], probs[:, 1], kept)
    expected = [average_precision_score(truth[rows, 1], probs[rows, 1]) for rows in kept]
    assert found[1:] == pytest.approx(expected)


def test_a_class_without_positives_is_no_part_of_macro_figures() -> None:
    truth, probs = drawn()
    truth[:, 2] = False
    found = scores_of(truth, probs)
    others = [0, 1, 3, 4]
    assert found.absent == ("c",)
    assert found.n_classes == 4
    assert found.map_macro == pytest.approx(
        average_precision_score(truth[:, others], probs[:, others]), rel=1e-5
    )
    assert (found.by_class[2].ap, found.by_class[2].f1) == (None, None)


def test_chance_is_the_share_of_positives_and_all_answered() -> None:
    truth, _ = drawn(2000)
    found = scores_of(truth, np.random.default_rng(3).random(truth.shape))
    assert found.chance_map == pytest.approx(truth.mean(axis=0).mean(), rel=1e-5)
    assert found.map_macro == pytest.approx(found.chance_map, abs=0.03)
    assert found.chance_f1 == pytest.approx(f1_score(truth, np.ones_like(truth), average="micro"), rel=1e-5)


def test_an_empty_answer_to_an_empty_truth_is_exact() -> None:
    truth = np.array([[True, False], [False, False]])
    found = scores_of(truth, np.array([[0.9, 0.1], [0.2, 0.1]]))
    assert (found.exact, found.jaccard, found.n_empty) == (1.0, 1.0, 1)


def test_thresholds_are_those_of_the_highest_f1() -> None:
    truth, probs = drawn(seed=5)
    chosen = choose_thresholds(truth, probs)
    for column, one in enumerate(chosen):
        grid = [f1_score(truth[:, column], probs[:, column] >= t) for t in np.linspace(0, 1, 201)]
        assert one.f1 == pytest.approx(max(grid))
        assert f1_score(truth[:, column], probs[:, column] >= one.probability) == pytest.approx(max(grid))


def test_a_threshold_without_positives_or_without_a_better_one_is_one_half() -> None:
    truth = np.array([[False, True], [False, False]])
    probs = np.array([[0.3, 0.8], [0.4, 0.1]])
    assert [one.probability for one in choose_thresholds(truth, probs)] == [0.5, 0.5]


def test_blocks_hold_whole_groups_of_nearly_equal_number() -> None:
    groups = np.repeat(np.arange(500), 3).astype(str)
    blocks = blocks_of(groups)
    assert len(np.unique(blocks)) == MAX_BLOCKS
    assert all(len(np.unique(blocks[groups == name])) == 1 for name in np.unique(groups))
    sizes = np.bincount(blocks)
    assert sizes.max() - sizes.min() <= 3


def test_intervals_are_those_of_the_jackknife() -> None:
    """Of single items: the variance that leaving out each one gives, by scikit-learn on what is left."""
    truth, probs = drawn(40, seed=2)
    truth, probs = truth[:, :2], probs[:, :2]
    found = scores_of(truth, probs)
    rows = np.arange(len(truth))
    without = [average_precision_score(truth[rows != k], probs[rows != k]) for k in rows]
    variance = (len(rows) - 1) / len(rows) * float(((np.array(without) - found.map_macro) ** 2).sum())
    low, high = found.map_macro_interval
    # Wilson's interval is not symmetrical; its half width is near that of Student's t.
    assert (high - low) / 2 == pytest.approx(2.0227 * np.sqrt(variance), rel=0.1)
    assert low < found.map_macro < high


def test_groups_that_are_alike_make_intervals_wider() -> None:
    truth, probs = drawn(60, seed=4)
    one, many = (
        scores_of(truth, probs),
        scores_of(np.tile(truth, (4, 1)), np.tile(probs, (4, 1)), groups=np.tile(np.arange(60), 4)),
    )
    width, width_many = (found.map_macro_interval[1] - found.map_macro_interval[0] for found in (one, many))
    assert width_many == pytest.approx(width, rel=0.15)
    assert (many.unit, one.unit) == ("photographs", "items")


def test_too_few_groups_have_no_interval() -> None:
    truth, probs = drawn(90)
    found = scores_of(truth, probs, groups=np.arange(90) % 9)
    assert found.interval_kind == "too few"
    assert found.map_macro_interval is None


@pytest.mark.parametrize("truth", [np.zeros((0, 2), bool), np.zeros((3, 2), bool)])
def test_nothing_to_score_is_refused(truth: np.ndarray) -> None:
    with pytest.raises(ValueError, match="positive"):
        scores_of(truth, np.zeros(truth.shape))


def test_the_interval_of_a_class_is_that_of_the_items_that_have_it() -> None:
    """Of sixty items twelve have the class: the quantile of Student's t is that of twelve, not of sixty."""
    truth, probs = drawn(60, seed=7)
    truth[:, 1] = np.arange(60) < 12
    found = scores_of(truth, probs).by_class[1]
    rows = np.arange(60)
    without = np.array([average_precision_score(truth[rows != k, 1], probs[rows != k, 1]) for k in rows])
    value = average_precision_score(truth[:, 1], probs[:, 1])
    variance = 59 / 60 * float(((without - value) ** 2).sum())
    assert (found.support, found.n_groups) == (12, 12)
    assert found.ap_interval == pytest.approx(Estimate(value, variance, 0.0, 12, 12).interval, rel=1e-5)


def test_leaving_the_only_positive_item_out_says_nothing_and_counts_as_nothing() -> None:
    """By hand: it ranks second, AP is 1/2; without the first it is 1, without any of the eighteen below it stays."""
    truth = np.arange(20)[:, None] == 1
    found = scores_of(truth, np.linspace(0.9, 0.1, 20)[:, None])
    assert found.map_macro == pytest.approx(0.5)
    expected = Estimate(0.5, 19 / 20 * 0.5**2, 0.0, 20, 20).interval
    assert found.map_macro_interval == pytest.approx(expected, rel=1e-5)
