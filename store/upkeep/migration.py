"""Bringing a depot of an older format up to the one that this code reads and writes.

`MIGRATIONS` maps a version to the function that makes the next one of it. Such a function may be
killed and is then run again from its start, so it must pass over what it has done already. The
marker is raised after each step; until then everybody but `migrate` refuses the depot or, being of
the older version, reads what is still in the old form.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from deponij.store import shard
from deponij.store.depot import FeatureStore, is_sidecar, read_format, write_format
from deponij.store.errors import StoreError
from deponij.store.folders import Folder, open_folder
from deponij.store.presence import burying, tidying
from deponij.store.sealed import sealed, unsealed
from deponij.store.upkeep.progress import Progress, told

Migration = Callable[[Folder, Progress | None], None]


def _to_tiles(folder: Folder, progress: Progress | None) -> None:
    """From 1 to 2: nothing of vectors changes, and maps that were written before are read as they lie."""
    rewrite_sidecars(folder, 1, lambda body: body, progress)


# The first format is 1; there is nothing older to come from.
MIGRATIONS: dict[int, Migration] = {1: _to_tiles}


def migrate(location: str | Path, *, progress: Progress | None = None) -> list[int]:
    """Bring a depot up to the present format, one version after another.

    Args:
        progress: called by each step with (files done, files in all).

    Returns:
        The versions that were passed through; empty where the depot is of the present format.

    Raises:
        StoreError: there is no depot, its format is newer, no way leads from it, or somebody is
            writing to it.
    """
    folder = open_folder(location)
    version = read_format(folder)
    if version is None:
        raise StoreError(f"there is no depot at {folder.location}")
    if version > shard.FORMAT:
        raise StoreError(
            f"the depot {folder.location} has format {version}, this Deponij writes {shard.FORMAT}: "
            "install a newer Deponij"
        )
    steps = list(range(version, shard.FORMAT))
    without = [step for step in steps if step not in MIGRATIONS]
    if without:
        raise StoreError(
            f"there is no way from format {without[0]} to {without[0] + 1}; known: {sorted(MIGRATIONS)}"
        )
    if steps:
        with tidying(folder):
            _refuse_writers(folder)
            for step in steps:
                MIGRATIONS[step](folder, progress)
                write_format(folder, step + 1)
    # What a migration that was killed has left half written.
    FeatureStore(location).sweep()
    return steps


def rewrite_sidecars(
    folder: Folder,
    version: int,
    change: Callable[[dict[str, Any]], dict[str, Any]],
    progress: Progress | None,
) -> None:
    """Replace each sidecar of `version` by what `change` makes of its body; for migrations.

    Damaged sidecars are left for `verify`.
    """
    names = [name for name in folder.names() if is_sidecar(name)]
    for name in told(names, progress):
        try:
            body = unsealed(folder.read(name))
            if body["format"] != version:
                continue
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
        folder.write(name, sealed({**change(body), "format": version + 1}))


def _refuse_writers(folder: Folder) -> None:
    with burying(folder) as presence:
        others = sorted(token for token in presence.living if "." in token)
    if others:
        raise StoreError(
            f"somebody is writing to {folder.location} ({others[0]}); migrate when that has ended"
        )
