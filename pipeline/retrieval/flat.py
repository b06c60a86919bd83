"""Exact search: every vector is compared with every query."""

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


@register("flat")
class Flat(IndexKind):
    """`IndexFlatIP`: nothing is learned, nothing is missed."""

    is_exact = True
    fourcc = b"IxFI"

    def settings(self, n: int, d: int) -> Settings:
        return {}

    def build(self, vectors: Vectors, settings: Settings, seed: int) -> Any:
        import faiss

        index = faiss.IndexFlatIP(int(vectors.shape[1]))
        index.add(np.ascontiguousarray(vectors))
        return index

    def efforts(self, settings: Settings) -> Sequence[Effort]:
        return ({},)

    def search(self, index: Any, queries: Vectors, k: int, effort: Effort, selector: Any) -> Found:
        return search_flat(index, queries, k, selector)

    def search_exactly(self, index: Any, queries: Vectors, k: int, selector: Any) -> Found:
        return search_flat(index, queries, k, selector)

    def vectors(self, index: Any, rows: Rows) -> Vectors:
        return flat_vectors(index, rows)
