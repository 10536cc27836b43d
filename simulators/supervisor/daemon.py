"""How the supervisor leaves the process that started it, and comes to own its descendants.

It needs the standard library only, so that it starts in milliseconds and holds nothing of the server's. It lives in a
session of its own and outlives whoever started it. It is the reaper of all its descendants: a process cannot get away
from it by daemonising.
"""

import ctypes
import os

from simulators.supervisor.control import Control
from simulators.supervisor.processes import read_process
from simulators.supervisor.run import Run

_PR_SET_CHILD_SUBREAPER = 36


def main(folder: str) -> None:
    """Leave the caller's session, tell the caller that we live, and carry out the plan of a control folder."""
    told, tell = os.pipe()
    if os.fork():
        os.close(tell)
        # The caller may go on as soon as our process id stands in its file.
        os._exit(0 if os.read(told, 1) else 1)
    os.setsid()
    os.umask(0o022)
    os.chdir(folder)
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "this kernel does not let a process reap its descendants")
    control = Control(folder)
    run = Run(control)
    me = read_process(os.getpid())
    assert me is not None
    control.write_pid(os.getpid(), me.start)
    control.write_state({"phase": "starting"})
    os.write(tell, b".")
    os.close(tell)
    os.close(told)
    run.run()
