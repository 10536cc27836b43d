"""The program that stands for Ray's agents, beside a process that stands for the raylet."""

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


PRINTS = "import os, sys\nprint(os.getpid(), *sys.argv[1:], flush=True)\n"
# As Ray's agent of runtime environments does it.
ANSWERS = """
import os, socket, sys
port = next(int(one.split("=")[1]) for one in sys.argv if one.startswith("--runtime-env-agent-port="))
sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
sock.bind(("127.0.0.1", port))
sock.listen(128)
with socket.socket() as other:
    other.bind(("127.0.0.1", 0))
while True:
    asking, _ = sock.accept()
    asking.sendall(f"{os.getpid()} {sys.argv[0]} {asking.recv(100).decode()}".encode())
    asking.close()
"""


@contextmanager
def standing(
    folder: Path, *more: str, program: str = PRINTS
) -> Iterator[tuple[subprocess.Popen[str], subprocess.Popen[bytes]]]:
    """Give the program, which becomes the one of that text, and its raylet."""
    agent = folder / "agent.py"
    agent.write_text(program)
    options = [f"--session-dir={folder}", f"--node-id={NODE}", "--node-ip-address=127.0.0.1", *more]
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


DASHBOARD = ("--minimal", "--head")


def say(folder: Path, told: str) -> None:
    with socket.create_connection(("127.0.0.1", port_of(folder, bare_agent.LISTENS)), 10) as connection:
        connection.sendall(told.encode())


def test_it_tells_its_raylet_that_it_answers_nowhere_else_and_ends_with_it(tmp_path: Path) -> None:
    with standing(tmp_path, *DASHBOARD) as (process, raylet):
        assert port_of(tmp_path, bare_agent.LISTENS) > 0
        assert [port_of(tmp_path, name) for name in bare_agent.UNUSED] == [-1, -1]
        assert process.poll() is None
        raylet.kill()
        assert process.wait(10) == 0
        assert process.communicate()[0] == ""


@pytest.mark.parametrize("told", ["", TOKEN[:-1], TOKEN.upper(), "x" * 100_000])
def test_only_the_token_makes_it_the_agent(tmp_path: Path, told: str) -> None:
    with standing(tmp_path, *DASHBOARD) as (process, _):
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


def test_the_first_who_wants_an_environment_is_answered_by_what_it_wakes(tmp_path: Path) -> None:
    with standing(tmp_path, "--runtime-env-agent-port=0", program=ANSWERS) as (process, _):
        port = port_of(tmp_path, bare_agent.ENVIRONMENTS)
        assert not list(tmp_path.glob("dashboard*"))
        for asked in ("first", "second"):
            with socket.create_connection(("127.0.0.1", port), 20) as connection:
                connection.sendall(asked.encode())
                assert connection.recv(1000).decode().split() == [str(process.pid), str(tmp_path / "agent.py"), asked]


def test_who_stands_for_the_agent_of_environments_ends_with_its_raylet(tmp_path: Path) -> None:
    with standing(tmp_path, "--runtime-env-agent-port=0", program=ANSWERS) as (process, raylet):
        port_of(tmp_path, bare_agent.ENVIRONMENTS)
        raylet.kill()
        assert process.wait(10) == 0
