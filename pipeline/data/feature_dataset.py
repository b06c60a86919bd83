"""Stored features as a torch data set, for any training script: a sample an item, read by id, a batch in one go.

Where features lie and how they are read is the reader's business (`deponij.store.reading`); this module needs torch.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from deponij.store.errors import DataError

Features = torch.Tensor | dict[str, torch.Tensor]


class Reader(Protocol):
    """Reads features; may be sent to worker processes, each of which opens its own files."""

    def read(self, ids: Sequence[str], /) -> NDArray[Any] | dict[str, NDArray[Any]]:
        """Of these items, in this order: [m, …], or name -> [m, …]."""


class FeatureDataset(Dataset[Any]):
    """Features of items, and their targets where there are any.

    A sample is the item's features in the stored dtype, a tensor [d] of vectors, [K, 2, d] of tokens, name -> [C, h, w]
    of maps; with targets it is (features, target). A DataLoader reads each batch in one go.

    Args:
        reader: reads them.
        ids: of the samples, in their order.
        targets: item id -> target, of anything that the DataLoader's `collate_fn` takes.

    Raises:
        DataError: an id has no target.
    """

    def __init__(self, reader: Reader, ids: Sequence[str], targets: Mapping[str, Any] | None = None) -> None:
        self.reader = reader
        self.ids = [str(item_id) for item_id in ids]
        lacking = [item_id for item_id in self.ids if targets is not None and item_id not in targets]
        if lacking:
            raise DataError(
                f"{len(lacking)} of {len(self.ids)} ids have no target, the first: {lacking[0]!r}"
            )
        self.targets = None if targets is None else [targets[item_id] for item_id in self.ids]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, place: int) -> Any:
        return self.__getitems__([place])[0]

    def __getitems__(self, places: Sequence[int]) -> list[Any]:
        """Several samples at once, as DataLoader asks for them."""
        read = self.reader.read([self.ids[place] for place in places])
        features: list[Features]
        if isinstance(read, dict):
            named = {name: _tensor(values) for name, values in read.items()}
            features = [{name: values[row] for name, values in named.items()} for row in range(len(places))]
        else:
            features = list(_tensor(read))
        if self.targets is None:
            return features
        return [(one, self.targets[place]) for one, place in zip(features, places, strict=True)]


def _tensor(values: NDArray[Any]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values))
