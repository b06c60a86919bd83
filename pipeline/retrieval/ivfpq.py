"""Lists of compressed vectors, whose best candidates are ranked again by the vectors themselves.

Jégou, Douze and Schmid, "Product quantization for nearest neighbor search" (2011). The compressed part is what a
search touches; the vectors behind it are mapped from the file and only the candidates' are read.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from deponij.pipeline.retrieval.ivf import NLIST, NPROBE, n_lists, n_probes, train
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

K_FACTOR, PARTS, BITS = "k_factor", "parts", "bits"
_WIDTH = 4


@register("ivfpq")
class IvfPq(IndexKind):
    """`IndexRefineFlat` over `IndexIVFPQ`; the effort is lists visited and candidates ranked again, times k."""

    fourcc = b"IxRF"

    def settings(self, n: int, d: int) -> Settings:
        parts = next(p for p in range(max(1, d // _WIDTH), 0, -1) if d % p == 0)
        # A codebook of 2^bits entries wants some dozens of examples of each.
        bits = int(np.clip(np.log2(max(2, n / 39)), 1, 8))
        return {NLIST: n_lists(n), PARTS: parts, BITS: bits}

    def build(self, vectors: Vectors, settings: Settings, seed: int) -> Any:
        import faiss

        d = int(vectors.shape[1])
        base = faiss.IndexIVFPQ(
            faiss.IndexFlatIP(d),
            d,
            settings[NLIST],
            settings[PARTS],
            settings[BITS],
            faiss.METRIC_INNER_PRODUCT,
        )
        base.cp.seed, base.pq.cp.seed = seed, seed
        train(base, vectors, settings[NLIST], seed)
        index = faiss.IndexRefineFlat(base)
        index.add(np.ascontiguousarray(vectors))
        return index

    def efforts(self, settings: Settings) -> Sequence[Effort]:
        return tuple({NPROBE: n, K_FACTOR: k} for n in n_probes(settings[NLIST]) for k in (8, 32))

    def search(self, index: Any, queries: Vectors, k: int, effort: Effort, selector: Any) -> Found:
        import faiss

        base = _base(index)
        inner = faiss.SearchParametersIVF(nprobe=min(effort[NPROBE], base.nlist), sel=selector)
        # No more candidates than there are: FAISS would make room for all that it is asked for.
        factor = min(float(effort[K_FACTOR]), max(1.0, index.ntotal / k))
        chosen = faiss.IndexRefineSearchParameters(k_factor=factor, base_index_params=inner)
        found: Found = index.search(queries, k, params=chosen)
        return found

    def search_exactly(self, index: Any, queries: Vectors, k: int, selector: Any) -> Found:
        return search_flat(_refine(index), queries, k, selector)

    def vectors(self, index: Any, rows: Rows) -> Vectors:
        return flat_vectors(_refine(index), rows)

    def widened(self, effort: Effort, share: float) -> Effort:
        # Candidates are counted after the filter; only the lists to visit grow.
        return {**super().widened(effort, share), K_FACTOR: effort[K_FACTOR]}


def _base(index: Any) -> Any:
    import faiss

    return faiss.downcast_index(index.base_index)


def _refine(index: Any) -> Any:
    import faiss

    return faiss.downcast_index(index.refine_index)
