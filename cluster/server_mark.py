"""How the processes and the folders of a server are told from those of others."""

from __future__ import annotations

import hashlib
import os
import socket
import tempfile
from pathlib import Path

MARK = "SIMYARD_SERVER"
"""The environment variable that every process of a server carries, with the server's id."""


def temp_dir(server: str) -> Path:
    """Return the folder of a server's Ray for sockets and logs."""
    # Short, since a socket's path may have 107 bytes at most.
    return Path(tempfile.gettempdir()) / f"simyard-{server}"


def server_name() -> str:
    """Return the id of the server that this process belongs to; on a cluster that has none, the machine's name."""
    return os.environ.get(MARK) or socket.gethostname()


def mark_of(server: str, machine: str) -> str:
    """Return the mark of the processes of a machine that has joined a server by a command, which end with that.

    It is another one than the server's: both may be on one host.
    """
    return f"{server}-{hashlib.sha256(machine.encode()).hexdigest()[:8]}"
