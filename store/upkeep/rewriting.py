"""Carrying rows from shard to shard: what compacting, merging and collecting have in common.

Rows are read with their checksums and committed with where they came from; nothing is taken away here.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from deponij.store import shard
from deponij.store.depot import FeatureStore
from deponij.store.errors import StoreError
from deponij.store.hdf5 import Array
from deponij.store.presence import WriterLock
from deponij.store.shard import Provenance, Rows, Sidecar

_SOURCES = "sources"


@dataclass(frozen=True)
class Part:
    """Some rows of one shard."""

    sidecar: Sidecar
    rows: Rows

    @classmethod
    def of(cls, sidecar: Sidecar, keys: Collection[str], *, known: bool = True) -> Self:
        """The rows whose key is among `keys` (or is not)."""
        chosen = [row for row, key in enumerate(sidecar.keys) if (key in keys) == known]
        return cls(sidecar, np.array(chosen, np.int64))

    @property
    def is_whole(self) -> bool:
        return len(self.rows) == len(self.sidecar.keys)

    @property
    def n_bytes(self) -> int:
        return self.sidecar.size_bytes * len(self.rows) // max(1, len(self.sidecar.keys))


def sources(sidecar: Sidecar) -> list[dict[str, Any]]:
    """Where a shard's rows came from: `first_row`, `n_rows`, `provenance` of each stretch."""
    stretches = sidecar.provenance.get(_SOURCES)
    if isinstance(stretches, list):
        return stretches
    return [{"first_row": 0, "n_rows": len(sidecar.keys), "provenance": sidecar.provenance}]


class Commits:
    """Numbers and commits the new shards of one run, and takes the old ones away."""

    def __init__(self, store: FeatureStore, lock: WriterLock) -> None:
        self.store = store
        self._lock = lock
        self._number = 0

    def add(self, parts: list[tuple[Part, dict[str, Array]]]) -> None:
        """Commit rows of several shards of one identity and layout as one shard."""
        filled = [(part, arrays) for part, arrays in parts if len(part.rows)]
        if not filled:
            return
        identity = filled[0][0].sidecar.identity
        keys = [part.sidecar.keys[row] for part, _ in filled for row in part.rows]
        arrays = {
            name: np.concatenate([values[name] for _, values in filled])
            for name in filled[0][0].sidecar.arrays
        }
        name = f"{identity.fingerprint}/{self._lock.token}-{self._number:06d}"
        provenance = _joined([part for part, _ in filled])
        self.store.add_sidecar(
            shard.commit(
                self.store.folder,
                name,
                identity,
                keys,
                arrays,
                provenance=provenance,
                check=self._lock.check,
                confirm=self._lock.confirm,
            )
        )
        self._number += 1

    def retire(self, name: str) -> None:
        """Take a shard away whose rows nobody needs, or another one has.

        Raises:
            StoreError: this process may have been taken for dead, or the depot cannot be written.
        """
        self._lock.confirm(lately=True)
        shard.retire(self.store.folder, name)


def read_part(store: FeatureStore, part: Part) -> dict[str, Array]:
    """Rows of a shard, checked against their checksums: damage must not be sealed anew."""
    try:
        arrays = shard.read(store.folder, part.sidecar, part.rows, [*part.sidecar.arrays, "checksums"])
    except FileNotFoundError as error:
        raise StoreError(f"the file of {part.sidecar.name} is missing") from error
    checksums = arrays.pop("checksums")
    n_wrong = int((shard.row_checksums(arrays, len(part.rows)) != checksums).sum())
    if n_wrong:
        raise StoreError(f"{n_wrong} rows of {part.sidecar.name} do not fit their checksums")
    return arrays


def _joined(parts: list[Part]) -> Provenance:
    """Provenance of rows that come from several shards; neighbours of equal provenance are joined."""
    stretches: list[dict[str, Any]] = []
    for part in parts:
        for source in sources(part.sidecar):
            first = source["first_row"]
            n_rows = int(((part.rows >= first) & (part.rows < first + source["n_rows"])).sum())
            if n_rows == 0:
                continue
            if stretches and stretches[-1]["provenance"] == source["provenance"]:
                stretches[-1]["n_rows"] += n_rows
                continue
            start = sum(stretch["n_rows"] for stretch in stretches)
            stretches.append({"first_row": start, "n_rows": n_rows, "provenance": source["provenance"]})
    return stretches[0]["provenance"] if len(stretches) == 1 else {_SOURCES: stretches}
