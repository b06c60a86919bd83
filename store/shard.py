"""A shard: one immutable HDF5 file of feature rows, committed by a small JSON sidecar; and where a key lies in many.

    <fingerprint>/<shard>.h5     keys S40 [n], checksums uint32 [n], arrays/<name> [n, …]
    <fingerprint>/<shard>.json   what is in it, its size and SHA-256, and where it came from

The order of writing is: `.h5.part`, flush, rename to `.h5`, sidecar. A `.h5` without a sidecar does
not exist for any reader. Taking away goes the other way round: the sidecar first.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self

import h5py
import numpy as np
import numpy.typing as npt
from isal.isal_zlib import crc32

from deponij.store import hdf5
from deponij.store.errors import StoreError
from deponij.store.folders import Folder
from deponij.store.hdf5 import Array
from deponij.store.identity import Identity
from deponij.store.keys import KEY_CHARS, not_keys
from deponij.store.leases import LeaseLostError
from deponij.store.sealed import sealed, unsealed

# 2: maps lie in tiles, picture by picture; before that as rows of other arrays do.
FORMAT = 2
VERIFY_BYTES = 32 << 20
# Of one in so many rows each is read by itself and held against its own checksum; of more, whole chunks are.
FEW = 8
Provenance = Mapping[str, Any]
Rows = npt.NDArray[np.int64]
_MAP_AXES = 4  # [n, C, h, w]
_KEY_DTYPE = f"S{KEY_CHARS}"


@dataclass(frozen=True)
class Sidecar:
    """The commit of a shard.

    Attributes:
        name: `<fingerprint>/<shard>`, without ending.
        keys: one per row, in row order.
        arrays: name -> shape of a row.
        size_bytes, sha256: of the HDF5 file.
    """

    name: str
    identity: Identity
    keys: tuple[str, ...]
    arrays: dict[str, tuple[int, ...]]
    size_bytes: int
    sha256: str
    provenance: dict[str, Any]

    @property
    def fingerprint(self) -> str:
        """The identity's fingerprint, which is also the folder's name."""
        return self.name.split("/", maxsplit=1)[0]

    @property
    def layout(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """Array names and row shapes; only rows of one layout fit into one shard."""
        return tuple(sorted(self.arrays.items()))

    def to_bytes(self) -> bytes:
        """JSON with a checksum of itself."""
        body = {
            "format": FORMAT,
            "shard": self.name,
            "identity": json.loads(self.identity.to_json()),
            "n_rows": len(self.keys),
            "keys": "".join(self.keys),
            "arrays": {name: list(shape) for name, shape in self.arrays.items()},
            "size_bytes": self.size_bytes,
            "sha256": self.sha256,
            "provenance": self.provenance,
        }
        return sealed(body)

    @classmethod
    def from_bytes(cls, name: str, data: bytes) -> Self:
        """Parse and check a sidecar.

        Raises:
            StoreError: it is damaged, of a newer format, or belongs to another shard.
        """
        try:
            body = unsealed(data)
            if body["format"] != FORMAT:
                raise StoreError(
                    f"sidecar {name}.json has format {body['format']}, this Deponij reads {FORMAT}; "
                    "run `deponij depot migrate` or a newer Deponij"
                )
            if body["shard"] != name:
                raise StoreError(f"sidecar {name}.json belongs to shard {body['shard']}; it was renamed")
            joined = body["keys"]
            keys = tuple(joined[i : i + KEY_CHARS] for i in range(0, len(joined), KEY_CHARS))
            if not body["arrays"]:
                raise StoreError(f"sidecar {name}.json names no arrays")
            if len(keys) != body["n_rows"]:
                raise StoreError(f"sidecar {name}.json names {len(keys)} keys for {body['n_rows']} rows")
            identity = Identity.from_dict(body["identity"])
            if name.split("/", maxsplit=1)[0] != identity.fingerprint:
                raise StoreError(f"sidecar {name}.json lies in the folder of another identity")
            return cls(
                name=name,
                identity=identity,
                keys=keys,
                arrays={key: tuple(shape) for key, shape in body["arrays"].items()},
                size_bytes=body["size_bytes"],
                sha256=body["sha256"],
                provenance=body["provenance"],
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise StoreError(f"sidecar {name}.json is damaged: {error!r}") from error


def commit(
    folder: Folder,
    name: str,
    identity: Identity,
    keys: Sequence[str],
    arrays: Mapping[str, Array],
    *,
    provenance: Provenance,
    check: Callable[[], None] = lambda: None,
    confirm: Callable[[], None] = lambda: None,
) -> Sidecar:
    """Write a shard and its sidecar; only when this returns do the rows exist.

    Args:
        check: called right before the sidecar; raises where this process may no longer commit.
        confirm: called right after it; raises LeaseLostError where others may have taken the file for abandoned. Then
            nothing is left of the shard.
        name: `<fingerprint>/<shard>`.
        keys: n distinct keys.
        arrays: name -> [n, …].
    """
    part = folder.staging(f"{name}.h5")
    try:
        _build(part, name, identity, keys, arrays)
        sidecar = Sidecar(
            name=name,
            identity=identity,
            keys=tuple(keys),
            arrays={key: values.shape[1:] for key, values in arrays.items()},
            size_bytes=part.stat().st_size,
            sha256=_sha256(part),
            provenance=dict(provenance),
        )
        folder.publish(part, f"{name}.h5")
        check()
        folder.write(f"{name}.json", sidecar.to_bytes())
        # Only now: who takes this writer for dead from here on finds the sidecar, and leaves the file alone.
        confirm()
    except LeaseLostError:
        part.unlink(missing_ok=True)
        retire(folder, name)
        raise
    except BaseException:
        part.unlink(missing_ok=True)
        _drop_uncommitted(folder, name)
        raise
    return sidecar


def _drop_uncommitted(folder: Folder, name: str) -> None:
    # Whatever failed here (a full disk, say) is what has to be reported; a sweep comes later anyway.
    with suppress(StoreError):
        try:
            folder.size_bytes(f"{name}.json")
        except FileNotFoundError:
            folder.delete(f"{name}.h5")


def _build(
    part: Path, name: str, identity: Identity, keys: Sequence[str], arrays: Mapping[str, Array]
) -> None:
    with hdf5.creating(part) as file:
        hdf5.write_text(file, "format", f"deponij-shard/{FORMAT}")
        hdf5.write_text(file, "shard", name)
        hdf5.write_text(file, "identity", identity.to_json())
        hdf5.write_text(file, "fingerprint", identity.fingerprint)
        hdf5.write_strings(file, "keys", keys)
        hdf5.write_array(file, "checksums", row_checksums(arrays, len(keys)))
        group = file.create_group("arrays")
        if identity.is_of_maps and all(values.ndim == _MAP_AXES for values in arrays.values()):
            hdf5.write_maps(group, arrays)
            return
        for array_name, values in sorted(arrays.items()):
            hdf5.write_array(group, array_name, values)


def retire(folder: Folder, name: str) -> None:
    """Take a shard away, its sidecar first, so that a reader finds it whole or not at all."""
    folder.delete(f"{name}.json")
    folder.delete(f"{name}.h5")


def row_checksums(arrays: Mapping[str, Array], n_rows: int) -> npt.NDArray[np.uint32]:
    """CRC-32 of each row's bytes over all arrays in name order, uint32 [n]."""
    checksums = np.zeros(n_rows, np.uint32)
    for name in sorted(arrays):
        flat = np.ascontiguousarray(arrays[name]).reshape(-1).view(np.uint8).data
        step = len(flat) // max(1, n_rows)
        for row in range(n_rows):
            checksums[row] = crc32(flat[row * step : (row + 1) * step], int(checksums[row]))
    return checksums


