"""The program that stands for Ray's dashboard agent on a machine, and becomes it when somebody looks at the dashboard.

A raylet takes no workers until its agent has written down on which ports it answers, and ends when it ends. Ray's own
imports Ray and 180 modules more for that, holds 75 MiB, and looks at all processes each few seconds: of use only to the
dashboard. This one imports nothing of Ray. It has a port on which the token of the cluster wakes it: then it becomes
the agent, as the same process. Decision 0023 has the figures.
"""

import hmac
import os
import select
import socket
import sys

UNUSED = ("metrics_agent_port", "metrics_export_port")
LISTENS = "dashboard_agent_listen_port"
"""The files that a raylet waits for, without the node's id; Ray's `persist_port` writes them."""

_TOKEN_SECONDS = 2.0


def main() -> None:
    """Stand for the agent until it is wanted, or the raylet ends."""
    raylet = os.pidfd_open(int(os.environ["RAY_RAYLET_PID"]))
    options = dict(one[2:].split("=", 1) for one in sys.argv[2:] if one.startswith("--") and "=" in one)
    address = options["node-ip-address"]
    with socket.create_server((address, 0), family=socket.AF_INET6 if ":" in address else socket.AF_INET) as server:
        for name in UNUSED:
            _write(options, name, -1)
        _write(options, LISTENS, server.getsockname()[1])
        while True:
            ready, _, _ = select.select([raylet, server.fileno()], [], [])
            if raylet in ready:
                return
            if _is_wanted(server):
                break
    whole = [one for one in sys.argv[1:] if one != "--minimal"]
    os.execv(sys.executable, [sys.executable, "-u", *whole])  # noqa: S606 - no shell is wanted


def _write(options: dict[str, str], name: str, port: int) -> None:
    path = f"{options['session-dir']}/{name}_{options['node-id']}"
    with open(f"{path}.new", "w", encoding="ascii") as file:  # noqa: PTH123 - pathlib is not imported for it
        file.write(str(port))
    os.replace(f"{path}.new", path)  # noqa: PTH105 - likewise


def _is_wanted(server: socket.socket) -> bool:
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


if __name__ == "__main__":
    main()
