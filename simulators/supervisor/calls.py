"""What is said between a process and the launcher that starts its supervisors, and between that and them.

A call is one packet: the path of a control folder, and beside it the end of a pipe for writing, which whoever carries
the run closes with it. The answer is one of the first two below.
"""

import os
import socket

STARTED = b"1"
"""The supervisor is there."""
FAILED = b"0"
"""It is not; why stands in the folder's complaints."""
WAITS = b"w"
"""A supervisor's run is over, and it may be given another one."""
_LONGEST = 65536


def call(line: socket.socket, folder: bytes, over: int | None) -> None:
    """Send a call."""
    socket.send_fds(line, [folder], [] if over is None else [over])


def hear(line: socket.socket) -> tuple[bytes, int | None]:
    """Return the next call; without a folder nobody calls any more."""
    folder, handles, _, _ = socket.recv_fds(line, _LONGEST, 1)
    # One from before an upgrade sends none.
    over = handles[0] if handles else None
    if over is not None:
        # Python passes no flags on that would have it so from the beginning.
        os.set_inheritable(over, False)  # noqa: FBT003 - it takes no name
    return folder, over
