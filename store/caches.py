"""Where this user's caches lie. What is in them can be deleted at any time; nothing there is a source of truth."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """Folder of this user's caches: `DEPONIJ_CACHE`, else `~/.cache/deponij` (XDG_CACHE_HOME honoured)."""
    given = os.environ.get("DEPONIJ_CACHE")
    if given:
        return Path(given).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "deponij"
