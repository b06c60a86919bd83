"""Given embeddings: ids and vectors, checked, with a hash of both. Reading files and frames: `files`, `frames`.

Shape letters: n rows, d width.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from deponij.store.errors import DataError
from deponij.store.texts import is_storable


@dataclass(frozen=True, eq=False)
class GivenVectors:
    """Embeddings of things that have ids.

    Attributes:
        where: the file or frame, for messages.
        ids: n distinct ids.
        vectors: float32 (of float16: float16) [n, d]; single rows may be unusable, see `faults`.
        columns: further columns of plain values, n rows; none where there are none.
        sha256: of the content: ids, and vectors as they came, in their order and type.
        notes: what a user should know: another type of numbers, columns that were not taken.
    """

    where: str
    ids: tuple[str, ...]
    vectors: NDArray[np.floating]
    columns: pa.Table
    sha256: str
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def dim(self) -> int:
        """Width of a vector."""
        return int(self.vectors.shape[1])

    @property
    def faults(self) -> dict[int, str]:
        """Rows that cannot be used, and why: values that are not finite, or no direction."""
        finite = np.isfinite(self.vectors).all(axis=1)
        empty = ~self.vectors.any(axis=1)
        not_finite = {
            int(row): f"its vector in {self.where} is not finite (NaN or infinite)"
            for row in np.flatnonzero(~finite)
        }
        none = {
            int(row): f"its vector in {self.where} is all zeros, so that it has no direction"
            for row in np.flatnonzero(empty)
        }
        return not_finite | none


def given_vectors(
    where: str,
    ids: Sequence[Any],
    values: Any,
    columns: pa.Table | None = None,
    notes: Sequence[str] = (),
) -> GivenVectors:
    """Ids and vectors that belong together row by row.

    Args:
        where: the file or frame, for messages.
        ids: texts or whole numbers.
        values: an array of numbers [n, d].
        columns: further columns, n rows.

    Raises:
        DataError: another shape, no numbers, no rows; ids that are missing, occur twice or are of another number.
    """
    array = np.asarray(values)
    if array.dtype.kind not in "fiu":
        raise DataError(
            f"{where} holds {array.dtype} values; vectors are numbers (float32 best), and pickled objects are never loaded"
        )
    if array.ndim != 2 or 0 in array.shape:
        raise DataError(
            f"{where} has the shape {list(array.shape)}; vectors are [n, d], a row an item, n and d at least 1"
        )
    names = _checked(where, ids, len(array))
    stored = np.dtype(np.float16 if array.dtype == np.float16 else np.float32)
    notes = list(notes)
    if array.dtype not in (np.float16, np.float32):
        notes.append(f"{where} holds {array.dtype}: kept as float32, to some seven digits")
    with np.errstate(over="ignore"):
        # What is too large for float32 becomes infinite, and so a fault of its row.
        vectors = np.ascontiguousarray(array, stored)
    return GivenVectors(
        where=where,
        ids=names,
        vectors=vectors,
        columns=pa.table({}) if columns is None else columns,
        sha256=_sha256(names, array),
        notes=tuple(notes),
    )


def _checked(where: str, ids: Sequence[Any], n_rows: int) -> tuple[str, ...]:
    if len(ids) != n_rows:
        header = "; is the first line a header?" if len(ids) == n_rows + 1 else ""
        raise DataError(f"{where} has {n_rows:,} vectors and {len(ids):,} ids; each vector needs one{header}")
    odd = [
        row for row, one in enumerate(ids) if one is None or isinstance(one, float) or not str(one).strip()
    ]
    if odd:
        raise DataError(
            f"{where}: {len(odd):,} ids are missing or no names, the first in row {odd[0] + 1}: {ids[odd[0]]!r}"
        )
    names = tuple(map(str, ids))
    if strange := [name for name in names if not is_storable(name)]:
        raise DataError(f"{where}: ids must be valid Unicode without NUL, got {strange[0]!r}")
    first: dict[str, int] = {}
    twice = [(name, row) for row, name in enumerate(names) if first.setdefault(name, row) != row]
    if twice:
        name, row = twice[0]
        raise DataError(
            f"{where}: {len(twice):,} ids occur twice, the first: {name!r} in rows {first[name] + 1} and {row + 1}; "
            "one vector an item is expected"
        )
    return names


def _sha256(ids: Sequence[str], array: NDArray[Any]) -> str:
    """Of ids and vectors in their order; the vectors' type and shape count, and how a file packs them does not."""
    digest = hashlib.sha256(f"{array.dtype.newbyteorder('<').str}{list(array.shape)}".encode())
    for one in ids:
        raw = one.encode()
        digest.update(f"{len(raw)}:".encode() + raw)
    digest.update(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).data)
    return digest.hexdigest()
