"""Learning curves on clusters whose best accuracy is known, and on cases counted by hand."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.neighbors import NearestCentroid
from sklearn.preprocessing import Normalizer

from deponij.pipeline.curves import CURVES, CurvePoint, CurveRow, learning_curve
from deponij.pipeline.heads.centroid import NearestClassMean
from deponij.pipeline.heads.examples import Examples
from deponij.pipeline.heads.few_shot import draw_share
from deponij.pipeline.heads.logistic import DEFAULT_CS, LogisticProbe
from deponij.store.errors import DataError, StoreError

COUNTS = {"Bottle": 30, "Can": 12, "Cup": 1}


def examples(labels: list[str], parts: list[str]) -> Examples:
    n = len(labels)
    ids = np.array([f"i{row}" for row in range(n)])
    classes = tuple(sorted(set(labels)))
    return Examples(ids, np.array(labels), np.array(parts), ids, "photographs", classes, n, 0, 0, 0)


def world(noise: float = 0.2, seed: int = 0) -> tuple[np.ndarray, Examples]:
    """Bottle 30, Can 12, Cup 1 to learn from; ten each for val and test."""
    labels, parts = [], []
    for name, count in COUNTS.items():
        labels += [name] * (count + 20)
        parts += ["train"] * count + ["val"] * 10 + ["test"] * 10
    rng = np.random.default_rng(seed)
    centres = dict(zip(COUNTS, np.eye(3, 8), strict=True))
    features = np.array([centres[name] for name in labels]) + noise * rng.normal(size=(len(labels), 8))
    return features.astype(np.float32), examples(labels, parts)


def split_world(noise: float = 0.2) -> tuple[np.ndarray, list[Examples]]:
    features, one = world(noise)
    return features, [one]


def by_size(points: list[CurvePoint], head: str) -> dict[int | None, CurvePoint]:
    return {point.per_class: point for point in points if point.head == head}


@pytest.mark.parametrize("head", ["logistic", "centroid"])
def test_sizes_tries_and_short_classes_by_hand(head: str) -> None:
    points = by_size(learning_curve(*split_world(), per_class=(1, 2, 20, 30, 100), tries=3), head)
    # 30 takes all there is, as does 100: the last point, of all items, shows just that.
    assert list(points) == [1, 2, 20, None]
    assert [point.n_train for point in points.values()] == [3, 2 + 2 + 1, 20 + 12 + 1, 43]
    assert [point.n_short_classes for point in points.values()] == [0, 1, 2, 0]
    assert [point.tries for point in points.values()] == [3, 3, 3, 1]
    assert {(point.n_test, point.n_classes) for point in points.values()} == {(30, 3)}
    assert points[None].top1_std is None
    assert (points[None].c is None) == (head == "centroid")


def test_more_items_help_and_the_last_point_is_near_the_optimum() -> None:
    # Two unit Gaussians 2 apart: the best any classifier can do is the normal distribution at 1, 84.1 %.
    rng = np.random.default_rng(1)
    codes = np.arange(1200) % 2
    features = rng.normal(size=(1200, 10))
    features[:, 0] += 2.0 * codes
    parts = [("train", "train", "val", "test", "test", "test")[i // 2 % 6] for i in range(1200)]
    labelled = examples([f"class {code}" for code in codes], parts)
    points = by_size(learning_curve(features, [labelled], per_class=(1, 10), tries=5), "logistic")
    assert points[1].top1 < points[10].top1 < points[None].top1
    low, high = points[None].top1_interval
    assert low < 0.841 < high
    # Parts are balanced, so both accuracies are one; five tries of one item each wobble.
    assert points[None].balanced_accuracy == pytest.approx(points[None].top1)
    assert points[1].top1_std > points[10].top1_std > 0


def test_the_centroid_is_scikit_learns() -> None:
    features, labelled = world(noise=0.6)
    last = by_size(learning_curve(features, [labelled], per_class=(1,), tries=1), "centroid")[None]
    train, test = labelled.rows("train"), labelled.rows("test")
    unit = Normalizer().fit_transform(features)
    expected = (
        NearestCentroid().fit(unit[train], labelled.labels[train]).score(unit[test], labelled.labels[test])
    )
    assert 0.4 < expected < 1
    assert last.top1 == pytest.approx(expected)


def test_a_class_that_training_lacks_counts_as_wrong() -> None:
    features, labelled = world(noise=0.01)
    parts = np.where((labelled.labels == "Cup") & (labelled.parts != "test"), "val", labelled.parts)
    points = learning_curve(
        features, [examples(labelled.labels.tolist(), parts.tolist())], per_class=(5,), tries=2
    )
    assert {point.n_classes for point in points} == {2}
    # Twenty of thirty test items have the other two classes.
    assert {point.top1 for point in points} == {20 / 30}


def test_without_validation_the_penalty_is_chosen_as_the_head_does() -> None:
    features, labelled = world()
    parts = np.where(labelled.parts == "val", "train", labelled.parts)
    given = examples(labelled.labels.tolist(), parts.tolist())
    points = by_size(learning_curve(features, [given], per_class=(1,), tries=2), "logistic")
    train = given.rows("train")
    assert points[None].c == LogisticProbe().fit(features[train], given.labels[train]).c_
    # Of one item a class none can be held out: the middle of the grid.
    assert points[1].c == DEFAULT_CS[len(DEFAULT_CS) // 2]


def test_same_inputs_same_points() -> None:
    first, second = (learning_curve(*split_world(0.8), per_class=(1, 5), tries=3) for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"test": "val"}, "the split's test part has none"),
        ({"train": "val"}, "the split's train part has none"),
    ],
)
def test_an_empty_part_is_refused(change: dict[str, str], message: str) -> None:
    features, labelled = world()
    parts = [change.get(part, part) for part in labelled.parts.tolist()]
    with pytest.raises(DataError, match=message):
        learning_curve(features, [examples(labelled.labels.tolist(), parts)], per_class=(1,), tries=1)


def test_one_class_and_constant_features_are_refused() -> None:
    features, labelled = world()
    alone = examples(["Can"] * len(features), labelled.parts.tolist())
    with pytest.raises(DataError, match="all 43 training items have the class 'Can'"):
        learning_curve(features, [alone], per_class=(1,), tries=1)
    with pytest.raises(DataError, match="all 43 (training )?examples have the same"):
        learning_curve(np.ones_like(features), [labelled], per_class=(1,), tries=1)


@pytest.mark.parametrize("with_val", [True, False])
def test_the_last_point_is_what_the_heads_bring_out(with_val: bool) -> None:
    """Expected: the heads themselves, fitted as the stage `heads` fits them."""
    features, labelled = world(noise=0.6)
    parts = labelled.parts if with_val else np.where(labelled.parts == "val", "train", labelled.parts)
    given = examples(labelled.labels.tolist(), parts.tolist())
    train, val, test = (given.rows(part) for part in ("train", "val", "test"))
    validation = (features[val], given.labels[val]) if with_val else (None, None)
    points = learning_curve(features, [given], per_class=(5,), tries=2)
    for kind, head in (("logistic", LogisticProbe()), ("centroid", NearestClassMean())):
        head.fit(features[train], given.labels[train], *validation)
        expected = head.score(features[test], given.labels[test])
        assert 0.3 < expected < 1
        assert by_size(points, kind)[None].top1 == expected


def rotated(n_folds: int) -> tuple[np.ndarray, list[Examples]]:
    """Fold k tests, fold k + 1 validates, the others teach; 90 items of three classes, two in each group."""
    rng = np.random.default_rng(0)
    labels = [f"class {i // 2 % 3}" for i in range(90)]
    centres = np.eye(3, 8)[[int(label[-1]) for label in labels]]
    features = (centres + 0.7 * rng.normal(size=(90, 8))).astype(np.float32)
    folds, groups = np.arange(90) // 6 % n_folds, np.array([f"g{i // 2}" for i in range(90)])
    rotations = []
    for k in range(n_folds):
        parts = np.where(folds == k, "test", np.where(folds == (k + 1) % n_folds, "val", "train"))
        rotations.append(replace(examples(labels, parts.tolist()), groups=groups))
    return features, rotations


def test_rotations_pool_the_answers_to_each_item_by_what_has_not_seen_it() -> None:
    features, rotations = rotated(5)
    points = learning_curve(features, rotations, per_class=(2, 5), tries=3)
    for kind, head in (("logistic", LogisticProbe), ("centroid", NearestClassMean)):
        last = by_size(points, kind)[None]
        right = 0
        for one in rotations:
            train, val, test = (one.rows(part) for part in ("train", "val", "test"))
            fitted = head().fit(features[train], one.labels[train], features[val], one.labels[val])
            right += int((fitted.predict(features[test]) == one.labels[test]).sum())
        assert last.top1 == pytest.approx(right / 90)
    # Three of five folds of 18 teach; every item is tested once, in its pair.
    assert [point.n_train for point in by_size(points, "centroid").values()] == [6, 15, 54]
    assert {(point.n_test, point.n_groups, point.unit) for point in points} == {(90, 45, "photographs")}
    assert by_size(points, "logistic")[None].twice.n_pictures == 180


def test_one_rotation_is_an_ordinary_split() -> None:
    features, rotations = rotated(5)
    alone = learning_curve(features, rotations[:1], per_class=(2,), tries=2)
    assert {point.n_test for point in alone} == {18}


def test_shares_are_drawn_from_each_class_and_lie_within_each_other() -> None:
    names = np.array(["a"] * 40 + ["b"] * 8 + ["c"])
    half, quarter = (draw_share(names, share, seed=3) for share in (0.5, 0.25))
    assert [int((names[half] == name).sum()) for name in "abc"] == [20, 4, 1]
    assert [int((names[quarter] == name).sum()) for name in "abc"] == [10, 2, 1]
    assert set(quarter) <= set(half)
    assert set(draw_share(names, 0.5, seed=4)) != set(half)


def test_copies_of_one_picture_under_several_labels_are_no_reason_to_stop() -> None:
    features, labelled = world()
    features[labelled.rows("train")[1:]] = features[labelled.rows("train")[0]]
    features[labelled.rows("train")[-1]] += 1
    points = learning_curve(features, [labelled], per_class=(1, 20), tries=3)
    # Of one item a class nothing is known where all are alike: one of three classes is answered.
    assert by_size(points, "logistic")[1].top1 >= 1 / 3


def test_progress_counts_every_fit() -> None:
    told: list[tuple[int, int]] = []
    learning_curve(*split_world(), per_class=(1, 2, 100), tries=3, progress=lambda *said: told.append(said))
    # 43 items of three classes: halves and quarters of them, two sizes a class, and all.
    n = 2 * (3 * (2 + 2) + 1)
    assert told == [(i, n) for i in range(1, n + 1)]


def test_twice_is_told_of_the_last_point_alone() -> None:
    features, rotations = rotated(5)
    points = learning_curve(features, rotations, per_class=(2,), tries=3)
    assert [point.twice is not None for point in points] == [False, True, False, True]
    assert points[0].twice_as_many == ""
    assert points[1].twice_as_many.startswith("Twice the pictures (180): ")


def test_json_there_and_back() -> None:
    points = learning_curve(*split_world(), per_class=(1,), tries=2)
    source = {"backbone": "tiny", "fingerprint": "f", "labels": "label", "split": "s"}
    rows = [CurveRow(**point.model_dump(), **source) for point in points]
    assert CURVES.load(CURVES.dump(rows), "x.json") == rows
    with pytest.raises(StoreError, match=r"x\.json has no 'checksum'"):
        CURVES.load(b"[{}]", "x.json")
