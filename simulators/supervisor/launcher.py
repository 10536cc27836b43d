"""The process that starts supervisors: it has read their program once, and forks one when none waits for a run.

One is forked beforehand. After a run that came to its own end a supervisor waits for the next one, since a fresh fork
costs more than a short run: it copies each page of memory that it touches.

It needs the standard library only, so that it holds nothing of the server's. A supervisor outlives it: it is in a
session of its own, and nobody's child when the launcher has gone. One that waits for a run goes with it.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import traceback
from typing import NoReturn

from simulators.supervisor.calls import FAILED, STARTED, WAITS, call, hear
from simulators.supervisor.control import COMPLAINTS
from simulators.supervisor.daemon import detach, supervise
from simulators.supervisor.priority import set_oom_score


def serve(calls: int) -> None:
    """Let a supervisor carry the run of each control folder that is named on a socket, until that is closed."""
    # When the machine runs out of memory an actor of Ray's would be the first to go, and its supervisors with it.
    set_oom_score(0)
    # A supervisor that has ended leaves no zombie; each of them takes its own children's ends back.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    # What is here now stays: a supervisor that looks through its garbage would copy all of it.
    gc.freeze()
    line = socket.socket(fileno=calls)
    crew = [one for one in (_fork(),) if one is not None]
    while True:
        folder, over = hear(line)
        if not folder:
            return
        crew = _dismissed([one for one in crew if one.is_there()])
        is_begun = _begin(crew, folder, over)
        if over is not None:
            os.close(over)
        try:
            line.send(STARTED if is_begun else FAILED)
        except BrokenPipeError:
            return


def _dismissed(crew: list[_Supervisor]) -> list[_Supervisor]:
    """Return the crew without those that wait beside another: many runs at once may have needed them."""
    waiting = [one for one in crew if one.waits]
    for one in waiting[1:]:
        one.close()
    return [one for one in crew if one not in waiting[1:]]


def _begin(crew: list[_Supervisor], folder: bytes, over: int | None) -> bool:
    """Give a run to a supervisor that waits, or to a new one; says whether it has come up."""
    waiting = next((one for one in crew if one.waits), None)
    if waiting is not None and waiting.begin(folder, over):
        return True
    # The one before may have been killed while it waited; none begins a command before it has answered.
    fresh = _fork()
    if fresh is None or not fresh.begin(folder, over):
        return False
    crew.append(fresh)
    return True


class _Supervisor:
    """A supervisor, by our end of the line to it."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line
        self.waits = True

    def is_there(self) -> bool:
        """Say whether it still lives, and take note of what it has said."""
        try:
            said = self._line.recv(1, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return True
        except OSError:
            said = b""
        if said != WAITS:
            self.close()
            return False
        self.waits = True
        return True

    def close(self) -> None:
        """Let it end, where it waits for a run; one that carries a run goes on."""
        self._line.close()

    def begin(self, folder: bytes, over: int | None) -> bool:
        """Give it the control folder of its run; says whether it has come up."""
        self.waits = False
        try:
            call(self._line, folder, over)
            return self._line.recv(1) == STARTED
        except OSError:
            return False


def _fork() -> _Supervisor | None:
    """Return a new supervisor; None where the machine has no more processes or memory."""
    try:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            if os.fork() == 0:
                _become_supervisor(theirs.fileno())
    except OSError:
        return None
    return _Supervisor(ours)


def _become_supervisor(handle: int) -> NoReturn:
    code, folder = 1, ""
    try:
        os.dup2(handle, 3, inheritable=False)
        # Held open here, the lines of the others would not end with the launcher.
        os.closerange(4, 1 + max(map(int, os.listdir("/proc/self/fd"))))
        os.dup2(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC), 0)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        detach()
        line = socket.socket(fileno=3)
        while True:
            name, over = hear(line)
            if not name:
                break
            folder = os.fsdecode(name)
            may_go_on = supervise(folder, lambda: line.send(STARTED))
            folder = ""
            if over is None or not may_go_on:
                break
            # First this: whoever sees the pipe closed may ask for a supervisor at once.
            line.send(WAITS)
            os.close(over)
        code = 0
    except BaseException:
        if folder:
            with open(f"{folder}/{COMPLAINTS}", "a", encoding="utf-8") as complaints:
                traceback.print_exc(file=complaints)
        raise
    finally:
        os._exit(code)
