"""Programs as forks of a server: a real one, with Ray imported, and programs that are not Ray's."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from cluster.fork_server import ForkServer, Mending, forked
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


OWNER = """
import pathlib, sys
from cluster.fork_server import ForkServer
server = ForkServer(pathlib.Path(sys.argv[1]), (), {})
server.start()
print(*server.pids, flush=True)
sys.stdin.read()
"""


@contextmanager
def owned(path: Path) -> Iterator[int]:
    """Give the process id of a server with that socket, which belongs to another process."""
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with owner:
        assert owner.stdout is not None
        try:
            yield int(owner.stdout.readline())
        finally:
            owner.kill()


@pytest.fixture
def address(tmp_path: Path) -> Iterator[Path]:
    """The socket of a server."""
    path = tmp_path / "socket"
    with owned(path):
        yield path
        assert path.exists()
    until(lambda: not path.exists(), what="its end with its owner")


def begin(address: Path, folder: Path, *arguments: str, **more: str) -> subprocess.Popen[str]:
    program = folder / "a program's.py"
    program.write_text(PROGRAM)
    command, environment = forked(address, str(program), *arguments)
    return subprocess.Popen(
        command,
        env={"TOLD": "the environment"} | environment | more,
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


def test_it_serves_one_raylet_after_the_other_and_programs_end_with_their_own(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    raylets = [subprocess.Popen(["sleep", "600"]) for _ in range(2)]
    try:
        with owned(path):
            named = [{"RAY_RAYLET_PID": str(raylet.pid)} for raylet in raylets]
            first, second, free = programs = [begin(path, tmp_path, "waits", **more) for more in (*named, {})]
            ids = []
            for program in programs:
                assert program.stdout is not None
                ids.append(json.loads(program.stdout.readline())["id"])
            raylets[0].kill()
            assert first.wait(10) == 1
            assert (second.poll(), free.poll()) == (None, None)
        # Its owner has ended, and a raylet still needs it.
        assert json.loads(begin(path, tmp_path, "0").communicate("", timeout=60)[0])["has_ray"]
        raylets[1].kill()
        assert second.wait(10) == 1
        until(lambda: not path.exists(), what="its end")
        assert free.poll() is None
        os.kill(ids[2], signal.SIGKILL)
        for program in programs:
            program.communicate(timeout=10)
        assert free.returncode == 1
    finally:
        for raylet in raylets:
            raylet.kill()
            raylet.wait()


def test_who_asks_one_that_dies_before_it_has_forked_runs_by_itself(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with owned(path) as server:
        # It imports Ray for as long as they wait.
        programs = [begin(path, tmp_path, str(number)) for number in (6, 7)]
        until(lambda: waiting_at(path) == len(programs), what="that both have asked")
        os.kill(server, signal.SIGKILL)
        told = [json.loads(program.communicate("", timeout=60)[0]) for program in programs]
    assert [(one["id"], one["parent"]) for one in told] == [(program.pid, os.getpid()) for program in programs]
    assert [program.returncode for program in programs] == [6, 7]


def waiting_at(path: Path) -> int:
    """Return how many connections a socket has; one entry is the listener's."""
    lines = Path("/proc/net/unix").read_text().splitlines()
    return sum(line.endswith(f" {path}") for line in lines) - 1


def test_a_program_whose_raylet_has_gone_does_not_begin(address: Path, tmp_path: Path) -> None:
    with subprocess.Popen(["true"]) as raylet:
        pass
    program = begin(address, tmp_path, "waits", RAY_RAYLET_PID=str(raylet.pid))
    assert program.communicate(timeout=60) == ("", "")
    assert program.returncode == 1


def test_one_that_is_gone_is_started_again_and_only_then(tmp_path: Path) -> None:
    with closing(ForkServer(tmp_path / "socket", (), {})) as server:
        server.start()
        [before] = server.pids
        server.start()
        assert not server.mend()
        assert server.pids == {before}
        server.is_warm = True
        os.kill(before, signal.SIGKILL)
        until(server.mend, 10, what="that it is started again")
        [after] = server.pids
        assert (after != before, server.is_warm) == (True, False)
    until(lambda: not server.pids, what="its end")


def test_one_that_dies_again_and_again_is_wanted_more_and_more_seldom() -> None:
    now = [1000.0]
    mending = Mending(lambda: now[0])
    tries = []
    for second in range(400):
        now[0] = 1000.0 + second
        if mending.is_wanted():
            tries.append(second)
    assert tries == [0, 2, 6, 14, 30, 62, 126, 254]
    now[0] = 3000.0
    assert mending.is_wanted(), "it has held out"
    now[0] = 3001.0
    assert not mending.is_wanted()
    now[0] = 3002.0
    assert mending.is_wanted(), "and the pauses are short again"
