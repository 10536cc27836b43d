"""Programs as forks of a server: a real one, with Ray imported, and programs that are not Ray's."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.fork_server import Mending, forked
from cluster.forked import REFUSED
from tests.running_server import until

PROGRAM = """
import json, os, sys
print(json.dumps({"argv": sys.argv[1:], "told": os.environ["TOLD"], "parent": os.getppid(), "id": os.getpid(),
                  "has_ray": "ray" in sys.modules, "name": __name__,
                  "input": "" if sys.argv[1:] == ["waits"] else sys.stdin.read()}), flush=True)
if sys.argv[1:] == ["fails"]:
    raise KeyError("a reason")
if sys.argv[1:] == ["waits"]:
    import time
    time.sleep(600)
sys.exit(int(sys.argv[1]))
"""


STARTER = """
import os, pathlib, sys
from cluster.fork_server import ForkServer
from cluster.forked import ADDRESS
server = ForkServer(pathlib.Path(sys.argv[1]), ())
assert os.environ[ADDRESS] == sys.argv[1]
if sys.argv[2:]:
    server.end_with(int(sys.argv[2]))
"""


@pytest.fixture
def address(tmp_path: Path) -> Iterator[Path]:
    """The socket of a server whose raylet is a program that sleeps."""
    path = tmp_path / "socket"
    with subprocess.Popen(["sleep", "600"]) as raylet:
        try:
            subprocess.run([sys.executable, "-c", STARTER, path, str(raylet.pid)], check=True, timeout=60)
            yield path
            assert path.exists()
        finally:
            raylet.kill()
    until(lambda: not path.exists(), what="its end with the raylet")


def begin(address: Path, folder: Path, *arguments: str) -> subprocess.Popen[str]:
    program = folder / "a program's.py"
    program.write_text(PROGRAM)
    command, environment = forked(address, str(program), *arguments)
    return subprocess.Popen(
        command,
        env={"TOLD": "the environment"} | environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_program_is_forked_with_all_that_it_was_started_with(address: Path, tmp_path: Path) -> None:
    program = begin(address, tmp_path, "3")
    output, complaints = program.communicate("input", timeout=60)
    told = json.loads(output)
    assert told.pop("parent") != os.getpid()
    assert told.pop("id") != program.pid
    assert told == {"argv": ["3"], "told": "the environment", "has_ray": True, "input": "input", "name": "__main__"}
    assert (program.returncode, complaints) == (3, "")


def test_one_that_fails_says_why_and_one_that_is_killed_fails(address: Path, tmp_path: Path) -> None:
    program = begin(address, tmp_path, "fails")
    _, complaints = program.communicate("", timeout=60)
    assert (program.returncode, complaints.splitlines()[-1]) == (1, "KeyError: 'a reason'")

    program = begin(address, tmp_path, "waits")
    assert program.stdout is not None
    os.kill(json.loads(program.stdout.readline())["id"], signal.SIGKILL)
    assert program.communicate(timeout=60) == ("", "")
    assert program.returncode == 1


def test_what_it_does_not_understand_it_refuses_and_goes_on(address: Path, tmp_path: Path) -> None:
    for packet in (b"[", b"{}", json.dumps({"argv": [], "of another release": 1}).encode()):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
            connection.settimeout(60)
            connection.connect(str(address))
            connection.send(packet)
            assert connection.recv(20) == REFUSED
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.connect(str(address))
    program = begin(address, tmp_path, "0")
    assert json.loads(program.communicate("", timeout=60)[0])["has_ray"]


def test_without_a_server_or_with_one_that_refuses_the_program_runs_by_itself(tmp_path: Path) -> None:
    program = begin(tmp_path / "nobody", tmp_path, "4")
    told = json.loads(program.communicate("", timeout=60)[0])
    assert (told["parent"], told["id"], told["has_ray"]) == (os.getpid(), program.pid, False)
    assert program.returncode == 4

    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as refuses:
        refuses.bind(str(tmp_path / "refuses"))
        refuses.listen()
        program = begin(tmp_path / "refuses", tmp_path, "5")
        connection, _ = refuses.accept()
        with connection:
            _, files, _, _ = socket.recv_fds(connection, 1 << 20, 3)
            for file in files:
                os.close(file)
            connection.send(REFUSED)
        told = json.loads(program.communicate("", timeout=60)[0])
    assert (told["id"], program.returncode) == (program.pid, 5)


def test_it_ends_with_whoever_has_started_it_and_named_no_raylet(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    subprocess.run([sys.executable, "-c", STARTER, path], check=True, timeout=60)
    until(lambda: not path.exists(), what="its end")


def test_one_that_is_gone_is_wanted_again_and_more_and_more_seldom(address: Path, tmp_path: Path) -> None:
    now = [1000.0]
    mending = Mending(lambda: now[0])
    assert not mending.is_wanted(address), "it is there"
    tries = []
    for second in range(400):
        now[0] = 1002.0 + second
        if mending.is_wanted(tmp_path / "nobody"):
            tries.append(second)
    assert tries == [0, 30, 90, 210]
    now[0] = 2000.0
    assert not mending.is_wanted(address), "it has held out"
    now[0] = 2010.0
    assert mending.is_wanted(tmp_path / "nobody")
    now[0] = 2041.0
    assert mending.is_wanted(tmp_path / "nobody"), "and the pauses are short again"
