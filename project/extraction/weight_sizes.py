"""How large weights are, whether the disk has room for them, and how that is told; nothing is fetched. This is no stage."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from deponij.pipeline.backbones.catalog import Entry
from deponij.pipeline.backbones.sources import hub_cache
from deponij.store.errors import BackboneError


def size(n_bytes: int) -> str:
    """A size for people, in decimal units as disks and downloads are counted: 270 kB, 17 MB, 1.2 GB."""
    if n_bytes < 999.5e3:
        return f"{n_bytes / 1e3:.0f} kB"
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 999.5e6 else f"{n_bytes / 1e6:.0f} MB"


def free_bytes(folder: Path) -> int:
    """Free space of the disk that a folder lies or would lie on."""
    folder = folder.absolute()
    return shutil.disk_usage(next(one for one in (folder, *folder.parents) if one.exists())).free


def to_fetch(absent: Sequence[Entry]) -> list[str]:
    """Lines on what a download would bring: each with size and licence, then the sum and the room for it."""
    lines = []
    for entry in absent:
        told = "size not known" if entry.weights_bytes is None else f"about {size(entry.weights_bytes)}"
        lines.append(f"  {entry.name}: {told}, {entry.licence or 'licence not known: see its page'}")
    total = sum(entry.weights_bytes or 0 for entry in absent)
    room = size(free_bytes(hub_cache()))
    return [*lines, f"  together about {size(total)}; {room} are free at {hub_cache()}"]


def require_room(absent: Sequence[Entry]) -> None:
    """Refuse a download that the disk has no room for.

    Raises:
        BackboneError: there is too little, by the catalog's sizes.
    """
    total, free = sum(entry.weights_bytes or 0 for entry in absent), free_bytes(hub_cache())
    if total > free:
        names = ", ".join(entry.name for entry in absent)
        raise BackboneError(
            f"the weights of {names} take about {size(total)}, and {size(free)} are free at {hub_cache()}; make room "
            "there, or name a folder on another disk with HF_HUB_CACHE"
        )
