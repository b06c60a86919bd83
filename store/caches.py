"""Where this user's caches lie. What is in them is nobody's truth and can be deleted at any time."""

import os
import socket
from pathlib import Path

_MACHINE_ID = Path("/etc/machine-id")


def cache_folder() -> Path:
    """Folder of this user's caches: `DEPONIJ_CACHE`, else `~/.cache/deponij` (XDG_CACHE_HOME honoured)."""
    given = os.environ.get("DEPONIJ_CACHE")
    if given:
        return Path(given).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "deponij"


def this_machine() -> str:
    """What tells this machine from others that share the user's home: systemd's id of it, else its name."""
    try:
        told = _MACHINE_ID.read_text("ascii", "replace").strip()
    except OSError:
        told = ""
    # What systemd writes into images that are yet to be started.
    return socket.gethostname() if told in ("", "uninitialized") else told
