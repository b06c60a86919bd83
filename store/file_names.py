"""What the files of a depot are called.

format.json                     what this folder is, and its format's version
<fingerprint>/<shard>.h5|json   rows and their commit; <shard>-<k> stand in for a shard
writers/<token>.lock            held by each living writer; empty (or .lease: `deponij.store.presence`)
damaged/…                       what `verify` set aside
"""

import re

from deponij.store.atomic import PART
from deponij.store.identity import FINGERPRINT_CHARS
from deponij.store.presence import LOCKS

FORMAT_FILE = "format.json"
DAMAGED = "damaged"
_TOKEN = r"(?P<token>[A-Za-z0-9-]+\.\d+\.[0-9a-f]{8})"
_OWNED = re.compile(
    rf"[0-9a-f]{{{FINGERPRINT_CHARS}}}/{_TOKEN}-\d{{6}}(-\d+)?\.(h5|json)(\.\d+)?({re.escape(PART)})?$"
)
_STAND_IN = re.compile(rf"(?P<shard>.+/{_TOKEN}-\d{{6}})-\d+$")
# A depot's marker in the making, or a lease in a local folder.
_MARKER_PART = re.compile(rf"{LOCKS}/{_TOKEN}(\.lease\.\d+)?{re.escape(PART)}$")


def is_sidecar(name: str) -> bool:
    """Whether a file's name is that of a commit."""
    return name.endswith(".json") and "/" in name and not name.startswith((LOCKS + "/", DAMAGED + "/"))


def stands_in_for(name: str) -> str | None:
    """The full shard whose place a stand-in (see `deponij.store.writer`) keeps; None for other shards."""
    match = _STAND_IN.match(name)
    return match["shard"] if match else None


def is_foreign(name: str) -> bool:
    """Whether a file is none that a depot has; such files are reported and never touched."""
    if name == FORMAT_FILE or name.startswith((LOCKS + "/", DAMAGED + "/")):
        return False
    return not is_sidecar(name) and writer_of(name) is None


def is_uncommitted(name: str, names: set[str]) -> bool:
    """Whether a file of these is one that no sidecar commits."""
    is_shard = name.endswith(".h5") and f"{name.removesuffix('.h5')}.json" not in names
    if not is_shard and not name.endswith(PART):
        return False
    return not name.startswith(DAMAGED + "/") and writer_of(name) is not None


def writer_of(name: str) -> str | None:
    """The writer's token in `<fingerprint>/<token>-<number>.…` or `writers/<token>.part`; None elsewhere."""
    match = _OWNED.match(name) or _MARKER_PART.match(name)
    return match["token"] if match else None
