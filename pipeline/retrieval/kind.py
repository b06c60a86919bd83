"""The contract of an index type: what FAISS calls it, and how it searches at a given effort; and which there are.

All types hold unit vectors and rank by inner product, so that scores are cosines. FAISS numbers the vectors in the
order in which they were added: a *row*. Shape letters: n vectors, q queries, k neighbours, d width.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from deponij.pipeline.registry import Registry

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
    def factory(self, settings: Settings) -> str:
        """The type as FAISS's `index_factory` names it."""

    @abstractmethod
    def efforts(self, settings: Settings) -> Sequence[Effort]:
        """What can be chosen when searching, from quick to thorough."""

    @abstractmethod
    def parameters(self, index: Any, k: int, effort: Effort, selector: Any) -> Any:
        """FAISS's parameters of one search (`ParameterSpace` would set them for all threads at once)."""

    @abstractmethod
    def flat(self, index: Any) -> Any:
        """The flat FAISS index of the vectors as they were added; None where there is none."""

    def train(self, index: Any, vectors: Vectors, settings: Settings, seed: int) -> None:  # noqa: B027
        """What comes between making an index and adding to it; by default nothing."""

    def build(self, vectors: Vectors, settings: Settings, seed: int) -> Any:
        """A FAISS index that holds the vectors [n, d]."""
        import faiss

        held = np.ascontiguousarray(vectors)
        index = faiss.index_factory(held.shape[1], self.factory(settings), faiss.METRIC_INNER_PRODUCT)
        self.train(index, held, settings, seed)
        index.add(held)
        return index

    def search(self, index: Any, queries: Vectors, k: int, effort: Effort, selector: Any) -> Found:
        """Scores and rows [q, k] at an effort, among the rows that a FAISS selector lets through (None: all).

        Rows are -1 where fewer than k were met.
        """
        nearest: Found = index.search(queries, k, params=self.parameters(index, k, effort, selector))
        return nearest

    def search_exactly(self, index: Any, queries: Vectors, k: int, selector: Any) -> Found:
        """The same, without missing any."""
        import faiss

        chosen = None if selector is None else faiss.SearchParameters(sel=selector)
        nearest: Found = self.flat(index).search(queries, k, params=chosen)
        return nearest

    def vectors(self, index: Any, rows: Rows) -> Vectors:
        """The vectors of some rows, [m, d], as they were added; the others are not touched."""
        import faiss

        flat = self.flat(index)
        vectors: Vectors = faiss.rev_swig_ptr(flat.get_xb(), flat.ntotal * flat.d).reshape(-1, flat.d)[rows]
        return vectors

    def widened(self, effort: Effort, share: float) -> Effort:
        """The effort that meets about as many rows that count when only this share of all do."""
        factor = min(8.0, 1.0 / max(share, 1e-9))
        return {name: int(np.ceil(value * factor)) for name, value in effort.items()}


_TYPES: Registry[type[IndexKind]] = Registry(
    "index type", attribute="name", room="deponij.pipeline.retrieval"
)
register = _TYPES.register


def kinds() -> list[str]:
    """All names, sorted."""
    return list(_TYPES.entries())


def index_kind(name: str) -> IndexKind:
    """The type of a name.

    Raises:
        UsageError: there is none; the message lists those there are and the nearest.
    """
    return _TYPES[name]()
