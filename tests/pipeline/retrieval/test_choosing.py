"""Choosing an index: recall is of queries that are not in it, and the choice is the least effort that reaches it."""

from typing import Any

import numpy as np
import pytest

from deponij.pipeline.retrieval import choosing
from deponij.pipeline.retrieval.choosing import build_chosen, recall_of, sweep
from deponij.pipeline.retrieval.kind import index_kind, kinds
from deponij.pipeline.retrieval.vector_index import VectorIndex
from deponij.pipeline.unit_vectors import unit
from deponij.store.errors import UsageError


def clustered(n: int, seed: int = 0, dim: int = 12) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(40, dim))
    return (centres[rng.integers(40, size=n)] + 0.5 * rng.normal(size=(n, dim))).astype(np.float32)


def test_recall_by_hand() -> None:
    truth = np.array([[0.9, 0.8, 0.7], [0.9, 0.5, 0.5]], np.float32)
    # The first misses one of three; the second found another vector that is just as near as the third.
    found = np.array([[0.9, 0.7, 0.6], [0.9, 0.5, 0.5]], np.float32)
    assert recall_of(found, truth) == pytest.approx((2 / 3 + 1) / 2)
    # More rows than k that reach the k-th score do not count twice.
    assert recall_of(np.array([[0.9, 0.9, 0.9, 0.9]]), np.array([[0.9, 0.9]])) == 1.0


@pytest.mark.parametrize("kind", kinds())
def test_the_index_holds_all_vectors_and_says_which_row_is_which(kind: str) -> None:
    vectors = clustered(800)
    built = build_chosen(vectors, kind=kind, recall=0.9, n_queries=50)
    assert built.n_queries == 50 and len(built.index) == 800
    assert np.array_equal(np.sort(built.order), np.arange(800))
    np.testing.assert_array_equal(built.index.vectors(np.arange(800)), unit(vectors)[built.order])
    (chosen,) = [one for one in built.measured if one.chosen]
    assert chosen.recall >= 0.9 and dict(chosen.effort) == dict(built.index.effort)
    assert 0 < chosen.p50_ms <= chosen.p99_ms


def test_queries_are_not_in_the_index_that_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """No query finds itself: every score that is measured stays below 1."""
    seen = []
    measure = choosing.measure

    def watching(index: VectorIndex, queries: np.ndarray, truth: np.ndarray, *rest: object) -> object:
        seen.append((index.search(queries, 1).scores.max(), truth.max(), index.n_rows))
        return measure(index, queries, truth, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(choosing, "measure", watching)
    built = build_chosen(clustered(500), kind="flat", n_queries=50)
    assert seen and all(found < 0.9999 and true < 0.9999 and n == 450 for found, true, n in seen)
    assert built.index.search(clustered(500)[:1], 1).scores[0, 0] > 0.9999


@pytest.mark.parametrize("kind", [name for name in kinds() if not index_kind(name).is_exact])
def test_the_least_effort_that_reaches_the_recall_is_chosen(kind: str) -> None:
    vectors, queries = unit(clustered(3000, dim=24)), unit(clustered(100, seed=0, dim=24) + 0.2)
    index = VectorIndex.build(vectors, kind)
    truth = VectorIndex.build(vectors).search(queries, 10).scores
    recalls = [
        recall_of(index.search(queries, 10, effort=effort).scores, truth)
        for effort in index.kind.efforts(index.settings)
    ]
    target = (min(recalls) + max(recalls)) / 2
    swept = sweep(index, queries, truth, target, 0.0)
    place = next(i for i, recall in enumerate(recalls) if recall >= target)
    chosen = next(i for i, one in enumerate(swept) if one.chosen)
    assert swept[chosen].recall == pytest.approx(recalls[place])
    assert [one.recall for one in swept] == pytest.approx(recalls[max(0, place - 1) : place + 2])


def test_auto_is_exact_while_that_is_quick_and_then_the_first_that_reaches_the_recall(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    vectors = clustered(1200)
    assert build_chosen(vectors).index.kind.name == "flat"
    assert build_chosen(vectors, exact_up_to=1000).index.kind.name == "hnsw"
    # Where nothing approximate reaches it, it is exact after all.
    real = choosing.sweep

    def strict(index: VectorIndex, queries: Any, truth: Any, target: float, build_s: float) -> Any:
        return real(index, queries, truth, target if index.kind.is_exact else 2.0, build_s)

    monkeypatch.setattr(choosing, "sweep", strict)
    said: list[str] = []
    assert build_chosen(vectors, exact_up_to=1000, say=said.append).index.kind.name == "flat"
    assert [line.split()[0] for line in said if "most thorough" in line] == ["hnsw", "ivf"]


def test_few_vectors_are_not_measured() -> None:
    built = build_chosen(clustered(5))
    assert (built.n_queries, built.measured, len(built.index)) == (0, (), 5)
    with pytest.raises(UsageError, match="at least one vector"):
        build_chosen(np.empty((0, 4)))
    with pytest.raises(UsageError, match="unknown index type 'lsh'"):
        build_chosen(clustered(20), kind="lsh")


def test_the_same_seed_holds_out_the_same_queries() -> None:
    vectors = clustered(300)
    a, b = build_chosen(vectors, seed=3), build_chosen(vectors, seed=3)
    np.testing.assert_array_equal(a.order, b.order)
    assert not np.array_equal(a.order, build_chosen(vectors, seed=4).order)
