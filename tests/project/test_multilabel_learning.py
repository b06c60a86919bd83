"""Learning from sets of labels: validation chooses, every part is scored, and what a reader must know is told."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from deponij.pipeline.cards import FeatureSource
from deponij.pipeline.heads.examples import join_examples
from deponij.pipeline.metrics.clustered import FEWEST
from deponij.pipeline.metrics.multilabel import choose_thresholds
from deponij.pipeline.multilabel.logistic import OneVsRest
from deponij.project.learning.multilabel import SetExamples, learn_sets

CLASSES = ["few", "enough", "many"]
N_TRAIN, N_VAL, N_TEST = 80, 30, 50
PARTS = ["train"] * N_TRAIN + ["val"] * N_VAL + ["test"] * N_TEST


def drawn() -> tuple[np.ndarray, np.ndarray]:
    """Features, and truths of which the test part has 9, 10 and 30 of the classes."""
    rng = np.random.default_rng(0)
    truth = rng.random((len(PARTS), 3)) < [0.3, 0.4, 0.5]
    test = np.arange(N_TRAIN + N_VAL, len(PARTS))
    for column, n in enumerate((FEWEST - 1, FEWEST, 30)):
        truth[test, column] = rng.permutation(N_TEST) < n
    features = truth @ rng.normal(size=(3, 8)) + rng.normal(size=(len(PARTS), 8))
    return features.astype(np.float32), truth


def test_thresholds_are_chosen_on_validation_and_rare_classes_are_told() -> None:
    features, truth = drawn()
    ids = [f"i{row:03}" for row in range(len(PARTS))]
    examples = join_examples(
        dict.fromkeys(ids, "[]"), dict(zip(ids, PARTS, strict=True)), dict(zip(ids, ids, strict=True)), ids
    )
    source = FeatureSource(backbone="b", fingerprint="f", labels="label")
    found = learn_sets(
        OneVsRest(), SetExamples(examples, np.array(CLASSES)), truth, features, [source], split="s"
    )
    train, val, test = (examples.rows(part) for part in ("train", "val", "test"))
    peer = OneVsRest().fit(features[train], truth[train], CLASSES, features[val], truth[val])
    chosen = choose_thresholds(truth[val], peer.predict_proba(features[val]))
    assert found.thresholds_from == "validation"
    assert found.thresholds == tuple(one.probability for one in chosen)
    assert {part: one.n for part, one in found.parts.items()} == {
        "train": N_TRAIN,
        "val": N_VAL,
        "test": N_TEST,
    }
    by_peer = average_precision_score(truth[test], peer.predict_proba(features[test]))
    assert found.parts["test"].map_macro == pytest.approx(by_peer, rel=1e-5)
    # Ten are as many as an interval takes, nine are fewer.
    (told,) = (note for note in found.notes if note.startswith(f"Fewer than {FEWEST}"))
    assert told.endswith("too high on average: few.")
