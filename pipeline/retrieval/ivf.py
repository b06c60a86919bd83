"""Vectors sorted into lists around learned centres, of which a search visits a few: quick to build, exact within a list."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from deponij.pipeline.retrieval.kind import Effort, Found, IndexKind, Rows, Settings, Vectors, register

NPROBE, NLIST = "nprobe", "nlist"
# Vectors a centre that k-means is shown; FAISS itself draws no more than 256 and warns below 39.
_SHOWN, _LEAST = 64, 39
_ITERATIONS = 10


@register("ivf")
class Ivf(IndexKind):
    """`IndexIVFFlat` with about 4 sqrt(n) lists; the effort is how many of them are visited."""

    fourcc = b"IwFl"

    def settings(self, n: int, d: int) -> Settings:
        # Fewer where there are too few vectors to learn that many centres from.
        return {NLIST: int(max(1, min(4 * np.sqrt(n), n // _LEAST)))}

    def factory(self, settings: Settings) -> str:
        return f"IVF{settings[NLIST]},Flat"

    def train(self, index: Any, vectors: Vectors, settings: Settings, seed: int) -> None:
        """Learn centres (and codes) from a part of the vectors; on a GPU where FAISS sees one."""
        import faiss

        n_shown = min(len(vectors), max(_SHOWN * settings[NLIST], 65_536))
        shown = np.sort(np.random.default_rng(seed).choice(len(vectors), n_shown, replace=False))
        inner = faiss.downcast_index(faiss.extract_index_ivf(index))
        self.seed(inner, seed)
        if hasattr(faiss, "StandardGpuResources") and faiss.get_num_gpus():
            inner.clustering_index = faiss.index_cpu_to_all_gpus(faiss.IndexFlatIP(index.d))
        index.train(vectors[shown])

    def seed(self, inner: Any, seed: int) -> None:
        """How the lists are learned."""
        inner.cp.seed, inner.cp.niter = seed, _ITERATIONS

    def efforts(self, settings: Settings) -> Sequence[Effort]:
        return tuple({NPROBE: n} for n in n_probes(settings[NLIST]))

    def parameters(self, index: Any, k: int, effort: Effort, selector: Any) -> Any:
        import faiss

        inner = faiss.extract_index_ivf(index)
        return faiss.SearchParametersIVF(nprobe=min(effort[NPROBE], inner.nlist), sel=selector)

    def flat(self, index: Any) -> Any:
        return None

    def search_exactly(self, index: Any, queries: Vectors, k: int, selector: Any) -> Found:
        return self.search(index, queries, k, {NPROBE: index.nlist}, selector)

    def vectors(self, index: Any, rows: Rows) -> Vectors:
        # Where each row lies is not in the file; FAISS works it out once an opened index.
        if index.direct_map.no():
            index.make_direct_map()
        vectors: Vectors = index.reconstruct_batch(rows)
        return vectors


def n_probes(nlist: int) -> list[int]:
    """Powers of two up to the number of lists."""
    return [2**i for i in range(int(np.log2(nlist)) + 1) if 2**i < nlist] + [nlist]
