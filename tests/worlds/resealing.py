"""Files as another version or a tool would write them: of other content, but with checksums that fit."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from deponij.store.bundle import MANIFEST
from deponij.store.sealed import sealed, sha256_of, unsealed


def relist(folder: Path) -> None:
    """Make the files that lie in a folder a bundle."""
    files = {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.name != MANIFEST}
    listed = {name: {"size_bytes": len(data), "sha256": sha256_of(data)} for name, data in files.items()}
    (folder / MANIFEST).write_bytes(sealed({"format": 1, "files": listed}))


def rewrite(path: Path, change: Callable[[Any], Any]) -> None:
    """Change a JSON document of a bundle."""
    path.write_text(json.dumps(change(json.loads(path.read_bytes()))))
    relist(path.parent)


def reseal(path: Path, change: Callable[[Any], Any]) -> None:
    """Change a sealed JSON document."""
    path.write_bytes(sealed(change(unsealed(path.read_bytes()))))
