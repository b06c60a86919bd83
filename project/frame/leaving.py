"""How a process ends that has nothing left to do.

At its end Python frees every object one by one: 1.2 s where torch was imported, 2.6 s with transformers, of
processes that live for ten. The system frees all of it at once.
"""

import atexit
import os
import sys
import threading


def leave(status: int) -> None:
    """End this process as multiprocessing ends its own: threads are awaited, exit functions run, nothing is freed.

    Returns where Python must end as usual: a debugger, a profiler or a measure of coverage has yet to write what
    it saw, somebody has closed the pipe, of which Python tells at its end, or Ctrl-C ended the wait for threads.
    """
    if _is_watched():
        return
    try:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:  # closed by who started the process
                stream.flush()
    except (KeyboardInterrupt, OSError, ValueError):
        return
    os._exit(status)


def _is_watched() -> bool:
    monitoring = getattr(sys, "monitoring", None)  # Python 3.12
    return (
        sys.gettrace() is not None
        or sys.getprofile() is not None
        or (monitoring is not None and any(monitoring.get_tool(tool) for tool in range(6)))
    )
