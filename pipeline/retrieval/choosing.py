"""Which index: exact while that is quick, beyond it the first type that reaches a recall on queries it has never seen.

Queries are drawn from the vectors and held out: the index is built without them, measured with them, and only then
are they added. Shape letters: n vectors, q queries, k neighbours, d width.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deponij.pipeline.retrieval.kind import Effort, Rows, Settings, Vectors, index_kind
from deponij.pipeline.retrieval.vector_index import VectorIndex
from deponij.pipeline.unit_vectors import unit
from deponij.store.errors import DataError, UsageError
from deponij.store.texts import in_percent

AUTO = "auto"
K = 10
# Scores of one pair differ in their last bits with the order of summing.
_TOLERANCE = 1e-5
_TIMED = 200
_HELD_OUT_SHARE = 0.1
# A graph is the quickest, but is held beside the vectors and takes an hour for some millions of them.
_HNSW_ROWS = 2_000_000
_IVF_ROWS = 5_000_000

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Measured:
    """One type at one effort, by held-out queries one at a time.

    Attributes:
        recall: share of the true k nearest (or as near ones) that are found, mean over the queries.
        p50_ms, p99_ms: of one search.
        build_s: of the index.
        chosen: this is the one.
    """

    kind: str
    settings: Settings
    effort: Effort
    recall: float
    p50_ms: float
    p99_ms: float
    build_s: float
    chosen: bool = False

    def facts(self) -> dict[str, Any]:
        """What the vectors decide: equal vectors give equal facts, wherever they are measured."""
        return {
            "kind": self.kind,
            "settings": dict(self.settings),
            "effort": dict(self.effort),
            "recall_at_10": round(self.recall, 6),
            "chosen": self.chosen,
        }

    def to_json(self) -> dict[str, Any]:
        """With the times of this machine."""
        times = {"p50_ms": self.p50_ms, "p99_ms": self.p99_ms, "build_s": self.build_s}
        return {**self.facts(), **{name: round(value, 4) for name, value in times.items()}}


@dataclass(frozen=True, slots=True)
class Built:
    """An index of all vectors.

    Attributes:
        index: whose row i holds vector `order[i]`.
        order: [n].
        measured: the chosen setting and its neighbours.
        n_queries: held out for it; 0: too few vectors.
    """

    index: VectorIndex
    order: Rows
    measured: tuple[Measured, ...]
    n_queries: int


def build_chosen(
    vectors: NDArray[np.floating],
    *,
    kind: str = AUTO,
    recall: float = 0.95,
    exact_up_to: int = 100_000,
    n_queries: int = 1000,
    seed: int = 0,
    say: Say = lambda _: None,
) -> Built:
    """Build the index that answers with this recall@10 at the least cost.

    Args:
        vectors: [n, d], of any length.
        kind: a type, or `auto`.
        exact_up_to: `auto` is exact up to this many.
        n_queries: held out to measure by; at most a tenth of the vectors.

    Raises:
        UsageError: no vectors, or no such type.
        DataError: values that are not finite, or the type that was asked for does not reach the recall.
    """
    units = unit(vectors)
    if not len(units):
        raise UsageError("an index needs at least one vector")
    candidates = _candidates(kind, len(units), exact_up_to)
    order, n_held = _held_out(len(units), n_queries, seed)
    kept, queries = units[order[: len(units) - n_held]], units[order[len(units) - n_held :]]
    truth = _true_scores(kept, queries)
    tried: list[Measured] = []
    for name in candidates:
        say(f"building {name} over {len(kept):,} vectors")
        begin = time.perf_counter()
        index = VectorIndex.build(kept, name, seed=seed)
        swept = sweep(index, queries, truth, recall, time.perf_counter() - begin)
        tried += swept
        chosen = next((one for one in swept if one.chosen), None)
        if not n_held or chosen is not None:
            if chosen is not None:
                index.effort = dict(chosen.effort)
                index.add(queries)
            return Built(index, order, tuple(swept), n_held)
        say(
            f"{name} reaches a recall@{K} of {in_percent(max(one.recall for one in swept))} at its most thorough"
        )
    best = max(tried, key=lambda one: one.recall)
    raise DataError(
        f"{best.kind} reaches a recall@{K} of {in_percent(best.recall)} at its most thorough, not {in_percent(recall)}; "
        "ask for less (--recall) or for another type (--kind flat is exact)"
    )


def _candidates(kind: str, n: int, exact_up_to: int) -> tuple[str, ...]:
    if kind != AUTO:
        return (index_kind(kind).name,)
    if n <= exact_up_to:
        return ("flat",)
    if n <= _HNSW_ROWS:
        return ("hnsw", "ivf", "flat")
    return ("ivf", "flat") if n <= _IVF_ROWS else ("ivfpq", "ivf", "flat")


def _held_out(n: int, n_queries: int, seed: int) -> tuple[Rows, int]:
    """An order of all rows with the held-out ones last, and how many these are."""
    n_held = min(n_queries, int(n * _HELD_OUT_SHARE))
    held = np.sort(np.random.default_rng(seed).choice(n, n_held, replace=False)).astype(np.int64)
    return np.concatenate([np.setdiff1d(np.arange(n), held), held]), n_held


def _true_scores(units: Vectors, queries: Vectors) -> Vectors:
    """The k highest cosines of each query, [q, k], highest first."""
    if not len(queries):
        return np.empty((0, 0), np.float32)
    return VectorIndex.build(units).search(queries, K).scores


def recall_of(scores: Vectors, truth: Vectors) -> float:
    """Recall@k by score, so that of several equally near vectors any will do.

    Args:
        scores: found, [q, k].
        truth: the true k highest, [q, k], highest first.
    """
    if not truth.size:
        return 1.0
    hits = (scores >= truth[:, -1:] - _TOLERANCE).sum(axis=1).clip(max=truth.shape[1])
    return float((hits / truth.shape[1]).mean())


def sweep(
    index: VectorIndex, queries: Vectors, truth: Vectors, target: float, build_s: float
) -> tuple[Measured, ...]:
    """Raise the effort until the recall is reached; that setting, the one below and the one above.

    Where it is never reached: all settings, none of them chosen.
    """
    efforts = index.kind.efforts(index.settings)
    if not len(queries):
        return ()
    measured: list[Measured] = []
    for place, effort in enumerate(efforts):
        measured.append(measure(index, queries, truth, effort, build_s))
        if measured[-1].recall >= target:
            above = [measure(index, queries, truth, e, build_s) for e in efforts[place + 1 : place + 2]]
            return (*measured[-2:-1], replace(measured[-1], chosen=True), *above)
    return tuple(measured)


def measure(
    index: VectorIndex, queries: Vectors, truth: Vectors, effort: Effort, build_s: float = 0.0
) -> Measured:
    """Recall over all queries and the time of single ones."""
    recall = recall_of(index.search(queries, K, effort=effort).scores, truth)
    return Measured(
        index.kind.name, index.settings, effort, recall, *latency(index, queries, effort), build_s
    )


def latency(index: VectorIndex, queries: Vectors, effort: Effort | None = None) -> tuple[float, float]:
    """Median and 99th percentile in ms of searching by one of the first 200 queries [q, d] at a time."""
    times_ms = []
    for query in queries[:_TIMED]:
        begin = time.perf_counter()
        index.search(query[None], K, effort=effort)
        times_ms.append(1000 * (time.perf_counter() - begin))
    p50, p99 = np.percentile(times_ms, [50, 99])
    return float(p50), float(p99)
