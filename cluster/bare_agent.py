"""The program that stands for one of Ray's agents on a machine, and becomes it when it is wanted.

A raylet takes no workers until its two agents have written down on which ports they answer, and ends when one of them
ends. Each of Ray's own imports Ray and much more for that, and holds 75 MiB. This one imports nothing of Ray, and
becomes the agent as the same process. Decision 0023 has the figures.

- The *dashboard's agent* is of use only while somebody looks at the dashboard, and looks at all processes each few
  seconds. The token of the cluster wakes it.
- The *agent of runtime environments* is asked only where a worker is to have an environment of its own, which our own
  never have. The first connection wakes it, and it is the first that it answers.

`bare_agent.py AGENT OPTION...` stands for the program AGENT; `bare_agent.py become AGENT OPTION...` is that program,
which answers on the socket that is its standard input.
"""

import hmac
import os
import runpy
import select
import socket
import sys

UNUSED = ("metrics_agent_port", "metrics_export_port")
LISTENS = "dashboard_agent_listen_port"
ENVIRONMENTS = "runtime_env_agent_port"
"""The files that a raylet waits for, without the node's id; Ray's `persist_port` writes them."""

_TOKEN_SECONDS = 2.0
_BECOME = "become"
_PORT = "runtime-env-agent-port"


def stand() -> None:
    """Stand for the agent until it is wanted, or the raylet ends."""
    raylet = os.pidfd_open(int(os.environ["RAY_RAYLET_PID"]))
    options = dict(one[2:].split("=", 1) for one in sys.argv[2:] if one.startswith("--") and "=" in one)
    given = options.get(_PORT)
    address = options["node-ip-address"]
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, int(given or 0)), family=family) as server:
        port = server.getsockname()[1]
        for name in UNUSED if given is None else ():
            _write(options, name, -1)
        _write(options, LISTENS if given is None else ENVIRONMENTS, port)
        while True:
            ready, _, _ = select.select([raylet, server.fileno()], [], [])
            if raylet in ready:
                return
            if given is not None:
                others = [one for one in sys.argv[1:] if not one.startswith(f"--{_PORT}=")]
                os.dup2(server.fileno(), sys.stdin.fileno())
                _execute(__file__, _BECOME, *others, f"--{_PORT}={port}")
            if _knows_token(server):
                break
    _execute(*(one for one in sys.argv[1:] if one != "--minimal"))


def _write(options: dict[str, str], name: str, port: int) -> None:
    path = f"{options['session-dir']}/{name}_{options['node-id']}"
    with open(f"{path}.new", "w", encoding="ascii") as file:  # noqa: PTH123 - pathlib is not imported for it
        file.write(str(port))
    os.replace(f"{path}.new", path)  # noqa: PTH105 - likewise


def _knows_token(server: socket.socket) -> bool:
    """Say whether who has connected knows the token."""
    token, told = os.environ.get("RAY_AUTH_TOKEN", "").encode(), b""
    try:
        asking, _ = server.accept()
        with asking:
            asking.settimeout(_TOKEN_SECONDS)
            while len(told) < len(token) and (more := asking.recv(len(token) - len(told))):
                told += more
    except OSError:
        return False
    return bool(token) and hmac.compare_digest(told, token)


def _execute(*words: str) -> None:
    os.execv(sys.executable, [sys.executable, "-u", *words])  # noqa: S606 - no shell is wanted


def become(agent: str) -> None:
    """Be the agent: a connection waits for it, and it binds a socket of its own to that port."""
    listener = sys.stdin.fileno()
    with socket.socket(fileno=os.dup(listener)) as waiting:
        address = waiting.getsockname()
    bind = socket.socket.bind

    def bound(self: socket.socket, to: tuple[str, int]) -> None:
        if tuple(to[:2]) == tuple(address[:2]):
            os.dup2(listener, self.fileno(), inheritable=False)
        else:
            bind(self, to)

    socket.socket.bind = bound  # type: ignore[assignment, method-assign]  # Ray's program has no other place for it
    del sys.path[0], sys.argv[:2]
    runpy.run_path(agent, run_name="__main__")


if __name__ == "__main__":
    if sys.argv[1] == _BECOME:
        become(sys.argv[2])
    else:
        stand()
