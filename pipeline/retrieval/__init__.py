"""Search over vectors: index types, their choice by measured recall, filters, folding. Arrays in, arrays out.

    from pipeline.retrieval import VectorIndex
    index = VectorIndex.build(vectors)
    scores, rows = index.search(queries, 10)

What an index looks like on disk is defined in `store.index_folder`; views, items and names of backbones are the
business of `stages`.
"""

from pipeline.retrieval.vector_index import Neighbours, VectorIndex

__all__ = ["Neighbours", "VectorIndex"]
