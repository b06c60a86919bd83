"""Who of several gets a name, where a store cannot give it to one of them: it lets everybody write.

Each says that it wants the name, and waits for the others' wishes; of those that were there in time the smallest writes,
and looks after another pause whether its own writing stayed. Two can both come away with the name if a request of one
takes longer than the pause, and nothing finds that out afterwards. Where the store itself can decide, as S3 and GCS can,
none of this is used.
"""

import secrets
import time
from typing import TYPE_CHECKING

from deponij.store.atomic import PART

if TYPE_CHECKING:
    from deponij.store.folders import Folder

SETTLE_S = 2.0
_WISH = ".wish"
# What a killed process wished for counts no longer than this.
_WISH_COUNTS_S = 120.0


def probe_name() -> str:
    """Of a file that goes at once; the name of a writer's part, so that a sweep takes what a kill has left."""
    return f"writers/probe.0.{secrets.token_hex(4)}{PART}"


def settle(folder: "Folder", name: str, data: bytes) -> bool:
    """Write a file where there is none of that name, if nobody else who wants it comes before this process.

    Args:
        data: nobody else's.
    """
    if _is_there(folder, name):
        return False
    wish = f"{name}.{secrets.token_hex(8)}{_WISH}"
    folder.write(wish, data)
    try:
        time.sleep(SETTLE_S)
        if min(_wishes(folder, name, wish)) != wish or _is_there(folder, name):
            return False
        folder.write(name, data)
        time.sleep(SETTLE_S)
        return folder.read(name) == data
    finally:
        folder.delete(wish)


def _wishes(folder: "Folder", name: str, mine: str) -> list[str]:
    others = [
        n for n in folder.names(name.rpartition("/")[0]) if n.startswith(f"{name}.") and n.endswith(_WISH)
    ]
    # By this place's own clock: my wish was written now.
    now_s = folder.modified_s(mine) + SETTLE_S
    return [mine, *(n for n in others if n != mine and now_s - _written(folder, n) < _WISH_COUNTS_S)]


def _written(folder: "Folder", name: str) -> float:
    try:
        return folder.modified_s(name)
    except FileNotFoundError:
        return float("-inf")


def _is_there(folder: "Folder", name: str) -> bool:
    try:
        folder.size_bytes(name)
        return True
    except FileNotFoundError:
        return False
