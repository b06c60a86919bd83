"""A graph of near neighbours: quick at high recall, slow to build, as large as the vectors and more.

Malkov and Yashunin, "Efficient and robust approximate nearest neighbor search using Hierarchical Navigable Small
World graphs" (2016). The links depend on the order in which threads meet, so two builds of the same vectors give
equal files with one thread only.
"""

from collections.abc import Sequence
from typing import Any

from deponij.pipeline.retrieval.kind import Effort, IndexKind, Settings, Vectors, register

LINKS = 16
CONSTRUCTION = 80
EF = "efSearch"


@register("hnsw")
class Hnsw(IndexKind):
    """`IndexHNSWFlat`; the effort is the number of candidates that are kept while walking the graph."""

    fourcc = b"IHNf"

    def settings(self, n: int, d: int) -> Settings:
        return {"M": LINKS, "efConstruction": CONSTRUCTION}

    def factory(self, settings: Settings) -> str:
        return f"HNSW{settings['M']}"

    def train(self, index: Any, vectors: Vectors, settings: Settings, seed: int) -> None:
        import faiss

        index.hnsw.efConstruction = settings["efConstruction"]
        index.hnsw.rng = faiss.RandomGenerator(seed)

    def efforts(self, settings: Settings) -> Sequence[Effort]:
        return tuple({EF: ef} for ef in (16, 32, 64, 128, 256, 512, 1024))

    def parameters(self, index: Any, k: int, effort: Effort, selector: Any) -> Any:
        import faiss

        return faiss.SearchParametersHNSW(efSearch=max(effort[EF], k), sel=selector)

    def flat(self, index: Any) -> Any:
        import faiss

        return faiss.downcast_index(index.storage)
