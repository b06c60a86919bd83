"""A graph of near neighbours: quick at high recall, slow to build, as large as the vectors and more.

Malkov and Yashunin, "Efficient and robust approximate nearest neighbor search using Hierarchical Navigable Small
World graphs" (2016). The links depend on the order in which threads meet, so two builds of the same vectors give
equal files with one thread only.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from deponij.pipeline.retrieval.kind import (
    Effort,
    Found,
    IndexKind,
    Rows,
    Settings,
    Vectors,
    flat_vectors,
    search_flat,
)
from deponij.pipeline.retrieval.registry import register

LINKS = 16
CONSTRUCTION = 80
EF = "efSearch"


@register("hnsw")
class Hnsw(IndexKind):
    """`IndexHNSWFlat`; the effort is the number of candidates that are kept while walking the graph."""

    fourcc = b"IHNf"

    def settings(self, n: int, d: int) -> Settings:
        return {"M": LINKS, "efConstruction": CONSTRUCTION}

    def build(self, vectors: Vectors, settings: Settings, seed: int) -> Any:
        import faiss

        index = faiss.IndexHNSWFlat(int(vectors.shape[1]), settings["M"], faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = settings["efConstruction"]
        index.hnsw.rng = faiss.RandomGenerator(seed)
        index.add(np.ascontiguousarray(vectors))
        return index

    def efforts(self, settings: Settings) -> Sequence[Effort]:
        return tuple({EF: ef} for ef in (16, 32, 64, 128, 256, 512, 1024))

    def search(self, index: Any, queries: Vectors, k: int, effort: Effort, selector: Any) -> Found:
        import faiss

        chosen = faiss.SearchParametersHNSW(efSearch=max(effort[EF], k), sel=selector)
        found: Found = index.search(queries, k, params=chosen)
        return found

    def search_exactly(self, index: Any, queries: Vectors, k: int, selector: Any) -> Found:
        return search_flat(_storage(index), queries, k, selector)

    def vectors(self, index: Any, rows: Rows) -> Vectors:
        return flat_vectors(_storage(index), rows)


def _storage(index: Any) -> Any:
    import faiss

    return faiss.downcast_index(index.storage)
