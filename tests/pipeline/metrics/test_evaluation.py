"""The record of one classifier, by hand, and its tables."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from deponij.pipeline.metrics.evaluation import score_part
from deponij.pipeline.metrics.intervals import wilson
from deponij.pipeline.metrics.predictions import Predictions, per_class_rows, predictions


def test_scores_by_hand() -> None:
    truth = np.array(["a", "a", "b", "z"])
    ranked = np.array([["a", "b", "c"], ["b", "a", "c"], ["c", "a", "b"], ["a", "b", "c"]])
    scores = score_part(truth, ranked, ["a", "b", "c"], "a")
    assert (scores.n, scores.top1, scores.top2, scores.top3) == (4, 0.25, 0.5, 0.75)
    assert scores.top1_interval == wilson(1, 4)
    assert scores.top3_interval == wilson(3, 4)
    assert scores.balanced_accuracy == pytest.approx((1 / 2 + 0 + 0) / 3)
    assert (scores.n_classes, scores.n_unseen_class, scores.majority) == (3, 1, 0.5)


def test_two_classes_clamp_top3() -> None:
    scores = score_part(np.array(["a", "b"]), np.array([["b", "a"], ["b", "a"]]), ["a", "b"], "b")
    assert (scores.top1, scores.top2, scores.top3) == (0.5, 1.0, 1.0)


def test_no_items_have_no_scores() -> None:
    with pytest.raises(ValueError, match="no items"):
        score_part(np.array([], dtype=str), np.empty((0, 3), dtype=str), ["a"], "a")


@pytest.fixture
def found() -> Predictions:
    logits = np.array([[3.0, 1.0, 2.0], [0.0, 5.0, 5.0], [900.0, 0.0, 1.0]])
    probs = np.array([[0.6, 0.1, 0.3], [0.0, 0.5, 0.5], [1.0, 0.0, 0.0]])
    names = np.array(["a", "b", "c"])
    return predictions(
        ids=np.array(["i", "j", "k"]),
        parts=np.array(["train", "test", "test"]),
        truth=np.array(["a", "c", "a"]),
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
    assert table.column_names == ["item_id", "part", "truth", "prediction", "prob", "top_labels", "top_probs"]
    again = Predictions.from_table(table)
    for name in ("ids", "parts", "truth", "top_labels", "top_probs"):
        np.testing.assert_array_equal(getattr(again, name), getattr(found, name))


def test_per_class_rows_of_one_part(found: Predictions) -> None:
    rows = {row["class"]: row for row in per_class_rows(found, ["a", "b", "c"], "test")}
    assert (rows["a"]["support"], rows["a"]["recall"], rows["a"]["precision"]) == (1, 1.0, 1.0)
    assert (rows["b"]["support"], rows["b"]["recall"], rows["b"]["precision"]) == (0, "", 0.0)
    assert (rows["c"]["support"], rows["c"]["recall"], rows["c"]["precision"]) == (1, 0.0, "")
