"""The process that starts supervisors: it has read their program once and forks for each run.

It needs the standard library only, so that it holds nothing of the server's. A supervisor outlives it: it is in a
session of its own, and nobody's child when the launcher has gone.
"""

from __future__ import annotations

import gc
import os
import signal
import traceback
from typing import NoReturn

from simulators.supervisor.calls import FAILED, LONGEST_CALL, STARTED
from simulators.supervisor.control import COMPLAINTS
from simulators.supervisor.daemon import supervise
from simulators.supervisor.priority import set_oom_score


def serve(calls: int) -> None:
    """Start a supervisor for each control folder that is named on a socket, until its other end is closed."""
    # When the machine runs out of memory an actor of Ray's would be the first to go, and its supervisors with it.
    set_oom_score(0)
    # A supervisor that has ended leaves no zombie; each of them takes its own children's ends back.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    # What is here now stays: a supervisor that looks through its garbage would copy all of it.
    gc.freeze()
    while folder := os.read(calls, LONGEST_CALL):
        try:
            os.write(calls, STARTED if _start(os.fsdecode(folder), calls) else FAILED)
        except BrokenPipeError:
            return


def _start(folder: str, calls: int) -> bool:
    told, tell = os.pipe()
    try:
        if os.fork() == 0:
            _become_supervisor(folder, calls, tell)
    except OSError:  # the machine has no more processes or memory
        return False
    finally:
        os.close(tell)
    try:
        return bool(os.read(told, 1))
    finally:
        os.close(told)


def _become_supervisor(folder: str, calls: int, tell: int) -> NoReturn:
    code = 1
    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY), calls)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        supervise(folder, tell)
        code = 0
    except BaseException:
        with open(f"{folder}/{COMPLAINTS}", "a", encoding="utf-8") as complaints:
            traceback.print_exc(file=complaints)
        raise
    finally:
        os._exit(code)
