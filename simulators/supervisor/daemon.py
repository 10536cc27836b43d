"""How a supervisor leaves the process that started it, and comes to own its descendants.

It lives in a session of its own and outlives whoever started it. It is the reaper of all its descendants: a process
cannot get away from it by daemonising.
"""

import ctypes
import os

from simulators.supervisor.control import Control
from simulators.supervisor.processes import read_process
from simulators.supervisor.run import Run
from simulators.supervisor.title import set_title

_PR_SET_CHILD_SUBREAPER = 36
_LIBRARY = ctypes.CDLL(None, use_errno=True)


def supervise(folder: str, tell: int) -> None:
    """Leave the caller's session, write to `tell` once we can be found, and carry out the plan of a control folder."""
    os.setsid()
    os.umask(0o022)
    os.chdir(folder)
    if _LIBRARY.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "this kernel does not let a process reap its descendants")
    control = Control(folder)
    run = Run(control)
    set_title(f"simyard supervisor of {run.name}")
    me = read_process(os.getpid())
    assert me is not None
    control.write_pid(os.getpid(), me.start)
    os.write(tell, b".")
    os.close(tell)
    run.run()
