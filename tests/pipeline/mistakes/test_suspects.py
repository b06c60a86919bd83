"""Wrong labels planted in clusters are found; classes of which too little is known are left alone."""

import numpy as np
import pytest

from deponij.pipeline.mistakes.suspects import OutOfFold, find_confused, find_suspects, out_of_fold
from deponij.store.errors import DataError


def clusters(counts: list[int], noise: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, labels and photographs; three items of whatever class to a photograph."""
    rng = np.random.default_rng(seed)
    codes = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    features = np.eye(len(counts), 24)[codes] + noise * rng.normal(size=(len(codes), 24))
    groups = np.array([f"photo{i // 3}" for i in range(len(codes))])
    return features.astype(np.float32), np.array([f"class {code}" for code in codes]), groups


def ids_of(names: np.ndarray) -> list[str]:
    return [f"i{row}" for row in range(len(names))]


@pytest.mark.parametrize("noise", [0.05, 0.25])
@pytest.mark.parametrize("seed", [0, 1])
def test_planted_errors_lead_the_list(noise: float, seed: int) -> None:
    features, names, groups = clusters([120, 60, 40, 20], noise, seed)
    rng = np.random.default_rng(seed + 10)
    planted = rng.permutation(len(names))[:12]  # 5 % of 240
    wrong = names.copy()
    wrong[planted] = [rng.choice([n for n in np.unique(names) if n != name]) for name in names[planted]]
    found = out_of_fold(features, wrong, groups, folds=5, seed=0)
    suspects = find_suspects(ids_of(names), wrong, found)
    first = {one.item_id for one in suspects[:12]}
    hit = [row for row in planted if f"i{row}" in first]
    assert len(hit) >= 0.8 * 12
    # With noise of 0.25 the clusters overlap, and some good labels are listed too.
    assert len(suspects) <= 3 * 12
    for one in suspects:
        row = int(one.item_id[1:])
        assert one.label == wrong[row] != one.suggested
        assert one.prob_label < one.prob_suggested
    # What is suggested for a planted error is what the label was.
    right = [
        one.suggested == names[int(one.item_id[1:])] for one in suspects[:12] if int(one.item_id[1:]) in hit
    ]
    assert np.mean(right) >= 0.8
    assert [one.quality for one in suspects] == sorted(one.quality for one in suspects)


def test_well_labelled_clusters_have_no_suspects() -> None:
    features, names, groups = clusters([60, 40, 20], 0.05)
    assert find_suspects(ids_of(names), names, out_of_fold(features, names, groups, folds=5, seed=0)) == []


def test_crops_of_one_photograph_do_not_vouch_for_each_other() -> None:
    """A photograph of three crops that look alike nowhere else: labelled alike and wrongly, all are found."""
    features, names, groups = clusters([45, 45], 0.1)
    rows = np.flatnonzero(groups == "photo4")
    features[rows] = np.eye(2, 24)[1] + 0.5 * np.eye(24)[7]
    names[rows] = "class 0"
    grouped = out_of_fold(features, names, groups, folds=5, seed=0)
    alone = out_of_fold(features, names, np.array(ids_of(names)), folds=5, seed=0)
    column = grouped.classes.tolist().index("class 0")
    assert (grouped.answers[rows] == "class 1").all()
    assert (grouped.probs[rows, column] < alone.probs[rows, column]).all()


def test_a_class_in_one_photograph_is_not_judged_and_never_suspect() -> None:
    features, names, groups = clusters([40, 40], 0.1)
    rare = np.flatnonzero(groups == "photo5")
    names[rare] = "rare"
    features[rare] = 3 * np.eye(24)[9]
    names[0], features[0] = "single", -3 * np.eye(24)[11]
    found = out_of_fold(features, names, groups, folds=5, seed=0)
    assert np.flatnonzero(~found.is_judged).tolist() == sorted({0, *rare.tolist()})
    assert (found.probs[rare, found.classes.tolist().index("rare")] == 0).all()
    assert find_suspects(ids_of(names), names, found) == []
    # Each classifier's probabilities sum to one over the classes that it knew.
    np.testing.assert_allclose(found.probs.sum(axis=1), 1)


def test_folds_become_fewer_with_few_photographs_or_items() -> None:
    features, names, _ = clusters([4, 4], 0.1)
    photos = np.array(["a", "a", "b", "b", "a", "a", "b", "b"])
    assert out_of_fold(features, names, photos, folds=5, seed=0).n_folds == 2
    assert out_of_fold(features, names, np.array(ids_of(names)), folds=5, seed=0).n_folds == 4


def test_same_inputs_same_probabilities() -> None:
    inputs = clusters([30, 30, 30], 0.5)
    first, second = (out_of_fold(*inputs, folds=5, seed=3) for _ in range(2))
    assert first.probs.tobytes() == second.probs.tobytes()


@pytest.mark.parametrize(
    ("names", "groups", "message"),
    [
        (["Can"] * 6, list("abcdef"), "all 6 items have the label 'Can'"),
        (["Can", "Cup"] * 3, ["a"] * 6, "all 6 items are of one photograph"),
        (list("uvwxyz"), list("abcdef"), "each of the 6 classes has one item only"),
    ],
)
def test_what_cannot_be_judged(names: list[str], groups: list[str], message: str) -> None:
    features = np.random.default_rng(0).normal(size=(6, 3))
    with pytest.raises(DataError, match=message):
        out_of_fold(features, np.array(names), np.array(groups), folds=5, seed=0)


def test_constant_features_are_refused() -> None:
    with pytest.raises(DataError, match="all 6 examples have the same"):
        out_of_fold(np.ones((6, 3)), np.array(["a", "b"] * 3), np.array(list("abcdef")), folds=5, seed=0)


def test_confused_pairs_counted_by_hand() -> None:
    classes = np.array(["Bottle", "Can", "Cup"])
    names = np.array(["Bottle", "Bottle", "Bottle", "Can", "Cup", "Cup"])
    probs = np.array([[0.3, 0.7, 0], [0.1, 0.9, 0], [1, 0, 0], [0, 1, 0], [0, 0.6, 0.4], [0.8, 0.2, 0]])
    is_judged = np.array([True, True, True, True, True, False])
    found = OutOfFold(classes, probs, is_judged, c=1.0, n_folds=2)
    first, second = find_confused(ids_of(names), names, found, n_pairs=5, n_items=1)
    # Two of three bottles are answered with Can, the surer one (0.9) is shown; i5 was not judged.
    assert (first.truth, first.answer, first.n, first.n_truth, first.item_ids) == (
        "Bottle",
        "Can",
        2,
        3,
        ("i1",),
    )
    assert (second.truth, second.answer, second.n, second.n_truth, second.item_ids) == (
        "Cup",
        "Can",
        1,
        1,
        ("i4",),
    )