def read(
    folder: Folder, sidecar: Sidecar, rows: npt.NDArray[np.int64], names: Sequence[str]
) -> dict[str, Array]:
    """Rows of some of a shard's datasets, chunk checksums checked.

    Args:
        rows: [m] row numbers, any order.
        names: array names, or `checksums`.

    Raises:
        FileNotFoundError: the shard has been compacted or collected meanwhile; look it up anew.
        StoreError: the file is damaged, or not the one the sidecar describes.
    """
    with opened(folder, sidecar) as file:
        if len(rows) * FEW <= len(sidecar.keys) and set(names) >= set(sidecar.arrays):
            found = _few(folder, sidecar, file, rows)
            if found is not None:
                return {name: found[name] for name in names}
        return {
            name: hdf5.read_rows(file[name] if name == "checksums" else file["arrays"][name], rows)
            for name in names
        }


def _few(folder: Folder, sidecar: Sidecar, file: h5py.File, rows: Rows) -> dict[str, Array] | None:
    """All arrays of some rows, and `checksums`, which they fit; None where rows cannot be read by themselves."""
    source = folder.source(f"{sidecar.name}.h5")
    datasets = {name: file["arrays"][name] for name in sidecar.arrays}
    if not isinstance(source, Path) or not all(map(hdf5.lies_row_by_row, datasets.values())):
        return None
    arrays = {name: hdf5.read_bare_rows(source, one, rows) for name, one in datasets.items()}
    checksums = hdf5.read_rows(file["checksums"], rows)
    wrong = np.flatnonzero(row_checksums(arrays, len(rows)) != checksums)
    if len(wrong):
        raise StoreError(
            f"{source} is damaged (run `deponij depot verify` on a depot): row {rows[wrong[0]]} does not fit its checksum"
        )
    return arrays | {"checksums": checksums}


