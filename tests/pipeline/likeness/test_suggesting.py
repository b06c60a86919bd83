"""Which pictures to label first: doubts by hand, batches that spread, no two alike."""

import numpy as np
import pytest

from deponij.pipeline.likeness.pairs import Evidence, Likeness
from deponij.pipeline.likeness.suggesting import doubts, doubts_between, suggest
from deponij.store.errors import UsageError


def around(centres: int, each: int, seed: int = 0) -> np.ndarray:
    """`each` vectors about every one of so many directions at right angles."""
    rng = np.random.default_rng(seed)
    return (
        np.repeat(np.eye(centres, 16), each, axis=0) + 0.15 * rng.normal(size=(centres * each, 16))
    ).astype(np.float32)


def evidence(vectors: np.ndarray, keys: list[str] | None = None) -> Evidence:
    return Evidence(keys or [f"{vectors.shape}{row}" for row in range(len(vectors))], None, vectors)


def test_doubt_is_one_minus_the_margin() -> None:
    probs = np.array([[0.5, 0.5, 0.0], [0.7, 0.2, 0.1], [1.0, 0.0, 0.0]])
    assert doubts(probs) == pytest.approx([1.0, 0.5, 0.0])
    assert doubts_between(probs, 0, 1) == pytest.approx([1.0, 0.4, 0.0])
    with pytest.raises(UsageError, match="single class"):
        doubts(np.ones((3, 1)))


def test_a_batch_has_one_of_each_doubtful_region() -> None:
    vectors = around(4, 12)
    doubt = np.tile(np.array([0.9] * 3 + [0.1] * 9), 4)
    rows = suggest(Likeness(evidence(vectors)), None, doubt, 4, seed=0)
    assert sorted(rows // 12) == [0, 1, 2, 3]
    assert (doubt[rows] == 0.9).all()


def test_the_most_doubtful_comes_first_and_the_seed_decides_the_rest() -> None:
    vectors, doubt = around(3, 10), np.linspace(0, 1, 30)
    likeness = Likeness(evidence(vectors))
    rows = suggest(likeness, None, doubt, 5, seed=1)
    assert (np.diff(doubt[rows]) <= 0).all()
    assert rows.tolist() == suggest(likeness, None, doubt, 5, seed=1).tolist()


def test_near_duplicates_are_not_in_one_batch_nor_those_of_labelled_pictures() -> None:
    vectors = np.repeat(around(1, 5), 2, axis=0)  # each twice
    vectors[1::2] *= 1.5
    rows = suggest(Likeness(evidence(vectors)), None, np.ones(10), 10, seed=0)
    assert len(rows) == len(set((rows // 2).tolist())) == 5
    known = Likeness(evidence(vectors), evidence(vectors[:2] * 3))
    assert 0 not in suggest(Likeness(evidence(vectors)), known, np.ones(10), 10, seed=0) // 2


def test_without_a_classifier_a_batch_covers_what_there_is() -> None:
    rows = suggest(Likeness(evidence(around(5, 8))), None, None, 5, seed=0)
    assert sorted(rows // 8) == [0, 1, 2, 3, 4]


def test_few_items_are_all_taken_and_none_is_an_empty_batch() -> None:
    assert len(suggest(Likeness(evidence(around(1, 3))), None, None, 10, seed=0)) == 3
    everything = evidence(around(1, 3))
    known = Likeness(everything, everything)
    assert len(suggest(Likeness(everything), known, None, 10, seed=0)) == 0


def test_what_cannot_be_asked_is_refused() -> None:
    with pytest.raises(UsageError, match="features"):
        suggest(Likeness(Evidence(["a", "b"])), None, None, 1, seed=0)
    with pytest.raises(UsageError, match="at least one"):
        suggest(Likeness(evidence(around(1, 3))), None, None, 0, seed=0)
