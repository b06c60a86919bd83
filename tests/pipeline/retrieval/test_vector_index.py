"""Search against brute force in NumPy: all types where they are exact, every selectivity, add, delete, reopen."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deponij.pipeline.retrieval.kind import index_kind, kinds, register
from deponij.pipeline.retrieval.vector_index import VectorIndex
from deponij.pipeline.unit_vectors import blend, unit
from deponij.store.errors import DataError, IdentityError, StoreError, UsageError

DIM = 16
N = 600
# Sums in float32 against sums in float64.
CLOSE = 2e-6


def clustered(n: int, seed: int, dim: int = DIM) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(20, dim))
    return (centres[rng.integers(20, size=n)] + 0.4 * rng.normal(size=(n, dim))).astype(np.float32) * 3


def brute(vectors: np.ndarray, query: np.ndarray, k: int, mask: np.ndarray | None = None) -> np.ndarray:
    """The k highest cosines by NumPy, highest first."""
    rows = vectors.astype(np.float64)
    cosines = rows @ query.astype(np.float64) / np.linalg.norm(rows, axis=1) / np.linalg.norm(query)
    return np.sort(cosines if mask is None else cosines[mask])[::-1][:k]


def check(
    index: VectorIndex, vectors: np.ndarray, queries: np.ndarray, k: int, mask: np.ndarray | None = None
) -> None:
    found = index.search(queries, k, among=mask)
    for query, scores, rows in zip(queries, found.scores, found.rows, strict=True):
        expected = brute(vectors, query, k, mask)
        np.testing.assert_allclose(scores, expected, atol=CLOSE)
        # The rows are those whose cosines were given, each once, and all of them count.
        own = vectors[rows].astype(np.float64)
        own = own @ query.astype(np.float64) / np.linalg.norm(own, axis=1) / np.linalg.norm(query)
        np.testing.assert_allclose(own, scores, atol=CLOSE)
        assert len(set(rows.tolist())) == len(rows)
        assert mask is None or mask[rows].all()


@pytest.fixture(scope="module", params=kinds())
def index(request: pytest.FixtureRequest) -> VectorIndex:
    return VectorIndex.build(clustered(N, seed=0), request.param)


def test_exact_types_equal_brute_force() -> None:
    vectors, queries = clustered(N, seed=0), clustered(25, seed=1)
    exact = [name for name in kinds() if index_kind(name).is_exact]
    assert "flat" in exact
    for name in exact:
        for k in (1, 10, N, N + 5):
            check(VectorIndex.build(vectors, name), vectors, queries, k)


@pytest.mark.parametrize("n_left", [1, 2, 5, 9, 30, 150, 300, 540, N])
def test_filtered_queries_equal_brute_force_at_every_selectivity(index: VectorIndex, n_left: int) -> None:
    """Small as they are, all types scan what the filter lets through, so that all are exact."""
    mask = np.zeros(N, bool)
    mask[np.random.default_rng(n_left).choice(N, n_left, replace=False)] = True
    check(index, clustered(N, seed=0), clustered(4, seed=2), 10, mask)
    nothing = index.search(clustered(2, seed=2), 10, among=np.zeros(N, bool))
    assert nothing.rows.shape == (2, 0)


@pytest.mark.parametrize("kind", [name for name in kinds() if not index_kind(name).is_exact])
@pytest.mark.parametrize("share", [0.9, 0.3, 0.01])
def test_approximate_types_fill_k_under_a_filter_that_they_walk_with(
    kind: str, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With scanning switched off: k results come back, all of which count, most of them the true ones."""
    monkeypatch.setattr("deponij.pipeline.retrieval.vector_index.SCANNED_ROWS", 0)
    monkeypatch.setattr("deponij.pipeline.retrieval.vector_index.SCANNED_SHARE", 0.0)
    vectors, queries = clustered(3000, seed=0), clustered(20, seed=3)
    index = VectorIndex.build(vectors, kind)
    mask = np.random.default_rng(5).random(3000) < share
    found = index.search(queries, 10, among=mask)
    assert found.rows.shape == (20, 10)
    assert (found.rows >= 0).all() and mask[found.rows].all()
    hits = [
        (scores >= brute(vectors, query, 10, mask)[-1] - CLOSE).mean()
        for query, scores in zip(queries, found.scores, strict=True)
    ]
    assert np.mean(hits) > 0.9


