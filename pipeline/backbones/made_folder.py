"""Folders that are made once, in a family's own format, from something else that is on this machine.

One is made aside, opened once, which fills the model exactly, sealed with the checksum of each file, and renamed; a
folder that its seal does not fit is made anew. Two processes that want the same one wait for each other.
"""

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from deponij.pipeline.backbones.contract import Backbone, Location
from deponij.pipeline.backbones.remember import sha256_of_file
from deponij.store.errors import BackboneError

_SEAL = "made.json"
# Making one takes seconds; who waits longer waits for a process that hangs.
_PATIENCE_S = 300


def require_made(
    location: Location, family: type[Backbone], write: Callable[[Path], object], said: Mapping[str, Any]
) -> None:
    """Make a backbone's folder where it is absent or damaged.

    Args:
        location: whose folder it is; its name must stand for all that the content depends on.
        write: puts weights and records into an empty folder.
        said: goes into the seal.

    Raises:
        BackboneError: what was written is no model of the family, another process hangs, or the cache cannot be written.
        DeponijError: what `write` raises of these.
    """
    folder = location.folder_of(family.family)
    if _is_sound(folder):
        return
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f"{folder.name}.lock"), timeout=_PATIENCE_S):
            # Another process may have made it while this one waited.
            if not _is_sound(folder):
                _make(location, folder, family, write, said)
    except Timeout as error:
        raise BackboneError(
            f"{location.name}: another process has been making {folder} for too long"
        ) from error
    except OSError as error:
        raise BackboneError(
            f"{location.name}: {folder} cannot be written ({error.strerror or error}); "
            "name a folder for caches with DEPONIJ_CACHE"
        ) from error


def _is_sound(folder: Path) -> bool:
    """Whether everything is there as it was made."""
    try:
        files = json.loads((folder / _SEAL).read_text(encoding="utf-8"))["files"]
        return bool(files) and all(sha256_of_file(folder / name) == sha256 for name, sha256 in files.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False


def _make(
    location: Location,
    folder: Path,
    family: type[Backbone],
    write: Callable[[Path], object],
    said: Mapping[str, Any],
) -> None:
    for stale in folder.parent.glob(f".{folder.name}.*"):
        # Of a process that was killed: whoever makes one holds the lock.
        shutil.rmtree(stale, ignore_errors=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        made = aside / "made"
        made.mkdir()
        write(made)
        there = replace(location, folder=made)
        family.open(there, family.describe(there))
        files = {path.name: sha256_of_file(path) for path in sorted(made.iterdir())}
        seal = {**said, "files": files}
        (made / _SEAL).write_text(json.dumps(seal, indent=1) + "\n", encoding="utf-8")
        if folder.exists():
            folder.rename(aside / "damaged")
        made.rename(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
