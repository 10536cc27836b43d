"""How a supervisor leaves the process that started it, and comes to own its descendants.

It lives in a session of its own and outlives whoever started it. It is the reaper of all its descendants: a process
cannot get away from it by daemonising.
"""

import ctypes
import os
from collections.abc import Callable
from functools import cache

from simulators.supervisor.control import Control
from simulators.supervisor.processes import read_process
from simulators.supervisor.run import Run
from simulators.supervisor.title import set_title

_PR_SET_CHILD_SUBREAPER = 36
_LIBRARY = ctypes.CDLL(None, use_errno=True)


def detach() -> None:
    """Leave the caller's session, and become the reaper of all that this process will start."""
    os.setsid()
    os.umask(0o022)
    if _LIBRARY.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "this kernel does not let a process reap its descendants")


def supervise(folder: str, begun: Callable[[], object]) -> bool:
    """Carry out the plan of a control folder, and call `begun` once we can be found in it.

    Say whether this process may carry another one: nothing of the run is left in it or below it.
    """
    os.chdir(folder)
    control = Control(folder)
    run = Run(control)
    set_title(f"simyard supervisor of {run.name}")
    control.write_pid(os.getpid(), _start_of(os.getpid()))
    begun()
    may_go_on = run.run()
    os.chdir("/")
    set_title("simyard supervisor that waits")
    return may_go_on


@cache
def _start_of(pid: int) -> int:
    """Return when a living process was started, in clock ticks; that stays as it is."""
    process = read_process(pid)
    assert process is not None
    return process.start
