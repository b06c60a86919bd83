"""Captions: which data, which split, which features, and how to make it again."""

from deponij.pipeline.reports.provenance import Provenance, named_features


def test_all_that_is_known() -> None:
    source = Provenance(
        "taco",
        4784,
        "taco10",
        "group",
        "test",
        478,
        (("dinov2", "0123456789abcdef"),),
        "dvc repro heads",
    )
    assert source.facts == ["profile taco", "4,784 items", "labels taco10", "split group", "test, n = 478"]
    assert source.markdown == (
        "profile taco · 4,784 items · labels taco10 · split group · test, n = 478 · dinov2 `01234567` · "
        "`dvc repro heads`"
    )


def test_what_is_unknown_is_left_out() -> None:
    assert Provenance("taco", 3).markdown == "profile taco · 3 items"
    assert Provenance("taco", 3, n=2).facts[-1] == "n = 2"


def test_joined_views_are_named_one_by_one_and_once() -> None:
    pairs = [("a", "1"), ("a+b", "1+2"), ("c+d", "34")]
    # The last one's fingerprints do not tell its members apart.
    assert named_features(pairs) == (("a", "1"), ("b", "2"), ("c+d", "34"))
