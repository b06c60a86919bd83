"""A shard: one immutable HDF5 file of feature rows, committed by a small JSON sidecar.

    <fingerprint>/<shard>.h5     keys S40 [n], checksums uint32 [n], arrays/<name> [n, …]
    <fingerprint>/<shard>.json   what is in it, its size and SHA-256, and where it came from

The order of writing is: `.h5.part`, flush, rename to `.h5`, sidecar. A `.h5` without a sidecar does
not exist for any reader.
"""

import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from store import hdf5
from store.errors import StoreError
from store.folders import Folder
from store.hdf5 import Array
from store.identity import Identity
from store.keys import KEY_CHARS

FORMAT = 1
Provenance = Mapping[str, Any]


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
        return self.identity.fingerprint

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
        return json.dumps({**body, "checksum": _checksum(body)}, indent=1, sort_keys=True).encode()

    @classmethod
    def from_bytes(cls, name: str, data: bytes) -> Self:
        """Parse and check a sidecar.

        Raises:
            StoreError: it is damaged, of a newer format, or belongs to another shard.
        """
        try:
            body = json.loads(data)
            checksum = body.pop("checksum")
            if checksum != _checksum(body):
                raise StoreError(f"sidecar {name}.json is damaged: its checksum does not fit")
            if body["format"] != FORMAT:
                raise StoreError(
                    f"sidecar {name}.json has format {body['format']}, this Deponij reads {FORMAT}; "
                    "run `deponij depot migrate` or a newer Deponij"
                )
            if body["shard"] != name:
                raise StoreError(f"sidecar {name}.json belongs to shard {body['shard']}; it was renamed")
            joined = body["keys"]
            keys = tuple(joined[i : i + KEY_CHARS] for i in range(0, len(joined), KEY_CHARS))
            if len(keys) != body["n_rows"]:
                raise StoreError(f"sidecar {name}.json names {len(keys)} keys for {body['n_rows']} rows")
            return cls(
                name=name,
                identity=Identity.from_dict(body["identity"]),
                keys=keys,
                arrays={key: tuple(shape) for key, shape in body["arrays"].items()},
                size_bytes=body["size_bytes"],
                sha256=body["sha256"],
                provenance=body["provenance"],
            )
        except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
            raise StoreError(f"sidecar {name}.json is damaged: {error!r}") from error


def commit(
    folder: Folder,
    name: str,
    identity: Identity,
    keys: Sequence[str],
    arrays: Mapping[str, Array],
    provenance: Provenance,
) -> Sidecar:
    """Write a shard and its sidecar; only when this returns do the rows exist.

    Args:
        name: `<fingerprint>/<shard>`.
        keys: n distinct keys.
        arrays: name -> [n, …].
    """
    checksums = row_checksums(arrays, len(keys))
    part = folder.staging(f"{name}.h5")
    with hdf5.creating(part) as file:
        file.attrs["format"] = f"deponij-shard/{FORMAT}"
        file.attrs["identity"] = identity.to_json()
        file.attrs["fingerprint"] = identity.fingerprint
        hdf5.write_strings(file, "keys", list(keys))
        hdf5.write_array(file, "checksums", checksums)
        group = file.create_group("arrays")
        for array_name, values in arrays.items():
            hdf5.write_array(group, array_name, values)
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
    folder.write(f"{name}.json", sidecar.to_bytes())
    return sidecar


def row_checksums(arrays: Mapping[str, Array], n_rows: int) -> npt.NDArray[np.uint32]:
    """CRC-32 of each row's bytes over all arrays in name order, uint32 [n]."""
    checksums = np.zeros(n_rows, np.uint32)
    for name in sorted(arrays):
        values = np.ascontiguousarray(arrays[name])
        for row in range(n_rows):
            checksums[row] = zlib.crc32(values[row].data, int(checksums[row]))
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
    file_name = f"{sidecar.name}.h5"
    if folder.size_bytes(file_name) != sidecar.size_bytes:
        raise StoreError(
            f"{folder.location}/{file_name} has {folder.size_bytes(file_name)} bytes, its sidecar says "
            f"{sidecar.size_bytes}: damaged; run `deponij depot verify --repair` to set it aside"
        )
    with folder.open(file_name) as raw, hdf5.reading(raw, f"{folder.location}/{file_name}") as file:
        if file.attrs.get("fingerprint") != sidecar.fingerprint:
            raise StoreError(f"{folder.location}/{file_name} holds another identity than its sidecar says")
        if len(file["keys"]) != len(sidecar.keys):
            raise StoreError(f"{folder.location}/{file_name} has another number of rows than its sidecar says")
        return {
            name: hdf5.read_rows(file[name] if name == "checksums" else file["arrays"][name], rows)
            for name in names
        }


def verify(folder: Folder, sidecar: Sidecar) -> str | None:
    """What is wrong with a shard's file, or None: size, SHA-256, keys."""
    file_name = f"{sidecar.name}.h5"
    try:
        with folder.open(file_name) as file:
            digest, size = _digest_stream(file)
        if size != sidecar.size_bytes:
            return f"{size} bytes instead of {sidecar.size_bytes}"
        if digest != sidecar.sha256:
            return "SHA-256 does not fit: bytes have changed"
        with folder.open(file_name) as raw, hdf5.reading(raw, file_name) as shard:
            if tuple(hdf5.read_strings(shard, "keys")) != sidecar.keys:
                return "its keys are not those of the sidecar"
    except FileNotFoundError:
        return "the file is missing"
    except StoreError as error:
        return str(error)
    return None


def _checksum(body: Mapping[str, Any]) -> str:
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(canonical.encode(), digest_size=16).hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return _digest_stream(file)[0]


def _digest_stream(file: Any) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    while block := file.read(1 << 20):
        digest.update(block)
        size += len(block)
    return digest.hexdigest(), size
