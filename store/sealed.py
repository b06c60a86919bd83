"""Small JSON documents that carry a checksum of themselves."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def sealed(body: Mapping[str, Any]) -> bytes:
    """JSON with a checksum of itself."""
    return json.dumps({**body, "checksum": _checksum(body)}, indent=1, sort_keys=True).encode()


def unsealed(data: bytes) -> dict[str, Any]:
    """What `sealed` made.

    Raises:
        ValueError: the checksum does not fit, or it is no JSON.
        KeyError, TypeError, AttributeError: it is no sealed JSON object.
    """
    body: dict[str, Any] = json.loads(data)
    given = body.pop("checksum")
    if given != _checksum(body):
        raise ValueError("its checksum does not fit")
    return body


def _checksum(body: Mapping[str, Any]) -> str:
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(canonical.encode(), digest_size=16).hexdigest()
