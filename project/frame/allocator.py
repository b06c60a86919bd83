"""Keeps the memory of large arrays between uses, where the C library is glibc.

glibc maps memory for every large array anew and gives it back when the array dies, so that each layer of a
network first waits for the kernel to clear pages: on two cores that was half to two thirds of a convolutional
network's time. `keep_pages` tells it to take large arrays from the heap and not to shrink the heap; a process
then stays about as large as it was at its largest. Other C libraries are left alone.
"""

import ctypes
import os
from enum import StrEnum

from deponij.store.errors import UsageError

# <malloc.h>
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_LARGEST_INT = 2**31 - 1
_TOP_PAD_BYTES = 256 << 20
SWITCH = "DEPONIJ_KEEP_PAGES"
_ON, _OFF = ("1", "true", "yes", "on"), ("0", "false", "no", "off")
# Somebody who sets one of these knows what they want of glibc's malloc.
_OWN_SETTINGS = ("MALLOC_MMAP_MAX_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_")


class Pages(StrEnum):
    """What becomes of a dead array's memory; the values are what `deponij doctor` says."""

    KEPT = "kept"
    SWITCHED_OFF = f"given back (by {SWITCH})"
    OWN = "as the environment's own settings of malloc say"
    NOT_GLIBC = "left to the C library, which is not glibc"
    REFUSED = "given back: glibc refused the setting"


def keep_pages() -> Pages:
    """Let this process keep what it has; costs microseconds and may be called again.

    Raises:
        UsageError: the switch is set to something else than on or off.
    """
    if not _is_on(os.environ.get(SWITCH) or "1"):
        return Pages.SWITCHED_OFF
    if any(name in os.environ for name in _OWN_SETTINGS) or "glibc.malloc." in os.environ.get(
        "GLIBC_TUNABLES", ""
    ):
        return Pages.OWN
    if not _is_glibc():
        return Pages.NOT_GLIBC
    mallopt = ctypes.CDLL(None).mallopt
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _LARGEST_INT), (_M_TOP_PAD, _TOP_PAD_BYTES))
    answers = {mallopt(what, value) for what, value in settings}
    return Pages.KEPT if answers == {1} else Pages.REFUSED


def _is_on(value: str) -> bool:
    word = value.strip().lower()
    if word not in (*_ON, *_OFF):
        raise UsageError(f"{SWITCH} is {', '.join(_ON)}, or {', '.join(_OFF)}; got {value!r}")
    return word in _ON


def _is_glibc() -> bool:
    try:
        return (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc")
    except (AttributeError, ValueError, OSError):  # no Unix, or a C library that does not know the name
        return False
