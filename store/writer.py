"""Adding rows to a depot: batches gather into shards, shards are committed one by one.

A shard is full by rows or bytes. Where that takes long, what is there is committed every few seconds as a *stand-in*,
`<shard>-<k>`; the full shard holds its rows too and takes its place. So a kill costs seconds however slow the model
is, and in the end the shards are those of a fast run. Which pictures share a batch never depends on time.
"""

from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np

from deponij.store import shard
from deponij.store.errors import StoreError
from deponij.store.hdf5 import Array
from deponij.store.identity import Identity
from deponij.store.keys import KEY_CHARS, not_keys
from deponij.store.leases import LeaseLostError
from deponij.store.presence import WriterLock
from deponij.store.shard import Provenance, Sidecar

if TYPE_CHECKING:
    from deponij.store.depot import FeatureStore

SHARD_BYTES = 64 << 20
SHARD_ROWS = 1024
# How much work may be uncommitted, in seconds of it.
UNSAVED_S = 15.0
# How often in a row a writer may be taken for dead.
_LIVES = 3


class Writer:
    """Adds rows; each full shard is committed at once, the rest on leaving the `with` block.

    What is not yet a full shard is committed as a stand-in before more than `unsaved_s` of work would be lost by a kill.

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
        unsaved_s: float = UNSAVED_S,
        on_event: Callable[[str], None] | None = None,
    ) -> None:
        self.store = store
        self.identity = identity
        self.provenance = provenance
        self.shard_rows = shard_rows
        self.unsaved_s = unsaved_s
        self.on_event = on_event
        self.n_rows = 0
        self._lock: WriterLock | None = None
        self._number = 0
        self._added: set[str] = set()
        self._keys: list[str] = []
        self._batches: list[dict[str, Array]] = []
        self._base = ""
        # Of the shard that is being filled: its stand-ins, and how many keys and batches they hold.
        self._stand_ins: list[str] = []
        self._n_saved = self._n_saved_batches = 0
        self._saved_at = self._added_at = 0.0

    def __enter__(self) -> Self:
        self.store.sweep()
        self._begin()
        self._saved_at = self._added_at = monotonic()
        return self

    def _begin(self) -> WriterLock:
        """Be somebody who is at work, from now on."""
        self._lock = WriterLock(self.store.folder).__enter__()
        self._base = f"{self.identity.fingerprint}/{self._lock.token}"
        return self._lock

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
        elif self._next_is_too_late():
            self._stand_in()

    def _next_is_too_late(self) -> bool:
        """Whether more than `unsaved_s` of work would be unsaved before the next batch, if it takes as long as this."""
        now = monotonic()
        step_s, self._added_at = now - self._added_at, now
        return now + step_s - self._saved_at > self.unsaved_s

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
        """Commit what is pending as one shard, in the place of its stand-ins.

        Raises:
            StoreError: it cannot be written; the rows stay pending.
        """
        if not self._keys or self._lock is None:
            return
        self._commit(f"-{self._number:06d}", 0, 0)
        for name in self._stand_ins:
            self.store.retire(name)
        self._number += 1
        self._keys, self._batches, self._stand_ins = [], [], []
        self._n_saved = self._n_saved_batches = 0

    def _stand_in(self) -> None:
        """Commit the rows that no stand-in holds yet."""
        ending = f"-{self._number:06d}-{len(self._stand_ins)}"
        self._stand_ins.append(self._commit(ending, self._n_saved, self._n_saved_batches))
        self._n_saved, self._n_saved_batches = len(self._keys), len(self._batches)

    def _commit(self, ending: str, first_key: int, first_batch: int) -> str:
        """Commit the rows from these on; the name of their shard, which ends so."""
        keys, batches = self._keys[first_key:], self._batches[first_batch:]
        arrays = {one: np.concatenate([batch[one] for batch in batches]) for one in batches[0]}
        sidecar = self._committed(ending, keys, arrays)
        self.store.add_sidecar(sidecar)
        self.n_rows += len(self._keys) - self._n_saved
        self._saved_at = self._added_at = monotonic()
        if self.on_event is not None:
            self.on_event(sidecar.name)
        return sidecar.name

    def _committed(self, ending: str, keys: Sequence[str], arrays: Mapping[str, Array]) -> Sidecar:
        """Write a shard; as somebody new, where this writer was taken for dead (it was stopped, or not connected)."""
        told = ""
        for _ in range(_LIVES):
            lock = self._lock or self._begin()
            try:
                return shard.commit(
                    self.store.folder,
                    self._base + ending,
                    self.identity,
                    keys,
                    arrays,
                    provenance=self.provenance,
                    check=lock.check,
                    confirm=lock.confirm,
                )
            except LeaseLostError as error:
                told = str(error)
                lock.__exit__(None, None, None)
                self._begin()
        raise StoreError(f"{told} (this happened {_LIVES} times in a row)")
