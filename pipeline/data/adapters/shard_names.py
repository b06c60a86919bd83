"""What the items of one file among several are called after."""

import os
from collections.abc import Sequence
from pathlib import Path


def shard_names(files: Sequence[Path]) -> list[str]:
    """What the item ids begin with: the file's name, or where names repeat its path below the common one."""
    names = [path.name for path in files]
    if len(set(names)) == len(names):
        return names
    # Links stay as they are named: in the hub's cache they lead to files that are named by a hash.
    absolute = [Path(os.path.abspath(path)) for path in files]  # noqa: PTH100
    common = os.path.commonpath([path.parent for path in absolute])
    return [path.relative_to(common).as_posix() for path in absolute]
