"""Exact search: every vector is compared with every query."""

from collections.abc import Sequence
from typing import Any

from deponij.pipeline.retrieval.kind import Effort, IndexKind, Settings, register


@register("flat")
class Flat(IndexKind):
    """`IndexFlatIP`: nothing is learned, nothing is missed."""

    is_exact = True
    fourcc = b"IxFI"

    def settings(self, n: int, d: int) -> Settings:
        return {}

    def factory(self, settings: Settings) -> str:
        return "Flat"

    def efforts(self, settings: Settings) -> Sequence[Effort]:
        return ({},)

    def parameters(self, index: Any, k: int, effort: Effort, selector: Any) -> Any:
        import faiss

        return None if selector is None else faiss.SearchParameters(sel=selector)

    def flat(self, index: Any) -> Any:
        return index
