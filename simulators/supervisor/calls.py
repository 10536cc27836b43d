"""What is said between a process and the launcher that starts its supervisors, and between that and them.

A call is one packet: the path of a control folder, and beside it the end of a pipe for writing, which whoever carries
the run closes with it. The answer is one of the first two below.
"""

import array
import socket

STARTED = b"1"
"""The supervisor is there."""
FAILED = b"0"
"""It is not; why stands in the folder's complaints."""
WAITS = b"w"
"""A supervisor's run is over, and it may be given another one."""
_LONGEST = 65536
_DESCRIPTOR = array.array("i").itemsize


def call(line: socket.socket, folder: bytes, over: int | None) -> None:
    """Send a call."""
    rights = [] if over is None else [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [over]))]
    line.sendmsg([folder], rights)


def hear(line: socket.socket) -> tuple[bytes, int | None]:
    """Return the next call; without a folder nobody calls any more."""
    folder, rights, _, _ = line.recvmsg(_LONGEST, socket.CMSG_SPACE(_DESCRIPTOR), socket.MSG_CMSG_CLOEXEC)
    handles = array.array("i")
    for _, _, data in rights:
        handles.frombytes(data[:_DESCRIPTOR])
    # One from before an upgrade sends none.
    return folder, handles[0] if handles else None
