"""Files that carry a checksum of themselves, so that whoever reads one knows that it is what was written.

A JSON document has it in a field. A Parquet file has it between its pages and its footer, where readers of Parquet
do not look; tools that rewrite a table leave it out, so that a table without one is somebody else's. Files that
belong together are listed with theirs in one sealed document (`deponij.store.bundle`).
"""

import hashlib
import json
import mmap
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deponij.store.errors import StoreError, explained

CHECKSUM = "checksum"
_SEAL = b"deponij-sha256:"
_SEAL_BYTES = len(_SEAL) + hashlib.sha256().digest_size * 2
# Of Parquet: four bytes with the footer's length, and `PAR1`.
_TAIL_BYTES = 8


def sealed(body: Mapping[str, Any]) -> bytes:
    """JSON with a checksum of itself; the fields keep their order."""
    text = json.dumps({**body, CHECKSUM: _checksum(body)}, indent=1, ensure_ascii=False)
    return f"{text}\n".encode("utf-8", "surrogatepass")


def unsealed(data: bytes) -> dict[str, Any]:
    """What `sealed` made.

    Raises:
        ValueError: the checksum does not fit, or it is no JSON.
        KeyError, TypeError, AttributeError: it is no sealed JSON object.
    """
    try:
        body: dict[str, Any] = json.loads(data)
    except RecursionError as error:
        raise ValueError(f"it is nested too deeply: {error}") from error
    given = body.pop(CHECKSUM)
    if given != _checksum(body):
        raise ValueError("its checksum does not fit")
    return body


def opened(data: bytes, where: Path | str, remedy: str) -> dict[str, Any]:
    """What `sealed` made, for those who have only to say how the file is made again.

    Args:
        where: the file, for messages.
        remedy: what to do, as `run its stage again`.

    Raises:
        StoreError: it is damaged, was edited, or an older version wrote it.
    """
    try:
        document = json.loads(data)
        if isinstance(document, dict) and CHECKSUM in document:
            return unsealed(data)
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{where} is damaged or was edited: {error}; restore it, or {remedy}") from error
    raise StoreError(
        f"{where} has no {CHECKSUM!r}: an older version of Deponij wrote it, or another hand; {remedy}"
    )


def read_sealed(path: Path, remedy: str) -> dict[str, Any]:
    """As `opened`, of a file.

    Raises:
        StoreError: there is none, or as `opened`.
    """
    with explained(f"cannot read {path}"):
        data = path.read_bytes()
    return opened(data, path, remedy)


def sha256_of(data: bytes | memoryview) -> str:
    """64 hexadecimal characters."""
    return hashlib.sha256(data).hexdigest()


def seal_table(path: Path) -> None:
    """Give a Parquet file that is not yet in its place a checksum of all its bytes."""
    with path.open("r+b") as file:
        size_bytes = file.seek(0, os.SEEK_END)
        file.seek(size_bytes - _TAIL_BYTES)
        footer_at = _footer_at(size_bytes, file.read(4))
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(footer_at)
        footer = file.read()
        file.seek(footer_at)
        file.write(_SEAL + digest.encode() + footer)


def check_table(content: bytes | mmap.mmap, path: Path) -> None:
    """Refuse a Parquet file whose seal does not fit; one without is let through.

    Raises:
        StoreError: it has changed since it was written.
    """
    footer_at = _footer_at(len(content), content[-_TAIL_BYTES:-4])
    seal = content[max(0, footer_at - _SEAL_BYTES) : max(0, footer_at)]
    if not seal.startswith(_SEAL):
        return
    digest = hashlib.sha256(memoryview(content)[: footer_at - _SEAL_BYTES])
    digest.update(memoryview(content)[footer_at:])
    if seal != _SEAL + digest.hexdigest().encode():
        raise StoreError(
            f"{path} is damaged: it has changed since it was written; restore it, or make it again"
        )


def _footer_at(size_bytes: int, length: bytes) -> int:
    """Where the footer of a Parquet file begins."""
    return size_bytes - _TAIL_BYTES - int.from_bytes(length, "little")


def _checksum(body: Mapping[str, Any]) -> str:
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(canonical.encode(), digest_size=16).hexdigest()
