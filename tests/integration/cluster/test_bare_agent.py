"""The program that stands for Ray's dashboard agent, beside a process that stands for the raylet."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cluster import bare_agent
from tests.running_server import until

TOKEN = "0123456789abcdef"
NODE = "f1872c81"


@contextmanager
def standing(folder: Path) -> Iterator[tuple[subprocess.Popen[str], subprocess.Popen[bytes]]]:
    """Give the program, which becomes one that prints its arguments, and its raylet."""
    agent = folder / "agent.py"
    agent.write_text("import os, sys\nprint(os.getpid(), *sys.argv[1:], flush=True)\n")
    options = [f"--session-dir={folder}", f"--node-id={NODE}", "--node-ip-address=127.0.0.1", "--minimal", "--head"]
    command = [sys.executable, "-IS", bare_agent.__file__, str(agent), *options]
    with subprocess.Popen(["sleep", "600"]) as raylet:
        environment = os.environ | {"RAY_RAYLET_PID": str(raylet.pid), "RAY_AUTH_TOKEN": TOKEN}
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
            try:
                yield process, raylet
            finally:
                process.kill()
                raylet.kill()


def port_of(folder: Path, name: str) -> int:
    file = folder / f"{name}_{NODE}"
    until(file.exists, 20, what=f"the file of {name}")
    return int(file.read_text())


def say(folder: Path, told: str) -> None:
    with socket.create_connection(("127.0.0.1", port_of(folder, bare_agent.LISTENS)), 10) as connection:
        connection.sendall(told.encode())


def test_it_tells_its_raylet_that_it_answers_nowhere_else_and_ends_with_it(tmp_path: Path) -> None:
    with standing(tmp_path) as (process, raylet):
        assert port_of(tmp_path, bare_agent.LISTENS) > 0
        assert [port_of(tmp_path, name) for name in bare_agent.UNUSED] == [-1, -1]
        assert process.poll() is None
        raylet.kill()
        assert process.wait(10) == 0
        assert process.communicate()[0] == ""


@pytest.mark.parametrize("told", ["", TOKEN[:-1], TOKEN.upper(), "x" * 100_000])
def test_only_the_token_makes_it_the_agent(tmp_path: Path, told: str) -> None:
    with standing(tmp_path) as (process, _):
        try:
            say(tmp_path, told)
        except ConnectionError:
            assert len(told) > 1000, "what is too long is not read to its end"
        say(tmp_path, TOKEN)
        output = process.communicate(timeout=20)[0].split()
        assert output == [
            str(process.pid),
            f"--session-dir={tmp_path}",
            f"--node-id={NODE}",
            "--node-ip-address=127.0.0.1",
            "--head",
        ]
