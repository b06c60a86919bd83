"""A key and its place as numbers of fixed width: how they are made of text, sorted and found.

Knows no file and no depot. Letters: n places, m wanted keys.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from deponij.store.errors import StoreError
from deponij.store.hdf5 import Array
from deponij.store.keys import KEY_BYTES, KEY_CHARS, not_keys

# 20 bytes of a key as three numbers that sort as its characters do, then the number of a shard in its run, and the row.
KEY = np.dtype([("head", "<u8"), ("middle", "<u8"), ("last", "<u4")])
PLACE = np.dtype([*KEY.descr, ("shard", "<u4"), ("row", "<u4")])
# No shard has this number: it fills up what is not full.
NO_SHARD = 0xFFFFFFFF
_RAW = np.dtype([("head", ">u8"), ("middle", ">u8"), ("last", ">u4")])
# Keys are digests: more equal heads than that are no chance, and looked through by whole keys.
_FEW = 16

Numbers = npt.NDArray[np.int64]


def numbers_of(raw: bytes) -> Array:
    """Keys of 20 bytes each, side by side, as numbers: KEY [m]."""
    found = np.frombuffer(raw, _RAW)
    return found.astype(KEY)


def texts_of(keys: Array) -> list[str]:
    """Keys (KEY or PLACE [m]) as 40 characters each."""
    raw = np.empty(len(keys), _RAW)
    for name in KEY.names or ():
        raw[name] = keys[name]
    joined = raw.tobytes().hex()
    return [joined[start : start + KEY_CHARS] for start in range(0, len(joined), KEY_CHARS)]


def asked(keys: Sequence[str]) -> Array:
    """Keys as somebody names them, as numbers: KEY [m].

    Raises:
        StoreError: something is no key at all.
    """
    strangers = not_keys(keys)
    if strangers:
        raise StoreError(f"a key has {KEY_CHARS} hexadecimal characters, got {strangers[0]!r}")
    return numbers_of(bytes.fromhex("".join(keys)))


def places_of(shards: Sequence[bytes]) -> Array:
    """All keys of shards, sorted: PLACE [n].

    Args:
        shards: the keys of each shard in row order, 20 bytes a key; its place in this list is its number.
    """
    counts = np.array([len(raw) // KEY_BYTES for raw in shards], np.int64)
    keys = numbers_of(b"".join(shards))
    places = np.empty(len(keys), PLACE)
    for name in KEY.names or ():
        places[name] = keys[name]
    places["shard"] = np.repeat(np.arange(len(shards)), counts)
    places["row"] = np.arange(len(keys)) - np.repeat(np.cumsum(counts) - counts, counts)
    return in_order(places)


def in_order(places: Array) -> Array:
    """Sorted by key, then shard and row."""
    found = places[np.argsort(places["head"])]
    tied = found["head"][1:] == found["head"][:-1]
    if tied.any():
        among = np.zeros(len(found), bool)
        among[1:] |= tied
        among[:-1] |= tied
        some = found[among]
        found[among] = some[np.lexsort([some[name] for name in ("row", "shard", "last", "middle", "head")])]
    return found


def matches(heads: Array, places: Array, wanted: Array) -> tuple[Numbers, Array]:
    """All pairs of a wanted key and a place of it.

    Args:
        heads: of `places`, uint64 [n], ascending. places: PLACE [p, q] with n = p q, sorted row by row.
        wanted: KEY [m].

    Returns:
        Positions in `wanted`, int64 [pairs], and PLACE [pairs].
    """
    first = np.searchsorted(heads, wanted["head"], "left")
    beyond = np.searchsorted(heads, wanted["head"], "right")
    many = np.flatnonzero(beyond - first > _FEW)
    if len(many):
        begin, end = int(first[many].min()), int(beyond[many].max())
        among, whole = _whole(places.reshape(-1)[begin:end]), _whole(wanted[many])
        first[many] = begin + np.searchsorted(among, whole, "left")
        beyond[many] = begin + np.searchsorted(among, whole, "right")
    counts = beyond - first
    which = np.repeat(np.arange(len(wanted)), counts)
    at = np.arange(len(which)) + np.repeat(first - (np.cumsum(counts) - counts), counts)
    found = places[at // places.shape[1], at % places.shape[1]]
    same = found["middle"] == wanted["middle"][which]
    same &= found["last"] == wanted["last"][which]
    return which[same], found[same]


def _whole(keys: Array) -> Array:
    """Keys as bytes of fixed length, which NumPy compares as a whole."""
    raw = np.empty(len(keys), _RAW)
    for name in KEY.names or ():
        raw[name] = keys[name]
    return raw.view(f"S{KEY_BYTES}")


def merged(sources: Sequence[Iterator[Array]]) -> Iterator[Array]:
    """Sorted sources as one, piece by piece; of each source one piece (or a run of equal heads) is held.

    Args:
        sources: each yields PLACE [any], sorted within and from piece to piece.
    """
    held: list[tuple[Array, Iterator[Array]]] = []
    for source in sources:
        if (piece := next(source, None)) is not None:
            held.append((piece, source))
    ended: list[Array] = []
    while held:
        limit = min(piece["head"][-1] for piece, _ in held)
        # What is below the limit is complete: whatever comes later in any source is not below it.
        cuts = [int(np.searchsorted(piece["head"], limit, "left")) for piece, _ in held]
        cuts_of_ended = [int(np.searchsorted(piece["head"], limit, "left")) for piece in ended]
        ready = [piece[:cut] for (piece, _), cut in zip(held, cuts, strict=True)]
        ready += [piece[:cut] for piece, cut in zip(ended, cuts_of_ended, strict=True)]
        if any(map(len, ready)):
            yield in_order(np.concatenate(ready))
        ended = [piece[cut:] for piece, cut in zip(ended, cuts_of_ended, strict=True)]
        left = [(piece[cut:], source) for (piece, source), cut in zip(held, cuts, strict=True)]
        held = []
        for piece, source in left:
            if piece["head"][-1] > limit:
                held.append((piece, source))
            elif (more := next(source, None)) is not None:
                held.append((np.concatenate([piece, more]), source))
            else:
                ended.append(piece)
        ended = [piece for piece in ended if len(piece)]
    if ended:
        yield in_order(np.concatenate(ended))