@contextmanager
def opened(folder: Folder, sidecar: Sidecar, source: Path | IO[bytes] | None = None) -> Iterator[h5py.File]:
    """A shard's file, seen to be the one that the sidecar describes.

    Args:
        source: the file, where it is open already.

    Raises:
        FileNotFoundError: it is not there (any more).
        StoreError: it is damaged or another file.
    """
    file_name = f"{sidecar.name}.h5"
    where = f"{folder.location}/{file_name}"
    source = folder.source(file_name) if source is None else source
    size_bytes = folder.size_bytes(file_name) if isinstance(source, Path) else source.seek(0, os.SEEK_END)
    if size_bytes != sidecar.size_bytes:
        raise StoreError(
            f"{where} has {size_bytes} bytes, its sidecar says {sidecar.size_bytes}: damaged; "
            "run `deponij depot verify --repair` to set it aside"
        )
    with hdf5.reading(source, where) as file:
        if hdf5.read_text(file, "fingerprint") != sidecar.fingerprint:
            raise StoreError(f"{where} holds another identity than its sidecar says")
        if hdf5.read_text(file, "shard") != sidecar.name or len(file["keys"]) != len(sidecar.keys):
            raise StoreError(f"{where} is not the shard that its sidecar describes")
        yield file


def verify(folder: Folder, sidecar: Sidecar) -> str | None:
    """What is wrong with a shard's file, or None: size, SHA-256, keys, chunk and row checksums."""
    try:
        _verify(folder, sidecar)
    except FileNotFoundError:
        return "the file is missing"
    except StoreError as error:
        return str(error)
    return None


def _verify(folder: Folder, sidecar: Sidecar) -> None:
    source = folder.source(f"{sidecar.name}.h5")
    if isinstance(source, Path):
        with folder.open(f"{sidecar.name}.h5") as stream:
            digest, size_bytes = _digest_stream(stream)
    else:
        digest, size_bytes = _digest_stream(source)
    if size_bytes != sidecar.size_bytes:
        raise StoreError(f"{size_bytes} bytes instead of {sidecar.size_bytes}")
    if digest != sidecar.sha256:
        raise StoreError("SHA-256 does not fit: bytes have changed")
    with opened(folder, sidecar, source) as file:
        if tuple(hdf5.read_strings(file, "keys").tolist()) != sidecar.keys:
            raise StoreError("its keys are not those of the sidecar")
        if {name: item.shape[1:] for name, item in file["arrays"].items()} != sidecar.arrays:
            raise StoreError("its arrays are not those of the sidecar")
        n_wrong = int((_checksums_of(file, sidecar) != file["checksums"][:]).sum())
        if n_wrong:
            raise StoreError(f"{n_wrong} rows do not fit their checksums")


def _checksums_of(file: h5py.File, sidecar: Sidecar) -> npt.NDArray[np.uint32]:
    n_rows = len(sidecar.keys)
    row_bytes = sum(int(item.nbytes) for item in file["arrays"].values()) // max(1, n_rows)
    step = max(1, VERIFY_BYTES // max(1, row_bytes))
    found = np.zeros(n_rows, np.uint32)
    for start in range(0, n_rows, step):
        arrays = {name: item[start : start + step] for name, item in file["arrays"].items()}
        found[start : start + step] = row_checksums(arrays, min(step, n_rows - start))
    return found


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return _digest_stream(file)[0]


def _digest_stream(file: IO[bytes]) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    while block := file.read(1 << 20):
        digest.update(block)
        size += len(block)
    return digest.hexdigest(), size


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
        everything = np.array([key for sidecar in ordered for key in sidecar.keys], dtype=_KEY_DTYPE)
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
        wanted = np.array(list(keys), dtype=_KEY_DTYPE)
        if len(self.keys) == 0 or len(wanted) == 0:
            return np.full(len(wanted), -1, np.int64)
        places = np.searchsorted(self.keys, wanted).clip(max=len(self.keys) - 1)
        return np.where(self.keys[places] == wanted, places, -1).astype(np.int64)

    def owned(self, shard: int) -> Rows:
        """Rows of a shard that count, ascending [m]; the others are doubles."""
        return np.sort(self.rows[self.shards == shard])
