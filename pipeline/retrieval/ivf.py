"""Vectors sorted into lists around learned centres, of which a search visits a few: quick to build, exact within a list."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from deponij.pipeline.retrieval.kind import Effort, Found, IndexKind, Rows, Settings, Vectors
from deponij.pipeline.retrieval.registry import register

NPROBE, NLIST = "nprobe", "nlist"
# Vectors a centre that k-means is shown; FAISS itself draws no more than 256 and warns below 39.
_SHOWN, _LEAST = 64, 39
_ITERATIONS = 10


@register("ivf")
class Ivf(IndexKind):
    """`IndexIVFFlat` with about 4 sqrt(n) lists; the effort is how many of them are visited."""

    fourcc = b"IwFl"

    def settings(self, n: int, d: int) -> Settings:
        return {NLIST: n_lists(n)}

    def build(self, vectors: Vectors, settings: Settings, seed: int) -> Any:
        import faiss

        d = int(vectors.shape[1])
        index = faiss.IndexIVFFlat(faiss.IndexFlatIP(d), d, settings[NLIST], faiss.METRIC_INNER_PRODUCT)
        index.cp.seed, index.cp.niter = seed, _ITERATIONS
        train(index, vectors, settings[NLIST], seed)
        index.add(np.ascontiguousarray(vectors))
        return index

    def efforts(self, settings: Settings) -> Sequence[Effort]:
        return tuple({NPROBE: n} for n in n_probes(settings[NLIST]))

    def search(self, index: Any, queries: Vectors, k: int, effort: Effort, selector: Any) -> Found:
        import faiss

        found: Found = index.search(
            queries,
            k,
            params=faiss.SearchParametersIVF(nprobe=min(effort[NPROBE], index.nlist), sel=selector),
        )
        return found

    def search_exactly(self, index: Any, queries: Vectors, k: int, selector: Any) -> Found:
        return self.search(index, queries, k, {NPROBE: index.nlist}, selector)

    def vectors(self, index: Any, rows: Rows) -> Vectors:
        # Where each row lies is not in the file; FAISS works it out once an opened index.
        if index.direct_map.no():
            index.make_direct_map()
        return (
            np.stack([index.reconstruct(int(row)) for row in rows])
            if len(rows)
            else np.empty((0, index.d), np.float32)
        )


def n_lists(n: int) -> int:
    """About 4 sqrt(n), fewer where there are too few vectors to learn that many centres from."""
    return int(max(1, min(4 * np.sqrt(n), n // _LEAST)))


def n_probes(nlist: int) -> list[int]:
    """Powers of two up to the number of lists."""
    return [2**i for i in range(int(np.log2(nlist)) + 1) if 2**i < nlist] + [nlist]


def train(index: Any, vectors: Vectors, nlist: int, seed: int) -> None:
    """Learn centres (and codes) from a part of the vectors; on a GPU where FAISS sees one."""
    import faiss

    n_shown = min(len(vectors), max(_SHOWN * nlist, 65_536))
    shown = np.sort(np.random.default_rng(seed).choice(len(vectors), n_shown, replace=False))
    inner = faiss.extract_index_ivf(index)
    if n_gpus():
        inner.clustering_index = faiss.index_cpu_to_all_gpus(faiss.IndexFlatIP(index.d))
    index.train(np.ascontiguousarray(vectors[shown]))


def n_gpus() -> int:
    """GPUs that FAISS can use; none with its CPU build."""
    import faiss

    return int(faiss.get_num_gpus()) if hasattr(faiss, "StandardGpuResources") else 0
