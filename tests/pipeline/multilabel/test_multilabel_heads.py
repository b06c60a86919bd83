"""Multi-label heads: a contract over every one, and scikit-learn on the same inputs."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, log_loss
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neighbors import KNeighborsClassifier

from deponij.pipeline.cards import FeatureSource
from deponij.pipeline.multilabel.head import MULTILABEL_HEADS
from deponij.pipeline.multilabel.knn import MultilabelNeighbours
from deponij.pipeline.multilabel.logistic import OneVsRest
from deponij.pipeline.multilabel.registry import kinds, load_multilabel, multilabel_class
from deponij.store.errors import DataError, StoreError, UsageError

CLASSES = ["ant", "bee", "cow", "dog"]
SOURCES = [FeatureSource(backbone="b", fingerprint="f", labels="label")]


def drawn(n: int, d: int = 20, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features [n, d], and truths [n, 4] that hang on them."""
    generator = np.random.default_rng(seed)
    directions = np.random.default_rng(99).normal(size=(4, d)) / np.sqrt(d)
    features = generator.normal(size=(n, d)).astype(np.float32)
    return features, features @ directions.T + 0.4 * generator.normal(size=(n, 4)) > [0, 0.3, 0.6, 0.9]


TRAIN, VAL, TEST = drawn(160), drawn(60, seed=1), drawn(200, seed=2)


@pytest.fixture(params=kinds())
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_it_learns(kind: str) -> None:
    head = multilabel_class(kind)().fit(*TRAIN, CLASSES, *VAL)
    found = average_precision_score(TEST[1], head.predict_proba(TEST[0]))
    assert found > TEST[1].mean() + 0.25


def test_a_saved_one_answers_alike_and_its_card_says_how(kind: str, tmp_path: Path) -> None:
    head = multilabel_class(kind)().fit(*TRAIN, CLASSES, *VAL)
    files = head.files(SOURCES)
    MULTILABEL_HEADS.write(tmp_path / "head", files)
    loaded = load_multilabel(tmp_path / "head")
    assert loaded.predict_proba(TEST[0]) == pytest.approx(head.predict_proba(TEST[0]), abs=1e-6)
    assert (loaded.predict(TEST[0]) == head.predict(TEST[0])).all()
    assert loaded.files(SOURCES) == files
    card, tensors = MULTILABEL_HEADS.read(tmp_path / "head", kind)
    space = {"features": TEST[0].astype(float), **tensors, **card.params, "norm": norm}
    exec(card.apply, space)
    assert space["log_odds"] == pytest.approx(head.decision_function(TEST[0]), abs=1e-4)


def norm(rows: np.ndarray) -> np.ndarray:
    return np.linalg.norm(rows, axis=1, keepdims=True)


def test_equal_inputs_give_equal_bytes(kind: str) -> None:
    first, second = (multilabel_class(kind)().fit(*TRAIN, CLASSES, *VAL).files(SOURCES) for _ in range(2))
    assert first == second


def test_without_validation_thresholds_are_one_half_and_it_says_so(kind: str) -> None:
    head = multilabel_class(kind)().fit(*TRAIN, CLASSES)
    assert head.thresholds_.tolist() == [0.5] * 4
    assert any("one half" in note for note in head.notes())


def test_a_class_that_nobody_has_or_all_have_is_told(kind: str) -> None:
    truth = TRAIN[1].copy()
    truth[:, 0], truth[:, 3] = False, True
    head = multilabel_class(kind)().fit(TRAIN[0], truth, CLASSES, *VAL)
    assert head.constant_ == ("ant", "dog")
    assert any("ant, dog" in note for note in head.notes())
    probs = head.predict_proba(TEST[0])
    assert probs[:, 0].max() < 0.1
    assert probs[:, 3].min() > 0.9


@pytest.mark.parametrize(
    ("features", "truth", "said"),
    [
        (np.zeros((0, 3)), np.zeros((0, 4), bool), "0 examples"),
        (np.ones((5, 3)), np.eye(5, 4, dtype=bool), "same .constant. features"),
        (np.eye(5), np.zeros((5, 4), bool), "nothing can be learned"),
        (np.eye(5), np.zeros((5, 3), bool), "truths of shape"),
        (np.full((5, 3), np.nan), np.eye(5, 4, dtype=bool), "NaN"),
    ],
)
def test_what_cannot_be_learned_from_is_refused(
    kind: str, features: np.ndarray, truth: np.ndarray, said: str
) -> None:
    with pytest.raises(DataError, match=said):
        multilabel_class(kind)().fit(features, truth, CLASSES)