def test_every_type_finds_all_when_all_are_wanted(index: VectorIndex) -> None:
    found = index.search(clustered(3, seed=1), N)
    assert found.rows.shape == (3, N)
    assert (np.sort(found.rows, axis=1) == np.arange(N)).all()
    assert (np.diff(found.scores, axis=1) <= 0).all()


def test_vectors_come_back_as_they_were_put_in(index: VectorIndex) -> None:
    rows = np.array([5, 0, N - 1, 5])
    np.testing.assert_array_equal(index.vectors(rows), unit(clustered(N, seed=0))[rows])
    assert index.vectors(np.empty(0, np.int64)).shape == (0, DIM)


def test_saved_and_mapped_it_answers_the_same_and_plain_faiss_reads_it(
    index: VectorIndex, tmp_path: Path
) -> None:
    import faiss

    path = tmp_path / "x.faiss"
    index.save(path)
    mapped = VectorIndex.open(path, index.kind.name, index.settings, index.effort)
    queries = clustered(10, seed=1)
    for among in (None, np.arange(N) % 7 == 0):
        ours, theirs = index.search(queries, 10, among=among), mapped.search(queries, 10, among=among)
        np.testing.assert_array_equal(ours.rows, theirs.rows)
        np.testing.assert_array_equal(ours.scores, theirs.scores)
    np.testing.assert_array_equal(mapped.vectors(np.arange(9)), index.vectors(np.arange(9)))
    plain = faiss.read_index(str(path))
    assert (plain.ntotal, plain.d, plain.metric_type) == (N, DIM, faiss.METRIC_INNER_PRODUCT)
    with pytest.raises(UsageError, match="mapped from its file"):
        mapped.add(queries)
    loaded = VectorIndex.load(path, index.kind.name, index.settings)
    assert loaded.add(queries).tolist() == list(range(N, N + 10))
    assert len(loaded) == N + 10 and len(mapped) == N


Step = tuple[str, int]
steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(1, 30)),
        st.tuples(st.just("delete"), st.integers(1, 40)),
        st.tuples(st.just("reopen"), st.integers(0, 0)),
    ),
    max_size=6,
)


