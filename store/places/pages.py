"""Tables of fixed-width records in pages of 4 KiB, each with a checksum of its own.

A reader reads the pages that it needs and checks each, so that opening costs nothing and no damaged byte is ever used.
They are read, not mapped: where a file is cut off or its disk fails, that is an error and not a signal. Writing is
plain and unflushed, since what is lost shows when it is read.
"""

import os
import weakref
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import IO

import numpy as np
from isal.isal_zlib import crc32

from deponij.store.errors import StoreError
from deponij.store.hdf5 import Array

PAGE_BYTES = 4096
_CHECKSUM_BYTES = 4
PAYLOAD_BYTES = PAGE_BYTES - _CHECKSUM_BYTES
# How many pages are read in one go at most.
_STRETCH = 4096


class CacheDamaged(StoreError):
    """A file of the cache is not what was written; everything in it can be had from the sidecars."""


def per_page(kind: np.dtype) -> int:
    """How many records of this kind a page holds; 0 for records that are too wide."""
    return PAYLOAD_BYTES // kind.itemsize


def n_pages(kind: np.dtype, n_records: int) -> int:
    """How many pages a table takes."""
    return -(-n_records // per_page(kind))


def _layout(kind: np.dtype) -> np.dtype:
    held = per_page(kind)
    spare = PAYLOAD_BYTES - held * kind.itemsize
    return np.dtype([("records", kind, (held,)), ("spare", f"V{spare}"), ("checksum", "<u4")])


class PageWriter:
    """Appends tables to a file; each begins on a page of its own.

    Args:
        salt: makes pages of this file differ from those of any other one.
    """

    def __init__(self, file: IO[bytes], salt: int) -> None:
        self._file = file
        self._salt = salt
        self.n_pages = 0

    def table(self, kind: np.dtype, pieces: Iterable[Array]) -> Iterator[Array]:
        """Write records, and yield the first one of each page as the pages are written.

        Args:
            pieces: records of `kind` [any].
        """
        held, rest = per_page(kind), np.empty(0, kind)
        for piece in pieces:
            whole = np.concatenate([rest, piece]) if len(rest) else piece
            n_full = len(whole) // held * held
            if n_full:
                self._write(kind, whole[:n_full])
                yield whole[:n_full:held]
            rest = whole[n_full:]
        if len(rest):
            # Filled up with ones, which sort behind every record.
            last = np.frombuffer(b"\xff" * (held * kind.itemsize), kind).copy()
            last[: len(rest)] = rest
            self._write(kind, last)
            yield rest[:1]

    def _write(self, kind: np.dtype, records: Array) -> None:
        pages = np.zeros(len(records) // per_page(kind), _layout(kind))
        pages["records"] = records.reshape(len(pages), -1)
        content = pages.view(np.uint8).reshape(-1).data
        pages["checksum"] = _checksums(content, range(self.n_pages, self.n_pages + len(pages)), self._salt)
        self._file.write(content)
        self.n_pages += len(pages)


class Pages:
    """An open file of pages, kept open as long as somebody uses it.

    Raises:
        CacheDamaged: it is not of this length. OSError: it cannot be opened.
    """

    def __init__(self, path: Path, salt: int, n_expected: int) -> None:
        self._path = path
        self._salt = salt
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self._descriptor)
        _advise(self._descriptor, "RANDOM")
        if os.fstat(self._descriptor).st_size != n_expected * PAGE_BYTES:
            raise CacheDamaged(f"{path} is not of the length that it was written with")

    def read(self, kind: np.dtype, numbers: Array) -> Array:
        """The records of some pages, the fill of a table's last page with them.

        Args:
            numbers: pages, ascending int64 [p].

        Returns:
            [p, records a page] of `kind`.

        Raises:
            CacheDamaged: a page's checksum does not fit, or it cannot be read.
        """
        content = np.empty(len(numbers) * PAGE_BYTES, np.uint8)
        view = content.data
        breaks = np.flatnonzero(np.diff(numbers) != 1) + 1
        bounds = [0, *breaks.tolist(), len(numbers)] if len(numbers) else [0]
        firsts = numbers[bounds[:-1]].tolist()
        if len(firsts) > 1:
            # All at once, so that a disk that has not read them yet need not be waited for page by page.
            for first, (begin, end) in zip(firsts, pairwise(bounds), strict=True):
                _advise(self._descriptor, "WILLNEED", first, end - begin)
        for first, (begin, end) in zip(firsts, pairwise(bounds), strict=True):
            for start in range(begin, end, _STRETCH):
                stop = min(end, start + _STRETCH)
                self._fill(view[start * PAGE_BYTES : stop * PAGE_BYTES], first + start - begin)
        pages = content.view(_layout(kind))
        if not np.array_equal(pages["checksum"], _checksums(view, numbers.tolist(), self._salt)):
            raise CacheDamaged(f"{self._path} has changed since it was written")
        found: Array = pages["records"]
        return found

    def _fill(self, into: memoryview, page: int) -> None:
        try:
            n_read = os.preadv(self._descriptor, [into], page * PAGE_BYTES)
        except OSError as error:
            raise CacheDamaged(f"cannot read {self._path}: {error.strerror or error}") from error
        if n_read != len(into):
            raise CacheDamaged(f"{self._path} ends early")


def _advise(descriptor: int, what: str, first: int = 0, n: int = 0) -> None:
    """Tell the system how pages (all of them, by default) are going to be read, where it can be told."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(descriptor, first * PAGE_BYTES, n * PAGE_BYTES, getattr(os, f"POSIX_FADV_{what}"))


def _checksums(content: memoryview, numbers: Iterable[int], salt: int) -> Array:
    """Of each page's payload; it covers which page of which file it is."""
    found = [
        crc32(content[start : start + PAYLOAD_BYTES], (salt + number) & 0xFFFFFFFF)
        for start, number in zip(range(0, len(content), PAGE_BYTES), numbers, strict=True)
    ]
    return np.array(found, np.uint32)
