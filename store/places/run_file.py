"""A run in a file of the cache: places, the first heads of their pages level by level, and the shards, in pages.

    places | heads of their first | heads of those' first | … one page | shards

So a key is found by one page of each level (the upper ones are few, and stay in memory once they are read), whatever
the number of rows; the file's geometry follows from three numbers that the cache's manifest keeps.
"""

import json
import secrets
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from deponij.store.hdf5 import Array
from deponij.store.identity import Identity
from deponij.store.places.pages import CacheDamaged, Pages, PageWriter, n_pages, per_page
from deponij.store.places.records import PLACE, Numbers, matches
from deponij.store.places.runs import PIECE_ROWS, Names
from deponij.store.shard import Shard

_HEAD = np.dtype("<u8")
# How many keys are looked for at a time: each may need a page of its own, and what is small is in the processor's cache.
_WANTED = 512
# For so many keys at once a level of so many pages (16 MiB, enough for 300 million rows) is read whole; for so many shards
# the records of all.
_MANY = 64
_WHOLE_PAGES = 4096


@dataclass(frozen=True)
class RunFacts:
    """What has to be known of a run's file to read it.

    Attributes:
        file: its name.
        salt: of its pages' checksums.
        name_bytes, layout_bytes: of the longest name and the longest description of arrays.
    """

    file: str
    fingerprint: str
    salt: int
    n_rows: int
    n_shards: int
    name_bytes: int
    layout_bytes: int

    @property
    def shard_kind(self) -> np.dtype:
        """A shard's record."""
        return np.dtype(
            [
                ("name", f"S{self.name_bytes}"),
                ("layout", f"S{self.layout_bytes}"),
                ("sha256", "V32"),
                ("size_bytes", "<u8"),
                ("n_rows", "<u8"),
            ]
        )


class TooWide(Exception):
    """A shard's name or layout has no room in a page; such a run cannot be kept in the cache."""


def write_run(
    folder: Path, fingerprint: str, shards: Sequence[Shard], n_rows: int, pieces: Iterator[Array]
) -> RunFacts:
    """Write a run's file, which nobody reads until a manifest names it.

    Args:
        shards: by number.
        pieces: PLACE [any] in order, n_rows of them.

    Raises:
        OSError: it cannot be written; nothing is left of it. TooWide: it cannot be kept in pages.
    """
    names = [shard.name.encode("utf-8", "surrogatepass") for shard in shards]
    layouts = [json.dumps(shard.arrays).encode() for shard in shards]
    facts = RunFacts(
        file=f"{secrets.token_hex(8)}.run",
        fingerprint=fingerprint,
        salt=secrets.randbits(32),
        n_rows=n_rows,
        n_shards=len(shards),
        name_bytes=max(map(len, names)),
        layout_bytes=max(map(len, layouts)),
    )
    if not per_page(facts.shard_kind):
        raise TooWide
    records = np.zeros(len(shards), facts.shard_kind)
    records["name"], records["layout"] = names, layouts
    digests = b"".join(bytes.fromhex(shard.sha256) for shard in shards)
    records["sha256"] = np.frombuffer(digests, "V32")
    records["size_bytes"] = [shard.size_bytes for shard in shards]
    records["n_rows"] = [shard.n_rows for shard in shards]
    path = folder / facts.file
    try:
        with path.open("wb", buffering=1 << 20) as file:
            writer = PageWriter(file, facts.salt)
            heads = [first["head"].copy() for first in writer.table(PLACE, pieces)]
            while sum(map(len, heads)) > 1:
                heads = list(writer.table(_HEAD, iter(heads)))
            for _ in writer.table(facts.shard_kind, iter([records])):
                pass
    except BaseException:
        # On a full disk it would only be in the way.
        with suppress(OSError):
            path.unlink()
        raise
    return facts