@pytest.mark.parametrize("kind", kinds())
@settings(max_examples=12)
@given(steps=steps, seed=st.integers(0, 1000), share=st.sampled_from([None, 0.0, 0.02, 0.5, 1.0]))
def test_after_any_history_it_answers_like_brute_force_over_what_is_left(
    kind: str, steps: list[Step], seed: int, share: float | None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Scanning is on for these few rows; unfiltered approximate searches are made exact by asking for all."""
    rng = np.random.default_rng(seed)
    vectors = clustered(120, seed)
    index, live = VectorIndex.build(vectors, kind), np.ones(120, bool)
    for step, size in steps:
        if step == "add":
            fresh = clustered(size, seed + len(vectors))
            assert index.add(fresh).tolist() == list(range(len(vectors), len(vectors) + size))
            vectors, live = np.concatenate([vectors, fresh]), np.concatenate([live, np.ones(size, bool)])
        elif step == "delete":
            gone = rng.choice(len(vectors), min(size, len(vectors)), replace=False)
            index.delete(gone)
            live[gone] = False
        else:
            path = tmp_path_factory.mktemp("index") / "x.faiss"
            index.save(path)
            index = VectorIndex.load(path, kind, index.settings, index.effort)
            # Which rows are deleted is remembered by the caller.
            index.delete(np.flatnonzero(~live))
    assert len(index) == live.sum()
    mask = None if share is None else rng.random(len(vectors)) < share
    counting = live if mask is None else live & mask
    queries = clustered(3, seed + 7)
    found = index.search(queries, len(vectors) if mask is None else 7, among=mask)
    for query, scores, rows in zip(queries, found.scores, found.rows, strict=True):
        expected = brute(vectors, query, found.rows.shape[1], counting)
        assert found.rows.shape[1] == min(len(vectors) if mask is None else 7, counting.sum())
        np.testing.assert_allclose(scores, expected, atol=CLOSE)
        assert counting[rows].all()


def test_equal_vectors_are_ranked_by_row() -> None:
    vectors = np.repeat(clustered(3, seed=0), 4, axis=0)
    found = VectorIndex.build(vectors).search(vectors[:1], 4)
    assert found.rows.tolist() == [[0, 1, 2, 3]]
    assert found.scores.max() <= 1


def test_refusals() -> None:
    index = VectorIndex.build(clustered(50, seed=0))
    queries = clustered(2, seed=1)
    with pytest.raises(IdentityError, match="width 16, got 4"):
        index.search(queries[:, :4], 3)
    with pytest.raises(IdentityError):
        index.add(queries[:, :4])
    with pytest.raises(UsageError, match="at least 1"):
        index.search(queries, 0)
    with pytest.raises(UsageError, match="a mask must have one value for each of 50 rows"):
        index.search(queries, 3, among=np.ones(49, bool))
    with pytest.raises(UsageError, match="rows go from 0 to 49"):
        index.delete(np.array([50]))
    with pytest.raises(UsageError, match="rows go from 0 to 49"):
        index.vectors(np.array([-1]))
    with pytest.raises(DataError, match="NaN or infinite values, first in row 1"):
        index.search(np.array([[1.0] * DIM, [np.nan] * DIM]), 3)
    with pytest.raises(DataError, match=r"\[n, d\]"):
        index.search(queries[0], 3)
    with pytest.raises(UsageError, match="at least one vector"):
        VectorIndex.build(np.empty((0, DIM)))
    with pytest.raises(
        UsageError, match=r"unknown index type 'flatt'. Did you mean 'flat'\? Known: flat, hnsw, ivf, ivfpq"
    ):
        VectorIndex.build(queries, "flatt")
    with pytest.raises(ValueError, match=r"taken by deponij\.pipeline"):
        register("flat")(type(index_kind("hnsw")))


def test_what_is_no_index_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.faiss"
    with pytest.raises(StoreError, match="cannot read"):
        VectorIndex.open(path, "flat", {})
    VectorIndex.build(clustered(50, seed=0)).save(path)
    with pytest.raises(StoreError, match="no FAISS index of type hnsw"):
        VectorIndex.open(path, "hnsw", {"M": 4})
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(StoreError, match="damaged"):
        VectorIndex.open(path, "flat", {})


def test_extreme_lengths_keep_their_direction() -> None:
    vectors = np.array([[3e30, 4e30], [3e-30, 4e-30], [0, 0]], np.float32)
    np.testing.assert_allclose(unit(vectors), [[0.6, 0.8], [0.6, 0.8], [0, 0]], rtol=1e-6)


def test_normalising_twice_changes_nothing() -> None:
    once = unit(clustered(500, seed=0))
    np.testing.assert_array_equal(unit(once), once)
    np.testing.assert_allclose(np.linalg.norm(once.astype(np.float64), axis=1), 1, atol=2e-7)


def test_blend_is_the_direction_of_the_weighted_sum_of_unit_vectors() -> None:
    # (1, 0) + 2 (0, 1) = (1, 2), of length sqrt(5); the length of what is given has no say.
    found = blend(np.array([[7.0, 0.0], [0.0, 0.1]]), [1.0, 2.0])
    np.testing.assert_allclose(found, np.array([1, 2]) / np.sqrt(5), rtol=1e-6)
    np.testing.assert_allclose(
        blend(np.array([[1.0, 0.0], [0.0, 1.0]]), [1, -1]), [0.5**0.5, -(0.5**0.5)], rtol=1e-6
    )
    with pytest.raises(UsageError, match="cancel"):
        blend(np.array([[1.0, 0.0], [2.0, 0.0]]), [1, -1])
    with pytest.raises(UsageError, match="weight 0"):
        blend(np.array([[1.0, 0.0]]), [0.0])
    with pytest.raises(UsageError, match="all zeros"):
        blend(np.array([[1.0, 0.0], [0.0, 0.0]]), [1, 1])
