"""An index over unit vectors: search among all or some rows, add, delete, save, open.

Rows are numbered in the order in which vectors were added and keep their number; a deleted row is never found
again. Which item a row stands for, and which rows are deleted in a file, is remembered by the caller.

Shape letters: n rows, q queries, k neighbours, d width.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from deponij.pipeline.retrieval.kind import Effort, Found, IndexKind, Rows, Settings, Vectors, index_kind
from deponij.pipeline.unit_vectors import unit
from deponij.store.errors import IdentityError, StoreError, UsageError, explained

Mask = NDArray[np.bool_]
# Up to this many selected rows are scanned: walking a graph or lists past the others would cost as much.
SCANNED_ROWS = 20_000
SCANNED_SHARE = 0.05


class Neighbours(NamedTuple):
    """Cosines [q, k'], highest first, equal ones by row; and rows [q, k']. k' is k, or fewer where there are fewer."""

    scores: Vectors
    rows: Rows


class VectorIndex:
    """Vectors and how they are searched.

    Args:
        index: of FAISS.
        kind: its type.
        settings: it was built with.
        effort: of a search; None for the type's middle one.
        is_mapped: the vectors lie in a file, so that none can be added.
        check: raises where the vectors are damaged; called once, before they are first read.
    """

    def __init__(
        self,
        index: Any,
        kind: IndexKind,
        settings: Settings,
        effort: Effort | None = None,
        *,
        is_mapped: bool = False,
        check: Callable[[], None] | None = None,
    ) -> None:
        self.index = index
        self.kind = kind
        self.settings = dict(settings)
        efforts = kind.efforts(self.settings)
        self.effort: Effort = dict(efforts[len(efforts) // 2] if effort is None else effort)
        self._is_mapped = is_mapped
        self._check = check
        self._deleted: Mask | None = None

    @classmethod
    def build(
        cls,
        vectors: NDArray[np.floating],
        kind: str = "flat",
        *,
        settings: Settings | None = None,
        seed: int = 0,
    ) -> Self:
        """An index of vectors [n, d], of any length; they are normalised.

        Raises:
            UsageError: no such type, or no vectors.
            DataError: values that are not finite.
        """
        units = unit(vectors)
        if not len(units):
            raise UsageError("an index needs at least one vector")
        chosen = index_kind(kind)
        fixed = chosen.settings(*units.shape) if settings is None else settings
        return cls(chosen.build(units, fixed, seed), chosen, fixed)

    @classmethod
    def open(
        cls,
        path: Path,
        kind: str,
        settings: Settings,
        effort: Effort | None = None,
        check: Callable[[], None] | None = None,
    ) -> Self:
        """Map a file that `save` wrote; vectors are read when a search touches them.

        Raises:
            StoreError: absent, or not an index of this type.
        """
        chosen = index_kind(kind)
        _check_facts(path, chosen, settings, effort)
        return cls(_read(path, chosen, mapped=True), chosen, settings, effort, is_mapped=True, check=check)

    @classmethod
    def load(cls, path: Path, kind: str, settings: Settings, effort: Effort | None = None) -> Self:
        """The same, but read into memory, so that vectors can be added."""
        chosen = index_kind(kind)
        _check_facts(path, chosen, settings, effort)
        return cls(_read(path, chosen, mapped=False), chosen, settings, effort)

    @property
    def n_rows(self) -> int:
        """Rows ever added."""
        return int(self.index.ntotal)

    @property
    def dim(self) -> int:
        """Width of a vector."""
        return int(self.index.d)

    def __len__(self) -> int:
        return self.n_rows if self._deleted is None else int((~self._deleted).sum())

    def add(self, vectors: NDArray[np.floating]) -> Rows:
        """Add vectors [m, d] without a rebuild; gives their rows.

        Raises:
            UsageError: the index is mapped from a file; `load` it.
            IdentityError: vectors of another width.
            DataError: values that are not finite.
        """
        if self._is_mapped:
            # FAISS would end the process.
            raise UsageError(
                "this index is mapped from its file and can only be read; load it to add vectors"
            )
        units = self._checked(vectors)
        first = self.n_rows
        self.index.add(units)
        if self._deleted is not None:
            self._deleted = np.concatenate([self._deleted, np.zeros(len(units), bool)])
        return np.arange(first, self.n_rows)

    def delete(self, rows: NDArray[np.integer]) -> None:
        """Never find these rows again. Their vectors stay in the file until it is built anew.

        Raises:
            UsageError: there is no such row.
        """
        chosen = np.asarray(rows, np.int64)
        self._check_rows(chosen)
        if len(chosen):
            deleted = np.zeros(self.n_rows, bool) if self._deleted is None else self._deleted.copy()
            deleted[chosen] = True
            self._deleted = deleted

    def search(
        self,
        queries: NDArray[np.floating],
        k: int,
        *,
        among: Mask | None = None,
        effort: Effort | None = None,
    ) -> Neighbours:
        """The k rows with the highest cosine to each query, or all where there are fewer.

        Args:
            queries: [q, d], of any length.
            among: bool [n], rows that count; None for all.
            effort: other than the index's own.

        Raises:
            UsageError: k below 1, or a mask of another length.
            IdentityError: queries of another width.
            DataError: values that are not finite.
        """
        if k < 1:
            raise UsageError(f"ask for at least 1 neighbour, got {k}")
        units = self._checked(queries)
        mask = self._mask(among)
        n_there = self.n_rows if mask is None else int(np.count_nonzero(mask))
        n_wanted = min(k, n_there)
        if n_wanted == 0 or not len(units):
            return Neighbours(
                np.empty((len(units), n_wanted), np.float32), np.empty((len(units), n_wanted), np.int64)
            )
        self._require_sound()
        chosen = self.effort if effort is None else effort
        return _ranked(self._found(units, n_wanted, mask, n_there, chosen))

    def _found(self, units: Vectors, k: int, mask: Mask | None, n_there: int, effort: Effort) -> Found:
        selector = None if mask is None else _selector(mask)
        is_few = n_there <= max(SCANNED_ROWS, SCANNED_SHARE * self.n_rows)
        if self.kind.is_exact or (mask is not None and is_few):
            return self.kind.search_exactly(self.index, units, k, selector)
        if mask is not None:
            effort = self.kind.widened(effort, n_there / self.n_rows)
        scores, rows = self.kind.search(self.index, units, k, effort, selector)
        short = np.flatnonzero((rows < 0).any(axis=1))
        if len(short):
            # Too few were met on the way; there are k, so they are looked for one by one.
            scores[short], rows[short] = self.kind.search_exactly(self.index, units[short], k, selector)
        return scores, rows

    def vectors(self, rows: NDArray[np.integer]) -> Vectors:
        """Unit vectors of some rows, [m, d]; deleted ones too.

        Raises:
            UsageError: there is no such row.
        """
        chosen = np.asarray(rows, np.int64)
        self._check_rows(chosen)
        self._require_sound()
        return self.kind.vectors(self.index, chosen)

    def _require_sound(self) -> None:
        if self._check is not None:
            self._check()
            self._check = None

    def save(self, path: Path) -> None:
        """Write a plain FAISS file.

        Raises:
            StoreError: it cannot be written.
        """
        import faiss

        # FAISS itself says little of why it cannot write, and nothing of what is missing when it closes the file.
        failed: list[OSError] = []
        with explained(f"cannot write {path}"), path.open("wb") as file:

            def put(block: bytes) -> None:
                try:
                    file.write(block)
                except OSError as error:
                    failed.append(error)
                    raise

            try:
                faiss.write_index(self.index, faiss.PyCallbackIOWriter(put))
            except (RuntimeError, OSError) as error:
                raise (failed[0] if failed else StoreError(f"cannot write {path}: {error}")) from error

    def _checked(self, vectors: NDArray[np.floating]) -> Vectors:
        units = unit(vectors)
        if units.shape[1] != self.dim:
            raise IdentityError(
                f"the index holds vectors of width {self.dim}, got {units.shape[1]}: they are of another model"
            )
        return units

    def _check_rows(self, rows: Rows) -> None:
        if len(rows) and (rows.min() < 0 or rows.max() >= self.n_rows):
            raise UsageError(f"rows go from 0 to {self.n_rows - 1}, got {rows.min()} to {rows.max()}")

    def _mask(self, among: Mask | None) -> Mask | None:
        if among is not None and among.shape != (self.n_rows,):
            raise UsageError(f"a mask must have one value for each of {self.n_rows} rows, got {among.shape}")
        live = None if self._deleted is None else ~self._deleted
        if among is None or live is None:
            return live if among is None else among
        both: Mask = among & live
        return both


def _selector(mask: Mask) -> Any:
    import faiss

    return faiss.IDSelectorBitmap(np.packbits(mask, bitorder="little"))


def _ranked(nearest: Found) -> Neighbours:
    # FAISS leaves equal scores in any order.
    scores, rows = nearest
    order = np.lexsort((rows, -scores), axis=1)
    ranked = np.take_along_axis(scores, order, axis=1)
    return Neighbours(np.clip(ranked, -1, 1), np.take_along_axis(rows, order, axis=1))


def _check_facts(path: Path, kind: IndexKind, settings: Settings, effort: Effort | None) -> None:
    """Refuse facts of a file that are not those of its type."""
    try:
        known = set(kind.efforts(settings)[0])
    except (KeyError, TypeError) as error:
        raise StoreError(
            f"{path}: an index of type {kind.name} has other settings: {error}; make it again"
        ) from error
    if effort is not None and (set(effort) != known or not all(type(one) is int for one in effort.values())):
        raise StoreError(
            f"{path}: an index of type {kind.name} is searched by {sorted(known)}, got {dict(effort)}; make it again"
        )


def _read(path: Path, kind: IndexKind, *, mapped: bool) -> Any:
    import faiss

    try:
        with path.open("rb") as file:
            begins = file.read(len(kind.fourcc))
        if begins != kind.fourcc:
            raise StoreError(f"{path} is no FAISS index of type {kind.name}: it begins with {begins!r}")
        return faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC if mapped else 0)
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror or error}") from error
    except RuntimeError as error:
        raise StoreError(f"{path} is damaged: {error}") from error


def set_threads(n_threads: int) -> None:
    """Of all searches and builds of this process; torch's own number is another."""
    import faiss

    faiss.omp_set_num_threads(n_threads)
