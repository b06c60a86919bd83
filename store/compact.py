"""Millions of texts in little memory: a column that is read like a list, where each lies, and which were there already.

A Python string of an item's id takes some 80 bytes and its place in a dict another 100; here they take their letters and
12 bytes. Hashes are Python's own, of this process alone; where two are equal the texts themselves decide.
"""

from array import array
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_AT_ONCE = 8192
# Hashes that are kept as Python numbers before they go into a sorted array.
_PENDING = 1 << 16


class Texts(Sequence[Any]):
    """A column of texts, some of which may be None; equal to a list of the same."""

    def __init__(self, column: pa.ChunkedArray) -> None:
        self._column = column
        starts = np.cumsum([0, *(len(chunk) for chunk in column.chunks)])
        self._starts, self._n = starts, int(starts[-1])

    def __len__(self) -> int:
        return self._n

    @overload
    def __getitem__(self, place: int) -> Any: ...
    @overload
    def __getitem__(self, place: slice) -> list[Any]: ...
    def __getitem__(self, place: int | slice) -> Any:
        if isinstance(place, slice):
            return [self[one] for one in range(*place.indices(self._n))]
        row = int(place) + (self._n if place < 0 else 0)
        if not 0 <= row < self._n:
            raise IndexError(f"row {place} of {self._n}")
        chunk = int(np.searchsorted(self._starts, row, side="right")) - 1
        return self._column.chunk(chunk)[row - int(self._starts[chunk])].as_py()

    def __iter__(self) -> Iterator[Any]:
        for chunk in self._column.chunks:
            for start in range(0, len(chunk), _AT_ONCE):
                yield from chunk.slice(start, _AT_ONCE).to_pylist()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Texts | list):
            return NotImplemented
        return len(self) == len(other) and all(
            one == another for one, another in zip(self, other, strict=True)
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        shown = ", ".join(map(repr, self[:3]))
        return f"<{self._n:,} texts: {shown}{', …' if self._n > 3 else ''}>"


class Places(Mapping[str, int]):
    """Text -> its row, of texts that occur once each."""

    def __init__(self, texts: Texts) -> None:
        self._texts = texts
        hashes = np.fromiter(map(hash, texts), np.int64, len(texts))
        order = np.argsort(hashes, kind="stable")
        self._hashes = hashes[order]
        self._rows = order.astype(np.uint32 if len(texts) < 1 << 32 else np.int64)

    def __len__(self) -> int:
        return len(self._texts)

    def __iter__(self) -> Iterator[str]:
        return iter(self._texts)

    def __getitem__(self, text: str) -> int:
        wanted = hash(text)
        place = int(np.searchsorted(self._hashes, wanted))
        while place < len(self._hashes) and self._hashes[place] == wanted:
            row = int(self._rows[place])
            if self._texts[row] == text:
                return row
            place += 1
        raise KeyError(text)


class Distinct:
    """How many different texts there are, by their 64-bit hashes alone: of 10⁶ texts one count in 10⁷ is one too low."""

    def __init__(self) -> None:
        self._pending = array("q")
        self._sorted = np.empty(0, np.int64)

    def add(self, text: str) -> None:
        """Count a text."""
        self._pending.append(hash(text))
        if len(self._pending) >= max(_PENDING, len(self._sorted)):
            self._settle()

    def __len__(self) -> int:
        self._settle()
        return len(self._sorted)

    def _settle(self) -> None:
        self._sorted = np.union1d(self._sorted, np.frombuffer(self._pending, np.int64))
        self._pending = array("q")


class Seen:
    """Which texts were there already."""

    def __init__(self) -> None:
        self._pending: dict[int, str] = {}
        # Of growing size, so that a text is sorted in a logarithmic number of times.
        self._sorted: list[np.ndarray[Any, np.dtype[np.int64]]] = []
        self._texts: list[pa.Array] = []

    def add(self, text: str) -> bool:
        """Whether it is new; from now on it is not."""
        number = hash(text)
        if self._is_known(number, text):
            return False
        if number in self._pending:
            # Two texts of one hash: the earlier one is found by itself.
            self._settle()
        self._pending[number] = text
        if len(self._pending) >= _PENDING:
            self._settle()
        return True

    def _is_known(self, number: int, text: str) -> bool:
        if self._pending.get(number) == text:
            return True
        for one in self._sorted:
            place = int(np.searchsorted(one, number))
            if place < len(one) and one[place] == number:
                wanted = pa.scalar(text)
                return any(pc.index(texts, wanted).as_py() >= 0 for texts in self._texts)
        return False

    def _settle(self) -> None:
        self._texts.append(pa.array(self._pending.values(), pa.string()))
        self._sorted.append(np.sort(np.fromiter(self._pending, np.int64, len(self._pending))))
        self._pending = {}
        while len(self._sorted) > 1 and len(self._sorted[-2]) <= len(self._sorted[-1]):
            last = self._sorted.pop()
            self._sorted[-1] = np.sort(np.concatenate([self._sorted[-1], last]))
