"""Where each key of one identity lies, of all its shards' sidecars and whole in memory: for tidying, which reads them all.

Whoever only reads or adds rows asks the depot's catalog (`deponij.store.places`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from deponij.store.errors import StoreError
from deponij.store.keys import KEY_CHARS, not_keys
from deponij.store.shard import KEY_DTYPE, Rows, Sidecar


@dataclass(frozen=True)
class Index:
    """Where each key of one identity lies; of several copies the first shard by name counts.

    Attributes:
        sidecars: the shards, by name.
        keys: the known keys, sorted, each once [n].
        shards: number of the shard in which each key lies [n].
        rows: its row there [n].
    """

    sidecars: list[Sidecar]
    keys: npt.NDArray[np.bytes_]
    shards: Rows
    rows: Rows

    @classmethod
    def build(cls, sidecars: Sequence[Sidecar]) -> Self:
        """Index shards of one identity."""
        ordered = sorted(sidecars, key=lambda sidecar: sidecar.name)
        everything = np.array([key for sidecar in ordered for key in sidecar.keys], dtype=KEY_DTYPE)
        keys, first = np.unique(everything, return_index=True)
        shards = np.repeat(np.arange(len(ordered)), [len(sidecar.keys) for sidecar in ordered])
        rows = np.concatenate(
            [np.arange(len(sidecar.keys)) for sidecar in ordered] or [np.empty(0, np.int64)]
        )
        return cls(ordered, keys, shards[first].astype(np.int64), rows[first].astype(np.int64))

    def find(self, keys: Sequence[str]) -> Rows:
        """Position of each key in this index, -1 where it is unknown, int64 [m].

        Raises:
            StoreError: something is no key at all.
        """
        strangers = not_keys(keys)
        if strangers:
            raise StoreError(f"a key has {KEY_CHARS} hexadecimal characters, got {strangers[0]!r}")
        wanted = np.array(list(keys), dtype=KEY_DTYPE)
        if len(self.keys) == 0 or len(wanted) == 0:
            return np.full(len(wanted), -1, np.int64)
        places = np.searchsorted(self.keys, wanted).clip(max=len(self.keys) - 1)
        return np.where(self.keys[places] == wanted, places, -1).astype(np.int64)

    def owned(self, shard: int) -> Rows:
        """Rows of a shard that count, ascending [m]; the others are doubles."""
        return np.sort(self.rows[self.shards == shard])
