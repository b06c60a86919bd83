"""Mounts whose locks only the processes of one machine see, as Linux tells of them.

There flock succeeds and says nothing; only the mount's options do. What a mount does not tell (a server that has no lock
daemon, a file system that has no locks) flock itself says when it is tried: `deponij.store.presence`.
"""

import re
from functools import cache
from pathlib import Path

MOUNTS = Path("/proc/self/mountinfo")
# By file system, and by option where that is what does it.
_OWN_LOCKS = (
    (r"nfs4?", r"nolock|local_lock=(?:all|flock)"),
    (r"lustre", r"localflock"),
    (r"cifs|smb3", r"nobrl"),
    # Locks of the client alone, unless it is told otherwise in a file that the mount does not show.
    (r"beegfs", ""),
    (r"fuse\.(?:sshfs|s3fs|gcsfuse|goofys|rclone|blobfuse2?|mount-s3|mountpoint-s3)", ""),
)


@cache
def why_locks_are_unseen(folder: Path, mounts: Path = MOUNTS) -> str | None:
    """Why other machines do not see locks of a folder; None where they do, or where no mount says so.

    Args:
        mounts: in the form of Linux's `/proc/self/mountinfo`; absent elsewhere.
    """
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    where = folder.resolve()
    longest, reason = -1, None
    for line in lines:
        # ID parent device root POINT OPTIONS tags… - KIND source OPTIONS
        before, _, after = line.partition(" - ")
        point = re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), before.split()[4])
        # Of mounts on one point the last one counts.
        if where.is_relative_to(point) and len(point) >= longest:
            kind, *_, options = after.split()
            longest = len(point)
            reason = _reason(point, kind, f"{before.split()[5]},{options}".split(","))
    return reason


def _reason(point: str, kind: str, options: list[str]) -> str | None:
    for system, option in _OWN_LOCKS:
        matching = [one for one in options if option and re.fullmatch(option, one)]
        if re.fullmatch(system, kind) and (matching or not option):
            told = f" with {matching[0]}" if matching else ""
            return f"{point} is mounted as {kind}{told}: other machines do not see its locks"
    return None
