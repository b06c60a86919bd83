"""An embedding map for the page: the places and marks that the report shows too. This is no stage."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deponij.pipeline.reports.embedding_map import Embedding, in_square
from deponij.pipeline.reports.palette import class_codes
from deponij.project.indexes import Index
from deponij.services.serve.schema import MapAnswer
from deponij.store.errors import UsageError

MAX_POINTS = 20_000
_SEED = 0
# Names in the API, and in the maps' tables.
_LAYOUTS = {"tsne": "t-SNE", "pca": "PCA"}


class NoMapError(UsageError):
    """There is no map of this index, or no such layout."""


@dataclass(frozen=True, slots=True)
class ServedMap:
    """The map of one index."""

    index: Index
    embedding: Embedding

    @property
    def fits(self) -> bool:
        """Whether it was laid out from the vectors of the index."""
        return self.embedding.fingerprint == self.index.identity.fingerprint

    @property
    def layouts(self) -> list[str]:
        """Names of the layouts, the one to show first."""
        return [name for name, known in _LAYOUTS.items() if known in self.embedding.layouts]

    def answer(self, name: str, layout: str | None, labels: Sequence[str | None]) -> MapAnswer:
        """Places of the items in the index.

        Args:
            labels: of the index's rows, in their order.

        Raises:
            NoMapError: there is no such layout.
        """
        chosen = layout or self.layouts[0]
        if chosen not in self.layouts:
            raise NoMapError(f"this map has no layout {chosen!r}; it has {', '.join(self.layouts)}")
        label_of = dict(zip(self.index.rows["item_id"].to_pylist(), labels, strict=True))
        ids, places = self._places(chosen, label_of)
        # Of all items, shown or not: a class has the same mark on every map.
        number = class_codes(labels)
        values = [label_of[item_id] for item_id in ids]
        return MapAnswer(
            backbone=name,
            layout=chosen,
            layouts=self.layouts,
            ids=ids,
            x=places[:, 0].round(4).tolist(),
            y=places[:, 1].round(4).tolist(),
            labels=[None if label is None else number[label] for label in values],
            classes=list(number),
            n_items=len(self.index),
            n_shown=len(ids),
        )

    def _places(self, layout: str, known: Mapping[str, str | None]) -> tuple[list[str], NDArray[np.float64]]:
        """Ids and places in 0..1 of at most `MAX_POINTS` items, y downwards."""
        places = in_square(self.embedding.layouts[_LAYOUTS[layout]])
        is_there = np.isfinite(places).all(axis=1) & np.array([str(i) in known for i in self.embedding.ids])
        rows = np.flatnonzero(is_there)
        if len(rows) > MAX_POINTS:
            rows = np.sort(np.random.default_rng(_SEED).choice(rows, MAX_POINTS, replace=False))
        return [str(self.embedding.ids[row]) for row in rows], places[rows]
