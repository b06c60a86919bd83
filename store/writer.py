"""Adding rows to a depot: batches gather into shards, shards are committed one by one."""

from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np

from deponij.store import shard
from deponij.store.errors import StoreError
from deponij.store.hdf5 import Array
from deponij.store.identity import Identity
from deponij.store.keys import KEY_CHARS, not_keys
from deponij.store.locks import WriterLock
from deponij.store.shard import Provenance

if TYPE_CHECKING:
    from deponij.store.depot import FeatureStore

SHARD_BYTES = 64 << 20
SHARD_ROWS = 1024


class Writer:
    """Adds rows; each full shard is committed at once, the rest on leaving the `with` block.

    Rows of one `add` never part: a shard ends between two batches, so that a run that goes on after
    a kill meets the same batches.

    Attributes:
        n_rows: rows committed so far.
    """

    def __init__(
        self,
        store: "FeatureStore",
        identity: Identity,
        provenance: Provenance,
        shard_rows: int = SHARD_ROWS,
        on_event: Callable[[str], None] | None = None,
    ) -> None:
        self.store = store
        self.identity = identity
        self.provenance = provenance
        self.shard_rows = shard_rows
        self.on_event = on_event
        self.n_rows = 0
        self._lock: WriterLock | None = None
        self._number = 0
        self._added: set[str] = set()
        self._keys: list[str] = []
        self._batches: list[dict[str, Array]] = []

    def __enter__(self) -> Self:
        self.store.sweep()
        self._lock = WriterLock(self.store.local_path).__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            # What was computed before an error is good: keep it.
            self.flush()
        finally:
            if self._lock is not None:
                self._lock.__exit__(kind, error, trace)
                self._lock = None

    def add(self, keys: Sequence[str], arrays: Mapping[str, Array]) -> None:
        """Add one batch.

        Args:
            keys: n distinct keys, not yet added by this writer.
            arrays: name -> [n, …] of the identity's stored dtype; not to be changed afterwards.

        Raises:
            StoreError: keys repeat or are none, lengths or dtypes do not fit, a value is not finite,
                or a shard cannot be written.
        """
        if self._lock is None:
            raise StoreError("a writer adds rows only inside its `with` block")
        if not keys:
            return
        self._check_keys(keys)
        if not arrays:
            raise StoreError(f"{len(keys)} keys, but no arrays")
        for name, values in arrays.items():
            self._check_values(name, keys, values)
        shapes = {name: values.shape[1:] for name, values in arrays.items()}
        if self._batches and shapes != {name: v.shape[1:] for name, v in self._batches[0].items()}:
            self.flush()
        self._added.update(keys)
        self._keys += keys
        self._batches.append(dict(arrays))
        pending_bytes = sum(v.nbytes for batch in self._batches for v in batch.values())
        if len(self._keys) >= self.shard_rows or pending_bytes >= SHARD_BYTES:
            self.flush()

    def _check_keys(self, keys: Sequence[str]) -> None:
        strangers = not_keys(keys)
        if strangers:
            raise StoreError(f"a key has {KEY_CHARS} hexadecimal characters, got {strangers[0]!r}")
        again = [key for key in keys if key in self._added]
        if again or len(set(keys)) != len(keys):
            raise StoreError(f"keys repeat ({again[0] if again else 'within one batch'}); add each row once")

    def _check_values(self, name: str, keys: Sequence[str], values: Array) -> None:
        if len(values) != len(keys):
            raise StoreError(f"{len(keys)} keys, but {len(values)} rows of {name}")
        if values.dtype != np.dtype(self.identity.stored):
            raise StoreError(f"{name} is {values.dtype}; the identity stores {self.identity.stored}")
        if not np.isfinite(values).all():
            bad = [key for key, row in zip(keys, values, strict=True) if not np.isfinite(row).all()]
            raise StoreError(
                f"{len(bad)} rows of {name} are not finite in {self.identity.stored} (the first key: "
                f"{bad[0]}); store float32 or compute in fp32"
            )

    def flush(self) -> None:
        """Commit what is pending as one shard.

        Raises:
            StoreError: it cannot be written; the rows stay pending.
        """
        if not self._keys or self._lock is None:
            return
        arrays = {name: np.concatenate([b[name] for b in self._batches]) for name in self._batches[0]}
        name = f"{self.identity.fingerprint}/{self._lock.token}-{self._number:06d}"
        sidecar = shard.commit(
            self.store.folder, name, self.identity, self._keys, arrays, provenance=self.provenance
        )
        self.store.add_sidecar(sidecar)
        self.n_rows += len(self._keys)
        self._number += 1
        self._keys, self._batches = [], []
        if self.on_event is not None:
            self.on_event(name)
