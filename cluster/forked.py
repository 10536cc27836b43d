"""The program that starts in the place of another one, which it has forked; see `cluster.fork_server`.

`python cluster/forked.py PROGRAM ARGUMENT...` stands for `python PROGRAM ARGUMENT...`, where the program is a file or
`-m MODULE`. It ends with it, and with its exit code. A worker, which Ray's raylet knows by its connection, it leaves
behind. Where nothing can be forked it becomes the program itself.

It imports little: it is started for each worker.
"""

import json
import os
import signal
import socket
import struct
import sys

ADDRESS = "SIMYARD_FORK_SERVER"
"""The environment variable with the socket's path, in everything that the raylet starts."""

REFUSED = b"0"
"""The answer where nothing was forked, and whoever has asked may go on by itself."""
BEGUN = b"1"
"""The answer of the fork itself. Where there is none, and nobody who could give it, nothing was forked that lives."""

_LANGUAGE = "--language="
_RUNTIME_ENV = "--serialized-runtime-env-context="
_ANSWER_SECONDS = 60.0
"""Ray gives a worker up after as many."""


def main() -> None:
    """Have the program forked, or become it where that cannot be."""
    address = os.environ.pop(ADDRESS, "")
    is_worker = any(one.startswith(_LANGUAGE) for one in sys.argv)
    argv = [one for one in sys.argv[1:] if one != f"{_LANGUAGE}PYTHON"]
    if not address or any(one.startswith((_LANGUAGE, _RUNTIME_ENV)) for one in argv):
        _be_the_program(is_worker)
    with open("/proc/self/oom_score_adj", encoding="ascii") as score:  # noqa: PTH123 - pathlib is not imported for it
        request = {
            "argv": argv,
            "environment": dict(os.environ),
            "nice": os.getpriority(os.PRIO_PROCESS, 0),
            "oom_score": int(score.read()),
            "blocked": [int(one) for one in signal.pthread_sigmask(signal.SIG_BLOCK, [])],
        }
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        try:
            server.connect(address)
            _, user, _ = struct.unpack("3i", server.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            if user != os.geteuid():  # Ray lets everybody write into its folder
                raise PermissionError(user)
            socket.send_fds(server, [json.dumps(request).encode()], [0, 1, 2])
        except OSError:
            _be_the_program(is_worker)
        server.settimeout(_ANSWER_SECONDS)
        try:
            has_begun = server.recv(20) == BEGUN
        except ConnectionError:
            has_begun = False
        if not has_begun:
            _be_the_program(is_worker)
        if is_worker:
            sys.exit()
        server.settimeout(None)
        sys.exit(int(server.recv(20) or 1))


def _be_the_program(is_worker: bool) -> None:
    if not is_worker:
        os.execv(sys.executable, [sys.executable, *sys.argv[1:]])  # noqa: S606 - no shell is wanted
    # The program that Ray has for this; what follows it on the command line is the same.
    from importlib.util import find_spec

    found = find_spec("ray")
    assert found is not None and found.submodule_search_locations
    program = f"{found.submodule_search_locations[0]}/_private/workers/setup_worker.py"
    os.execv(sys.executable, [sys.executable, program, *sys.argv[1:]])  # noqa: S606 - likewise


if __name__ == "__main__":
    del sys.path[0]  # this file's folder, whose modules' names are not meant for everybody
    main()
