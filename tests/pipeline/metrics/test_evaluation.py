"""The record of one classifier, by hand, and its tables."""

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import balanced_accuracy_score

from deponij.pipeline.metrics.clustered import clustered_means
from deponij.pipeline.metrics.evaluation import score_part
from deponij.pipeline.metrics.predictions import Predictions, per_class_rows, predictions
from deponij.store.errors import DataError


def test_scores_by_hand() -> None:
    truth = np.array(["a", "a", "b", "z"])
    ranked = np.array([["a", "b", "c"], ["b", "a", "c"], ["c", "a", "b"], ["a", "b", "c"]])
    scores = score_part(truth, ranked, np.array(["p", "p", "q", "r"]), ["a", "b", "c"], "a")
    assert (scores.n, scores.top1, scores.top2, scores.top3) == (4, 0.25, 0.5, 0.75)
    assert (scores.n_groups, scores.unit, scores.interval_kind) == (3, "photographs", "too few")
    assert (scores.top1_interval, scores.top3_interval, scores.balanced_interval) == (None, None, None)
    assert scores.balanced_accuracy == pytest.approx((1 / 2 + 0 + 0) / 3)
    assert (scores.n_classes, scores.n_unseen_class, scores.majority) == (3, 1, 0.5)


def test_two_classes_clamp_top3() -> None:
    ranked = np.array([["b", "a"], ["b", "a"]])
    scores = score_part(np.array(["a", "b"]), ranked, np.array(["p", "q"]), ["a", "b"], "b")
    assert (scores.top1, scores.top2, scores.top3) == (0.5, 1.0, 1.0)


def test_every_interval_takes_whole_photographs() -> None:
    """The same answers, as 60 items and as 20 photographs of three: what `clustered` says of each measure."""
    rng = np.random.default_rng(0)
    truth, ranked = rng.choice(["a", "b", "c", "d"], 60), np.tile(["a", "b", "c"], (60, 1))
    alone, photos = np.arange(60), np.arange(60) // 3
    singly, whole = (score_part(truth, ranked, groups, ["a", "b", "c"], "a") for groups in (alone, photos))
    assert (singly.n_groups, singly.unit, singly.interval_kind) == (60, "items", "clustered")
    assert (whole.n_groups, whole.unit, whole.interval_kind) == (20, "photographs", "clustered")
    for k in (1, 2, 3):
        hits = (ranked[:, :k] == truth[:, None]).any(axis=1)[:, None]
        means = clustered_means(hits, photos, truth)
        assert getattr(whole, f"top{k}_interval") == pytest.approx(means.micro[0].interval)
        assert getattr(whole, f"top{k}_interval") != getattr(singly, f"top{k}_interval")
    means = clustered_means(ranked[:, :1] == truth[:, None], photos, truth)
    assert whole.balanced_interval == pytest.approx(means.macro[0].interval)
    assert whole.design_effect == pytest.approx(means.micro[0].design_effect)
    assert whole.balanced_accuracy == pytest.approx(balanced_accuracy_score(truth, ranked[:, 0]))


def test_no_items_have_no_scores() -> None:
    with pytest.raises(ValueError, match="no items"):
        score_part(np.array([], dtype=str), np.empty((0, 3), dtype=str), np.array([]), ["a"], "a")


@pytest.fixture
def found() -> Predictions:
    logits = np.array([[3.0, 1.0, 2.0], [0.0, 5.0, 5.0], [900.0, 0.0, 1.0]])
    probs = np.array([[0.6, 0.1, 0.3], [0.0, 0.5, 0.5], [1.0, 0.0, 0.0]])
    names = np.array(["a", "b", "c"])
    return predictions(
        ids=np.array(["i", "j", "k"]),
        parts=np.array(["train", "test", "test"]),
        truth=np.array(["a", "c", "a"]),
        groups=np.array(["p", "p", "q"]),
        logits=logits,
        probs=probs,
        classes=names,
    )


def test_predictions_are_ranked_by_logits(found: Predictions) -> None:
    # Of the last item's probabilities two are 0; the logits still tell which class comes second.
    assert found.top_labels.tolist() == [["a", "c", "b"], ["b", "c", "a"], ["a", "c", "b"]]
    np.testing.assert_allclose(found.top_probs[0], [0.6, 0.3, 0.1], rtol=1e-6)


def test_table_comes_back(found: Predictions, tmp_path) -> None:
    pq.write_table(found.table(), tmp_path / "t.parquet")
    table = pq.read_table(tmp_path / "t.parquet")
    assert table.column_names == [
        *("item_id", "part", "truth", "group", "prediction", "prob", "top_labels", "top_probs")
    ]
    again = Predictions.from_table(table)
    for name in ("ids", "parts", "truth", "groups", "top_labels", "top_probs"):
        np.testing.assert_array_equal(getattr(again, name), getattr(found, name))


@pytest.mark.parametrize("name", ["item_id", "part", "truth", "group", "top_labels", "top_probs"])
def test_a_table_without_a_column_is_refused_by_its_name(found: Predictions, name: str) -> None:
    with pytest.raises(DataError, match=f"no column '{name}'"):
        Predictions.from_table(found.table().drop_columns([name]))


def test_per_class_rows_of_one_part(found: Predictions) -> None:
    rows = {row["class"]: row for row in per_class_rows(found, ["a", "b", "c"], "test")}
    assert (rows["a"]["support"], rows["a"]["recall"], rows["a"]["precision"]) == (1, 1.0, 1.0)
    assert (rows["b"]["support"], rows["b"]["recall"], rows["b"]["precision"]) == (0, "", 0.0)
    assert (rows["c"]["support"], rows["c"]["recall"], rows["c"]["precision"]) == (1, 0.0, "")
    # Of one photograph nothing is known about others.
    assert [(row["groups"], row["recall_low"], row["recall_high"]) for row in rows.values()] == [
        *((1, "", ""), (0, "", ""), (1, "", ""))
    ]


def test_recall_of_a_class_takes_whole_photographs() -> None:
    """Of a 36 items in 12 photographs, each of which is right or wrong as a whole; of b 4 in 4."""
    right = np.repeat(np.arange(12) < 9, 3)
    truth = np.array(["a"] * 36 + ["b"] * 4)
    answers = np.where([*right, *[True] * 4], truth, "z")[:, None]
    groups = np.array([f"p{i // 3}" for i in range(36)] + [f"q{i}" for i in range(4)])
    found = Predictions(
        np.arange(40).astype(str), np.full(40, "test"), truth, groups, answers, np.ones((40, 1))
    )
    rows = {row["class"]: row for row in per_class_rows(found, ["a", "b", "z"], "test")}
    (expected,) = clustered_means((np.arange(12) < 9)[:, None], np.arange(12), np.zeros(12)).micro
    low, high = expected.interval
    assert (rows["a"]["groups"], rows["a"]["recall"]) == (12, 0.75)
    assert (rows["a"]["recall_low"], rows["a"]["recall_high"]) == pytest.approx((low, high), abs=1e-6)
    assert (rows["b"]["groups"], rows["b"]["recall"], rows["b"]["recall_low"]) == (4, 1.0, "")
