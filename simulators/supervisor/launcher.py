"""The process that starts supervisors: it has read their program once and forks for each run.

The next supervisor is forked beforehand and waits for its run: a fork takes milliseconds until it can do anything.

It needs the standard library only, so that it holds nothing of the server's. A supervisor outlives it: it is in a
session of its own, and nobody's child when the launcher has gone. One that still waits for a run goes with it.
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
    spare = _fork(calls)
    while folder := os.read(calls, LONGEST_CALL):
        is_there = spare is not None and spare.begin(folder)
        if not is_there and (fresh := _fork(calls)) is not None:
            # The one before may have been killed while it waited; none begins a command before it has answered.
            is_there = fresh.begin(folder)
        try:
            os.write(calls, STARTED if is_there else FAILED)
        except BrokenPipeError:
            return
        spare = _fork(calls)


class _Spare:
    """A supervisor that waits for its run; `tell` and `told` are pipes to it and from it."""

    def __init__(self, tell: int, told: int) -> None:
        self._tell, self._told = tell, told

    def begin(self, folder: bytes) -> bool:
        """Give it the control folder of its run; says whether it has come up."""
        try:
            os.write(self._tell, folder)
            return bool(os.read(self._told, 1))
        except BrokenPipeError:
            return False
        finally:
            os.close(self._tell)
            os.close(self._told)


def _fork(calls: int) -> _Spare | None:
    """Return a new supervisor; None where the machine has no more processes or memory."""
    order, tell = os.pipe()
    told, answer = os.pipe()
    try:
        if os.fork() == 0:
            # Held open here, the order would never end when the launcher does.
            os.close(tell)
            os.close(told)
            _become_supervisor(order, calls, answer)
    except OSError:
        os.close(tell)
        os.close(told)
        return None
    finally:
        os.close(order)
        os.close(answer)
    return _Spare(tell, told)


def _become_supervisor(order: int, calls: int, answer: int) -> NoReturn:
    code, folder = 1, ""
    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY), calls)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        folder = os.fsdecode(os.read(order, LONGEST_CALL))
        os.close(order)
        if folder:
            supervise(folder, answer)
        code = 0
    except BaseException:
        if folder:
            with open(f"{folder}/{COMPLAINTS}", "a", encoding="utf-8") as complaints:
                traceback.print_exc(file=complaints)
        raise
    finally:
        os._exit(code)
