"""Each finding of hand-made records, what a person has settled, and their order."""

from collections.abc import Sequence

import numpy as np
import pytest

from deponij.pipeline.advice import findings
from deponij.pipeline.advice.quality import FAULTS, Look
from deponij.pipeline.likeness.pairs import Evidence
from deponij.pipeline.mistakes.records import ConfusedPair, MistakesReport, Suspect

NOBODY: frozenset[str] = frozenset()


def suspect(item_id: str, prob_label: float, prob_suggested: float) -> Suspect:
    return Suspect(
        item_id=item_id,
        label="cat",
        suggested="dog",
        quality=prob_label,
        prob_label=prob_label,
        prob_suggested=prob_suggested,
    )


def audit(
    accuracy: float, suspects: Sequence[Suspect] = (), confused: Sequence[ConfusedPair] = ()
) -> MistakesReport:
    return MistakesReport(
        backbone="tiny",
        fingerprint="f",
        labels="label",
        n=100,
        n_judged=100,
        accuracy=accuracy,
        n_suspects=len(suspects),
        n_twins=0,
        suspects=tuple(suspects),
        twins=(),
        confused=tuple(confused),
        protocol="",
        notes=(),
    )


SUSPECTS = [suspect("sure", 0.01, 0.9), suspect("likely", 0.2, 0.6), suspect("vague", 0.04, 0.3)]


@pytest.mark.parametrize(("accuracy", "listed"), [(0.9, ["sure", "likely", "vague"]), (0.6, ["sure"])])
def test_of_a_classifier_that_errs_often_only_sure_doubts_count(accuracy: float, listed: list[str]) -> None:
    found = findings.wrong_labels(audit(accuracy, SUSPECTS), NOBODY)
    assert found is not None
    assert [one.item_id for one in found.subjects] == listed
    assert found.n == len(listed)
    # Of one that errs often, sure doubts were wrong as often as right on real pictures.
    assert ("probably" in found.title, "may be" in found.title) == (accuracy > 0.8, accuracy < 0.8)
    assert {(one.do, one.label, one.was) for one in found.subjects} == {("relabel", "dog", "cat")}


def test_what_was_found_right_is_doubted_no_more() -> None:
    found = findings.wrong_labels(audit(0.9, SUSPECTS), frozenset({"sure", "vague"}))
    assert found is not None
    assert (found.title, found.n) == ("1 label is probably wrong", 1)
    assert findings.wrong_labels(audit(0.9, SUSPECTS[:1]), frozenset({"sure"})) is None


HASHES = ["ffff0000ffff0000"] * 2 + ["0f0f0f0f0f0f0f0f"] * 2 + ["00ff00ff00ff00ff"]


def alike(vectors: np.ndarray | None, keys: str = "abcde") -> Evidence:
    return Evidence(list(keys), HASHES, vectors)


ONE_WAY = np.array([[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0.1, 1]], np.float32)
IDS = ["p", "q", "r", "s", "t"]


def test_duplicates_across_parts_leave_the_training_item_out() -> None:
    parts = ["train", "test", "train", "test", "train"]
    found = findings.near_duplicates(alike(ONE_WAY), IDS, ["x"] * 5, parts, NOBODY, "label")
    assert found is not None
    # Of p and q hashes and features both say so; of r and s only hashes, of s and t only features.
    assert [(one.item_id, one.do, one.beside) for one in found.subjects] == [("p", "leave-out", "q")]
    assert found.title == "1 group of near-duplicates is across parts"
    assert findings.near_duplicates(alike(ONE_WAY), IDS, ["x"] * 5, ["train"] * 5, NOBODY) is None
    assert findings.near_duplicates(alike(ONE_WAY), IDS, ["x"] * 5, parts, frozenset({"p"})) is None


def test_of_two_labels_of_one_picture_nothing_is_proposed() -> None:
    found = findings.near_duplicates(
        alike(ONE_WAY), IDS, ["x", "y", "x", "x", "x"], [None] * 5, NOBODY, "label"
    )
    assert found is not None
    assert [(one.item_id, one.do, one.was, one.beside) for one in found.subjects] == [
        ("p", "", "x", "q"),
        ("q", "", "y", "p"),
    ]


