"""Lists of compressed vectors, whose best candidates are ranked again by the vectors themselves.

Jégou, Douze and Schmid, "Product quantization for nearest neighbor search" (2011). The compressed part is what a
search touches; the vectors behind it are mapped from the file and only the candidates' are read.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from deponij.pipeline.retrieval.ivf import NLIST, NPROBE, Ivf, n_probes
from deponij.pipeline.retrieval.kind import Effort, IndexKind, Settings, register

K_FACTOR, PARTS, BITS = "k_factor", "parts", "bits"
_WIDTH = 4


@register("ivfpq")
class IvfPq(Ivf):
    """`IndexRefineFlat` over `IndexIVFPQ`; the effort is lists visited and candidates ranked again, times k."""

    fourcc = b"IxRF"
    search_exactly = IndexKind.search_exactly
    vectors = IndexKind.vectors

    def settings(self, n: int, d: int) -> Settings:
        parts = next(p for p in range(max(1, d // _WIDTH), 0, -1) if d % p == 0)
        # A codebook of 2^bits entries wants some dozens of examples of each.
        bits = int(np.clip(np.log2(max(2, n / 39)), 1, 8))
        return {**super().settings(n, d), PARTS: parts, BITS: bits}

    def factory(self, settings: Settings) -> str:
        return f"IVF{settings[NLIST]},PQ{settings[PARTS]}x{settings[BITS]},RFlat"

    def seed(self, inner: Any, seed: int) -> None:
        inner.cp.seed, inner.pq.cp.seed = seed, seed

    def efforts(self, settings: Settings) -> Sequence[Effort]:
        return tuple({NPROBE: n, K_FACTOR: k} for n in n_probes(settings[NLIST]) for k in (8, 32))

    def parameters(self, index: Any, k: int, effort: Effort, selector: Any) -> Any:
        import faiss

        # No more candidates than there are: FAISS would make room for all that it is asked for.
        factor = min(float(effort[K_FACTOR]), max(1.0, index.ntotal / k))
        inner = super().parameters(index, k, effort, selector)
        return faiss.IndexRefineSearchParameters(k_factor=factor, base_index_params=inner)

    def flat(self, index: Any) -> Any:
        import faiss

        return faiss.downcast_index(index.refine_index)

    def widened(self, effort: Effort, share: float) -> Effort:
        # Candidates are counted after the filter; only the lists to visit grow.
        return {**super().widened(effort, share), K_FACTOR: effort[K_FACTOR]}
