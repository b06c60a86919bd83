"""Learning curves on clusters whose best accuracy is known, and on cases counted by hand."""

import numpy as np
import pytest
from sklearn.neighbors import NearestCentroid
from sklearn.preprocessing import Normalizer

from deponij.pipeline.curves import CURVES, CurvePoint, CurveRow, learning_curve
from deponij.pipeline.heads.examples import Examples
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


def test_json_there_and_back() -> None:
    points = learning_curve(*split_world(), per_class=(1,), tries=2)
    source = {"backbone": "tiny", "fingerprint": "f", "labels": "label", "split": "s"}
    rows = [CurveRow(**point.model_dump(), **source) for point in points]
    assert CURVES.load(CURVES.dump(rows), "x.json") == rows
    with pytest.raises(StoreError, match=r"x\.json has no 'checksum'"):
        CURVES.load(b"[{}]", "x.json")