class FileRun:
    """A run in a file; see `deponij.store.places.runs.Run`.

    Raises:
        CacheDamaged: it is not the file that was written. FileNotFoundError: a later manifest has replaced it.
        OSError: it cannot be opened.
    """

    def __init__(self, folder: Path, facts: RunFacts, identity: Identity) -> None:
        self.facts = facts
        self.n_rows, self.n_shards = facts.n_rows, facts.n_shards
        self._identity = identity
        if not per_page(facts.shard_kind):
            raise CacheDamaged(f"shards of {facts.file} have no room in a page")
        # Levels from the places up; each but the first has a record for each page of the one below.
        sizes: list[int] = [facts.n_rows]
        kinds: list[np.dtype[Any]] = [PLACE]
        while n_pages(kinds[-1], sizes[-1]) > 1:
            sizes.append(n_pages(kinds[-1], sizes[-1]))
            kinds.append(_HEAD)
        lengths = [n_pages(kind, size) for kind, size in zip(kinds, sizes, strict=True)]
        self._starts = [0, *np.cumsum(lengths).tolist()]
        self._lengths = lengths
        shard_pages = n_pages(facts.shard_kind, facts.n_shards)
        self._pages = Pages(folder / facts.file, facts.salt, self._starts[-1] + shard_pages)
        # Of each level above the places the pages that were read, and which these are.
        self._kept = [np.empty((length, per_page(_HEAD)), _HEAD) for length in lengths[1:]]
        self._is_kept = [np.zeros(length, bool) for length in lengths[1:]]
        # The lowest level that is known to be kept whole; the number of levels where none is.
        self._whole = len(lengths)

    @cached_property
    def names(self) -> Names:
        """See `Run`."""
        return np.char.decode(self._shard_records["name"], "utf-8", "surrogatepass")

    @cached_property
    def shard_rows(self) -> Numbers:
        """See `Run`."""
        return self._shard_records["n_rows"].astype(np.int64)

    def shards(self, numbers: Sequence[int]) -> list[Shard]:
        """See `Run`."""
        kind = self.facts.shard_kind
        held = per_page(kind)
        wanted = np.asarray(numbers, np.int64)
        if len(wanted) >= _MANY:
            records = self._shard_records[wanted]
        else:
            pages, of = np.unique(wanted // held, return_inverse=True)
            records = self._pages.read(kind, self._starts[-1] + pages)[of, wanted % held]
        layouts, names = records["layout"].tolist(), records["name"].tolist()
        arrays = {text: _arrays(text) for text in set(layouts)}
        digests = records["sha256"].tobytes().hex()
        digest_chars = len(digests) // max(1, len(records))
        return [
            Shard(
                name=name.decode("utf-8", "surrogatepass"),
                identity=self._identity,
                arrays=arrays[layout],
                size_bytes=size_bytes,
                sha256=digests[number * digest_chars : (number + 1) * digest_chars],
                n_rows=n_rows,
            )
            for number, (name, layout, size_bytes, n_rows) in enumerate(
                zip(names, layouts, records["size_bytes"].tolist(), records["n_rows"].tolist(), strict=True)
            )
        ]

    def find(self, wanted: Array) -> tuple[Numbers, Array]:
        """See `Run`."""
        which, places = [np.empty(0, np.int64)], [np.empty(0, PLACE)]
        for start in range(0, len(wanted) if self.n_rows else 0, _WANTED):
            part = wanted[start : start + _WANTED]
            candidates = self._candidates(np.ascontiguousarray(part["head"]))
            found, at = matches(np.ascontiguousarray(candidates["head"]).reshape(-1), candidates, part)
            which.append(found + start)
            places.append(at)
        return np.concatenate(which), np.concatenate(places)

    def pieces(self) -> Iterator[Array]:
        """See `Run`."""
        held = per_page(PLACE)
        step = max(1, PIECE_ROWS // held)
        for start in range(0, self._lengths[0], step):
            stop = min(self._lengths[0], start + step)
            found = self._pages.read(PLACE, np.arange(start, stop)).reshape(-1)
            yield found[: self.n_rows - start * held]

    def _candidates(self, heads: Array) -> Array:
        """The pages of places that may hold keys of these heads (ascending), PLACE [p, records a page]."""
        if len(heads) >= _MANY:
            self._read_whole()
        held = per_page(_HEAD)
        pages = np.zeros(1, np.int64)
        for level in range(min(self._whole, len(self._lengths) - 1), 0, -1):
            is_whole = level == self._whole
            firsts = self._kept[level - 1].reshape(-1) if is_whole else self._firsts(level, pages)
            # A head may lie in the page before the first that begins with it, and in all that do.
            first = np.searchsorted(firsts, heads, "left") - 1
            last = np.searchsorted(firsts, heads, "right") - 1
            positions = _spans(first.clip(min=0), last.clip(min=0))
            pages = positions if is_whole else pages[positions // held] * held + positions % held
            pages = pages[pages < self._lengths[level - 1]]
        return self._pages.read(PLACE, pages)

    def _read_whole(self) -> None:
        """Have the lowest level that is small enough in memory, so that no look-up comes through those above."""
        for level in range(1, len(self._lengths)):
            if level == self._whole:
                return
            if self._lengths[level] <= _WHOLE_PAGES:
                self._firsts(level, np.arange(self._lengths[level]))
                self._whole = level
                return

    def _firsts(self, level: int, pages: Numbers) -> Array:
        """The heads in some pages of a level, side by side."""
        kept, is_kept = self._kept[level - 1], self._is_kept[level - 1]
        new = pages[~is_kept[pages]]
        if len(new):
            kept[new] = self._pages.read(_HEAD, self._starts[level] + new)
            is_kept[new] = True
        return kept[pages].reshape(-1)

    @cached_property
    def _shard_records(self) -> Array:
        # Some 130 bytes a shard.
        kind = self.facts.shard_kind
        pages = np.arange(n_pages(kind, self.n_shards))
        return self._pages.read(kind, self._starts[-1] + pages).reshape(-1)[: self.n_shards]


def _arrays(text: bytes) -> dict[str, tuple[int, ...]]:
    try:
        return {name: tuple(shape) for name, shape in json.loads(text).items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise CacheDamaged(f"a layout in the cache cannot be read: {error!r}") from error


def _spans(first: Numbers, last: Numbers) -> Numbers:
    """All numbers that lie in some span first … last, ascending, each once."""
    counts = last - first + 1
    numbers = np.arange(int(counts.sum())) + np.repeat(first - (np.cumsum(counts) - counts), counts)
    return np.unique(numbers)
