"""Search over vectors: index types, their choice by measured recall, filters, folding. Arrays in, arrays out.

    from deponij.pipeline.retrieval import VectorIndex
    index = VectorIndex.build(vectors)
    scores, rows = index.search(queries, 10)

What an index looks like on disk is defined in `deponij.store.index_folder`; views, items and names of backbones are the
business of `stages`.
"""

from deponij.pipeline.retrieval.vector_index import Neighbours, VectorIndex

__all__ = ["Neighbours", "VectorIndex"]