def test_folds_are_parts_and_equal_contents_need_no_features() -> None:
    folds = ["fold 0", "fold 1", "fold 2", "fold 3", "fold 4"]
    found = findings.near_duplicates(alike(None, "aabcd"), IDS, ["x"] * 5, folds, NOBODY)
    assert found is not None
    # Without features hashes alone count too.
    assert found.n == 2


def test_small_classes_are_those_whose_recall_may_be_anything() -> None:
    truth = np.array(["few"] * 4 + ["many"] * 100)
    answers = np.array(["few"] * 2 + ["many"] * 102)
    found = findings.small_classes(truth, answers, "test", "label")
    assert found is not None
    # Wilson's interval of 2 of 4: 15 to 85 %.
    assert found.facts == ("few: 4 test items, recall 15.0 % to 85.0 %",)
    assert found.title == "1 of 2 classes is too small to judge"
    assert findings.small_classes(truth[4:], answers[4:], "test", "label") is None
    many = np.array([f"c{i:02d}" for i in range(12)])
    everything = findings.small_classes(many, many, "val", "label")
    assert everything is not None and everything.facts[-1] == "and 4 more"
    assert everything.title == "All 12 classes are too small to judge"


def test_confused_pairs_are_many_enough_and_the_worst_first() -> None:
    pairs = [
        ConfusedPair(truth="cat", answer="dog", n=12, n_truth=60, item_ids=("a",)),
        ConfusedPair(truth="car", answer="bus", n=5, n_truth=10, item_ids=("b",)),
        ConfusedPair(truth="sky", answer="sea", n=2, n_truth=4, item_ids=("c",)),
        ConfusedPair(truth="sun", answer="moon", n=9, n_truth=900, item_ids=("d",)),
    ]
    found = findings.confused(audit(0.9, confused=pairs))
    assert found is not None
    assert found.title == "2 pairs of classes are confused, car taken for bus (50.0 %) most"
    assert [one.item_id for one in found.subjects] == ["b", "a"]
    assert findings.confused(audit(0.9, confused=pairs[2:])) is None


def test_pictures_that_failed_or_are_spoilt_can_be_left_out() -> None:
    found = findings.unreadable([("a", "truncated"), ("a", "truncated"), ("b", "empty")])
    assert found is not None
    assert [(one.item_id, one.do, one.note) for one in found.subjects] == [
        ("a", "leave-out", "truncated"),
        ("b", "leave-out", "empty"),
    ]
    assert findings.unreadable([]) is None
    looks = [Look(-1.5, 20.0, 9.0, 8, 300)] * 2
    for fault in FAULTS:
        spoilt = findings.spoilt(fault, [1], ["a", "b"], looks, NOBODY)
        assert spoilt is not None
        assert [one.item_id for one in spoilt.subjects] == ["b"]
        assert findings.spoilt(fault, [1], ["a", "b"], looks, frozenset({"b"})) is None


def test_the_order_is_that_of_urgency_and_empty_findings_are_gone() -> None:
    confused = findings.confused(
        audit(0.9, confused=[ConfusedPair(truth="a", answer="b", n=5, n_truth=9, item_ids=())])
    )
    found = findings.ordered(
        [
            findings.unlabelled(3, [], "label"),
            confused,
            None,
            findings.spoilt("dark", [0], ["a"], [Look(0.0, 1.0, 9.0, 8, 8)], NOBODY),
            findings.unreadable([("a", "r")]),
            findings.unlabelled(0, [], "label"),
            findings.wrong_labels(audit(0.9, SUSPECTS), NOBODY),
        ]
    )
    assert [one.kind for one in found] == ["labels", "unreadable", "dark", "confused", "unlabelled"]


def test_titles_fit_a_line_whatever_classes_are_called() -> None:
    pair = ConfusedPair(truth="n" * 300, answer="two\nlines" * 40, n=50, n_truth=99, item_ids=())
    found = findings.confused(audit(0.9, confused=[pair]))
    assert found is not None
    assert len(found.title) <= 80 and "\n" not in found.title


def test_of_a_group_only_what_was_found_right_is_left_alone() -> None:
    """Of one picture three times: the test item stays, one was found right, the third is still one too many."""
    found = findings.near_duplicates(
        Evidence(list("aaab")), IDS[:4], ["x"] * 4, ["train", "test", "train", "train"], frozenset({"p"})
    )
    assert found is not None
    assert [(one.item_id, one.do, one.beside) for one in found.subjects] == [("r", "leave-out", "q")]
