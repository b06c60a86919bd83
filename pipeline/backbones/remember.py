"""What this machine remembers between runs: small JSON answers that are slow to work out again.

An answer is filed under a topic and a key (any JSON value). Files lie under `cache_folder()`; each is
written atomically and can be deleted at any time: a missing, damaged or foreign file is an answer not
known. Nothing here is a source of truth, and nothing here knows what the answers mean.
"""

import hashlib
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from deponij.store.atomic import write_bytes
from deponij.store.caches import cache_folder
from deponij.store.errors import StoreError
from deponij.store.sealed import sealed, unsealed

logger = logging.getLogger(__name__)


def canonical(value: Any) -> str:
    """A JSON value as one string that does not depend on the order of its keys."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def sha256_of_value(value: Any) -> str:
    """SHA-256 (64 hex characters) of a JSON value."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def stamp(path: Path) -> list[str | int]:
    """[absolute path, size in bytes, mtime in ns]: what stands for a file's content without reading it.

    Symbolic links are followed, so a file of a hub cache is stamped by its blob.

    Raises:
        OSError: the file is not there.
    """
    status = path.stat()
    return [str(path.absolute()), status.st_size, status.st_mtime_ns]


def recall(topic: str, key: Any) -> Any | None:
    """The answer filed under `topic` and `key`, or None when it is not known or its file is damaged."""
    path = _file(topic, key)
    try:
        record = unsealed(path.read_bytes())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    if record.get("key") != json.loads(canonical(key)):
        return None
    return record.get("value")


def remember(topic: str, key: Any, value: Any) -> None:
    """File `value` (JSON) under `topic` and `key`; where the cache cannot be written, nothing happens."""
    path = _file(topic, key)
    try:
        write_bytes(path, sealed({"key": key, "value": value}))
    except StoreError as error:
        logger.debug("not remembered (%s): %s", topic, error)


def remembered(topic: str, key: Any, compute: Callable[[], Any]) -> Any:
    """The answer filed under `topic` and `key`; worked out by `compute` and filed when not known."""
    value = recall(topic, key)
    if value is None:
        value = compute()
        remember(topic, key, value)
    return value


def sha256_of_file(path: Path) -> str:
    """SHA-256 (64 hex characters) of a file's bytes, read at most once for each path, size and mtime.

    Raises:
        OSError: the file cannot be read.
    """
    return str(remembered("sha256", stamp(path), lambda: _sha256(path)))


def _file(topic: str, key: Any) -> Path:
    return cache_folder() / "memory" / topic / f"{sha256_of_value(key)[:32]}.json"


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