def test_another_width_is_refused(kind: str) -> None:
    head = multilabel_class(kind)().fit(*TRAIN, CLASSES)
    with pytest.raises(DataError, match="width 20, got width 7"):
        head.predict(np.ones((2, 7)))


def test_one_of_another_kind_is_refused(kind: str, tmp_path: Path) -> None:
    MULTILABEL_HEADS.write(tmp_path / "head", multilabel_class(kind)().fit(*TRAIN, CLASSES).files(SOURCES))
    other = next(multilabel_class(name) for name in kinds() if name != kind)
    with pytest.raises(StoreError, match="of kind"):
        other.load(tmp_path / "head")


def test_one_vs_rest_is_scikit_learns() -> None:
    """On standardised features, to the tolerance of both solvers; wide features are reduced and give the same."""
    for d in (20, 300):
        train, test = drawn(120, d), drawn(50, d, seed=3)
        head = OneVsRest(cs=(0.05,), tolerance=1e-9, max_iter=10_000).fit(*train, CLASSES)
        standard = [(one - head.mean_) / head.scale_ for one in (train[0], test[0])]
        peer = OneVsRestClassifier(LogisticRegression(C=0.05, tol=1e-9, max_iter=10_000))
        peer.fit(standard[0], train[1])
        assert head.predict_proba(test[0]) == pytest.approx(peer.predict_proba(standard[1]), abs=2e-4)


def test_the_penalty_is_the_one_of_the_highest_map_on_validation() -> None:
    head = OneVsRest().fit(*TRAIN, CLASSES, *VAL)
    maps = {
        c: average_precision_score(VAL[1], OneVsRest(cs=(c,)).fit(*TRAIN, CLASSES).predict_proba(VAL[0]))
        for c in OneVsRest().cs
    }
    assert {one.c: one.map_macro for one in head.trials_} == pytest.approx(maps, abs=1e-2)
    assert maps[head.c_] == pytest.approx(max(maps.values()), abs=1e-2)


def test_neighbours_are_scikit_learns() -> None:
    """Shares by cosine with the same weights; ours lie half a neighbour nearer to how often a class occurs."""
    k, prior = 10, (TRAIN[1].sum(axis=0) + 0.5) / (len(TRAIN[1]) + 1)
    peer = KNeighborsClassifier(k, metric="cosine", weights=lambda distances: np.exp(-distances / 0.07))
    peer.fit(TRAIN[0], TRAIN[1].astype(int))
    shares = np.column_stack([one[:, 1] for one in peer.predict_proba(TEST[0])])
    head = MultilabelNeighbours(ks=(k,)).fit(*TRAIN, CLASSES)
    assert head.predict_proba(TEST[0]) == pytest.approx((k * shares + 0.5 * prior) / (k + 0.5), abs=1e-4)


@pytest.mark.parametrize("made", [OneVsRest(cs=()), OneVsRest(max_iter=0), MultilabelNeighbours(ks=(0,))])
def test_parameters_out_of_range(made: OneVsRest | MultilabelNeighbours) -> None:
    with pytest.raises(UsageError):
        made.fit(*TRAIN, CLASSES)


def clear_cut(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Four kinds of items far apart, each with one class: whatever is chosen, the order is right and mAP is 1."""
    kinds_of = np.arange(n) % 4
    noise = 0.05 * np.random.default_rng(seed).normal(size=(n, 4))
    return (np.eye(4)[kinds_of] + noise).astype(np.float32), np.eye(4, dtype=bool)[kinds_of]


def test_of_equal_map_the_fewest_neighbours_and_the_lowest_log_loss_are_taken() -> None:
    train, val = clear_cut(80, 0), clear_cut(40, 1)
    near = MultilabelNeighbours(ks=(7, 3, 5)).fit(*train, CLASSES, *val)
    assert {(one.k, one.map_macro) for one in near.trials_} == {(3, 1.0), (5, 1.0), (7, 1.0)}
    assert near.k_ == 3
    cs = (0.001, 0.1, 10.0)
    head = OneVsRest(cs=cs).fit(*train, CLASSES, *val)
    assert {one.map_macro for one in head.trials_} == {1.0}
    losses = {}
    for c in cs:
        probs = OneVsRest(cs=(c,)).fit(*train, CLASSES).predict_proba(val[0])
        losses[c] = np.mean([log_loss(val[1][:, k], probs[:, k]) for k in range(4)])
    assert head.c_ == min(losses, key=lambda c: losses[c]) == 10.0
