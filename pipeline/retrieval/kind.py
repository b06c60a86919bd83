"""The contract of an index type: how it is built and grown, and how it searches at a given effort.

All types hold unit vectors and rank by inner product, so that scores are cosines. FAISS numbers the vectors in the
order in which they were added: a *row*. Shape letters: n vectors, q queries, k neighbours, d width.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

Effort = Mapping[str, int]
Settings = Mapping[str, int]
Vectors = NDArray[np.float32]
Rows = NDArray[np.int64]
Found = tuple[Vectors, Rows]


class IndexKind(ABC):
    """One index type. Has no state of its own: everything is in the FAISS index.

    Attributes:
        name: in the registry; set by it.
        is_exact: finds the true neighbours whatever the effort.
        fourcc: with which FAISS begins the file.
    """

    name: ClassVar[str]
    is_exact: ClassVar[bool] = False
    fourcc: ClassVar[bytes]

    @abstractmethod
    def settings(self, n: int, d: int) -> Settings:
        """What is fixed when an index of about n vectors is built."""

    @abstractmethod
    def build(self, vectors: Vectors, settings: Settings, seed: int) -> Any:
        """A FAISS index that holds the vectors [n, d]."""

    @abstractmethod
    def efforts(self, settings: Settings) -> Sequence[Effort]:
        """What can be chosen when searching, from quick to thorough."""

    @abstractmethod
    def search(self, index: Any, queries: Vectors, k: int, effort: Effort, selector: Any) -> Found:
        """Scores and rows [q, k] at an effort, among the rows that a FAISS selector lets through (None: all).

        Rows are -1 where fewer than k were met.
        """

    @abstractmethod
    def search_exactly(self, index: Any, queries: Vectors, k: int, selector: Any) -> Found:
        """The same, without missing any."""

    @abstractmethod
    def vectors(self, index: Any, rows: Rows) -> Vectors:
        """The vectors of some rows, [m, d], as they were added."""

    def widened(self, effort: Effort, share: float) -> Effort:
        """The effort that meets about as many rows that count when only this share of all do."""
        factor = min(8.0, 1.0 / max(share, 1e-9))
        return {name: int(np.ceil(value * factor)) for name, value in effort.items()}


def flat_vectors(flat: Any, rows: Rows) -> Vectors:
    """Rows of a flat FAISS index, copied; the others are not touched."""
    import faiss

    everything = faiss.rev_swig_ptr(flat.get_xb(), flat.ntotal * flat.d).reshape(flat.ntotal, flat.d)
    found: Vectors = everything[rows]
    return found


def search_flat(flat: Any, queries: Vectors, k: int, selector: Any) -> Found:
    """Scan a flat FAISS index, or those of its rows that the selector lets through."""
    import faiss

    if selector is None:
        found: Found = flat.search(queries, k)
        return found
    found = flat.search(queries, k, params=faiss.SearchParameters(sel=selector))
    return found
