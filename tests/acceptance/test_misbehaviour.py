"""Simulators that misbehave: the right status and reason, logs and outputs kept, and nothing left behind."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import signal
import subprocess
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from simyard.resources import MIB
from tests.leftovers import nothing_left, processes_of
from tests.running_server import SIMYARD, RunningServer, running_server, those, until

NATIVE = "native"
RUNTIMES = [
    NATIVE,
    pytest.param("podman", marks=[pytest.mark.podman, pytest.mark.images, pytest.mark.timeout(1500)]),
]


class Bad:
    """Submits tasks that misbehave in one runtime, and says how they ended."""

    def __init__(self, server: RunningServer, runtime: str) -> None:
        self.server = server
        self.runtime = runtime
        self.tasks: list[str] = []

    def start(self, *commands: str | Sequence[str], **more: Any) -> str:
        """Start a task; a text is a script for sh."""
        argvs = [("sh", "-c", command) if isinstance(command, str) else command for command in commands]
        [task] = self.server.submit(*argvs, runtime=self.runtime, **more)
        self.tasks.append(task)
        return task

    def run(self, *commands: str | Sequence[str], **more: Any) -> dict[str, Any]:
        """Return a task as the API shows it after its end."""
        [ended] = self.server.ended(self.start(*commands, **more))
        return ended

    def python(self, program: str, **more: Any) -> dict[str, Any]:
        return self.run(("python3", "-c", program), **more)

    def until_running(self, task: str, marker: str = "up") -> None:
        """Wait until a task has printed a marker."""
        until(lambda: marker in self.server.simyard("tasks", "logs", task).stdout, what=f"{task} to print {marker}")

    def get(self, task: dict[str, Any], place: str, /, **params: Any) -> bytes:
        with self.server.http() as http:
            answer = http.get(f"/v1/tasks/{task['id']}{place}", params=params)
        assert answer.status_code == 200, answer.text
        return answer.content

    def outputs(self, task: dict[str, Any]) -> dict[str, dict[str, Any]]:
        entries = json.loads(self.get(task, "/outputs"))["entries"]
        return {entry["path"]: entry for entry in entries if entry["kind"] == "output"}

    def download(self, task: dict[str, Any], folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
        done = self.server.simyard("tasks", "download", task["id"], str(folder), *options)
        assert done.returncode == 0, done.stderr
        return done


@pytest.fixture(params=RUNTIMES)
def bad(request: pytest.FixtureRequest, server: RunningServer) -> Iterator[Bad]:
    """Each runtime in turn; at the end nothing of what was submitted is left."""
    if request.param != NATIVE:
        request.getfixturevalue("images")
    found = Bad(server, request.param)
    yield found
    nothing_left(server, *found.tasks)


@pytest.fixture
def native(server: RunningServer) -> Iterator[Bad]:
    found = Bad(server, NATIVE)
    yield found
    nothing_left(server, *found.tasks)


def end_of(task: dict[str, Any]) -> tuple[str, str | None]:
    return task["status"], task["reason"] and task["reason"]["code"]


def test_a_failure_keeps_its_logs_and_outputs(bad: Bad, tmp_path: Path) -> None:
    task = bad.run("echo partial > half.txt; echo what; echo why >&2; exit 3", "echo never > never.txt")
    assert end_of(task) == ("failed", "exit-code")
    assert task["attempts"][-1]["exit_code"] == 3
    assert bad.get(task, "/logs") == b"what\n"
    assert bad.get(task, "/logs", stream="stderr") == b"why\n"
    assert set(bad.outputs(task)) == {"half.txt"}
    bad.download(task, tmp_path / "out")
    assert (tmp_path / "out" / "half.txt").read_text() == "partial\n"
    told = bad.server.simyard("tasks", "explain", task["id"])
    assert "exit code 3" in told.stdout
    waited = bad.server.simyard("tasks", "wait", task["id"])
    assert waited.returncode == 1
    assert "exit code 3" in waited.stderr


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV], ids=["kill", "segv"])
def test_a_death_by_a_signal_is_told_as_one(bad: Bad, number: signal.Signals) -> None:
    task = bad.run(f"echo before; echo kept > kept.txt; kill -{int(number)} $$")
    assert end_of(task) == ("failed", "signal")
    assert task["reason"]["evidence"]["signal"] == number
    assert bad.get(task, "/logs") == b"before\n"
    assert set(bad.outputs(task)) == {"kept.txt"}


def test_too_much_memory_is_told_with_the_limit(bad: Bad) -> None:
    program = "print('up', flush=True); open('kept.txt', 'w').close(); x = []\nwhile True: x.append(b'x' * 5_000_000)"
    task = bad.python(program, resources={"cpus": 0.25, "memory": "96MiB"})
    assert end_of(task) == ("failed", "out-of-memory")
    assert task["reason"]["evidence"]["limit"] == 96 * MIB
    assert "--memory" in task["reason"]["message"]
    assert bad.get(task, "/logs") == b"up\n"
    assert set(bad.outputs(task)) == {"kept.txt"}


def test_too_much_memory_of_many_processes_together_is_told_too(bad: Bad) -> None:
    child = "x = bytearray(30_000_000); [x.__setitem__(i, 1) for i in range(0, len(x), 4096)]; time.sleep(6)"
    program = f"import subprocess, time, sys\np = [subprocess.Popen([sys.executable, '-c', 'import time; {child}'])"
    task = bad.python(
        program + " for _ in range(8)]\nsys.exit(any(c.wait() for c in p))", resources={"cpus": 0.25, "memory": "96MiB"}
    )
    assert end_of(task) == ("failed", "out-of-memory")


def test_too_much_disk_is_told_with_the_limit(bad: Bad) -> None:
    script = "echo kept > kept.txt; echo up; while true; do head -c 3000000 /dev/zero >> big; sleep 0.05; done"
    task = bad.run(script, resources={"cpus": 0.25, "memory": "256MiB", "disk": "16MiB"})
    assert end_of(task) == ("failed", "disk-full")
    assert task["reason"]["evidence"]["limit"] == 16 * MIB
    assert bad.get(task, "/logs") == b"up\n"
    assert set(bad.outputs(task)) == {"kept.txt", "big"}


def test_nothing_written_is_a_success_with_no_outputs(bad: Bad, tmp_path: Path) -> None:
    task = bad.run(("true",))
    assert end_of(task) == ("succeeded", None)
    assert bad.outputs(task) == {}
    assert bad.get(task, "/logs") == b""
    bad.download(task, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == [".simyard"]
    assert zipfile.ZipFile(io.BytesIO(bad.get(task, "/outputs:download"))).testzip() is None


@pytest.mark.timeout(600)
def test_100_000_files_are_all_kept(native: Bad, tmp_path: Path) -> None:
    program = """
import os
for i in range(100):
    os.mkdir(f'd{i}')
    for j in range(1000):
        with open(f'd{i}/f{j}', 'w') as f: f.write(f'{i} {j}')
"""
    [task] = native.server.ended(native.start(("python3", "-c", program)), seconds=400)
    assert end_of(task) == ("succeeded", None)
    entries = native.outputs(task)
    assert len(entries) == 100_000
    native.download(task, tmp_path / "out", "--glob", "d42/*")
    found = {path.name: path.read_text() for path in (tmp_path / "out" / "d42").iterdir()}
    assert found == {f"f{j}": f"42 {j}" for j in range(1000)}
    assert native.get(task, "/outputs/content", path="d99/f999") == b"99 999"


def test_megabytes_without_a_newline_are_kept(bad: Bad, tmp_path: Path) -> None:
    task = bad.run("head -c 8000000 /dev/zero | tr '\\0' x; printf y >&2")
    assert end_of(task) == ("succeeded", None)
    assert bad.get(task, "/logs") == b"x" * 8_000_000
    assert bad.get(task, "/logs", offset=7_999_990) == b"x" * 10
    assert bad.get(task, "/logs", stream="stderr") == b"y"
    bad.download(task, tmp_path)
    assert (tmp_path / ".simyard" / "stdout.log").stat().st_size == 8_000_000


def test_binary_output_is_kept_byte_by_byte(bad: Bad, tmp_path: Path) -> None:
    program = "import os, random; random.seed(7); os.write(1, random.randbytes(50000)); os.write(2, b'\\xff\\0\\r\\n')"
    task = bad.python(program)
    assert end_of(task) == ("succeeded", None)
    random.seed(7)
    wanted = random.randbytes(50000)
    assert bad.get(task, "/logs") == wanted
    assert bad.get(task, "/logs", follow="true") == wanted
    with tempfile.TemporaryFile() as log:
        argv = [SIMYARD, "tasks", "logs", task["id"]]
        subprocess.run(argv, env=bad.server.environment, stdout=log, check=True, cwd=tmp_path)
        log.seek(0)
        assert log.read() == wanted
    assert bad.get(task, "/logs", stream="stderr") == b"\xff\0\r\n"


DAEMON = (
    "(setsid setsid sh -c 'echo $$ > daemon.pid; trap \"\" TERM HUP; while true; do sleep 0.2; done' >/dev/null 2>&1 &)"
)


def test_a_daemon_that_is_left_behind_ends_with_the_task(bad: Bad) -> None:
    task = bad.run(f"{DAEMON}; until [ -s daemon.pid ]; do sleep 0.05; done; echo done")
    assert end_of(task) == ("succeeded", None)
    assert bad.get(task, "/logs") == b"done\n"
    assert processes_of(task["id"]) == {}


def test_a_daemon_that_holds_the_output_open_does_not_hold_the_task(bad: Bad) -> None:
    task = bad.run("setsid sleep 300 & echo done")
    assert end_of(task) == ("succeeded", None)
    assert bad.get(task, "/logs") == b"done\n"


def test_a_daemon_without_environment_ends_with_the_task(native: Bad) -> None:
    program = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execve('/bin/sh', ['sh', '-c', 'echo $$ > daemon.pid; sleep 300; :'], {})
    os._exit(0)
while not os.path.exists('daemon.pid') or not os.path.getsize('daemon.pid'):
    time.sleep(0.02)
"""
    task = native.python(program)
    assert end_of(task) == ("succeeded", None)
    pid = int(native.get(task, "/outputs/content", path="daemon.pid"))
    until(lambda: not Path(f"/proc/{pid}/cmdline").exists() or not Path(f"/proc/{pid}/cmdline").read_bytes())


def test_children_without_number_end_with_the_task(bad: Bad) -> None:
    task = bad.run("i=0; while [ $i -lt 150 ]; do sleep 300 & i=$((i+1)); done; echo done; exit 4")
    assert end_of(task) == ("failed", "exit-code")
    assert bad.get(task, "/logs") == b"done\n"
    assert processes_of(task["id"]) == {}


def test_a_time_limit_ends_a_simulation_that_ignores_it(bad: Bad) -> None:
    task = bad.run(f"{DAEMON}; trap '' TERM; echo up; while true; do sleep 0.1; done", limits={"run": 1.5})
    assert end_of(task) == ("timed-out", "time-limit")
    assert task["reason"]["evidence"] == {"limit": "run", "seconds": 1.5}
    assert bad.get(task, "/logs") == b"up\n"
    assert "daemon.pid" in bad.outputs(task)


def test_a_cancel_ends_a_simulation_that_ignores_it_and_keeps_what_there_is(bad: Bad) -> None:
    task = bad.start(f"{DAEMON}; trap '' TERM INT; echo kept > kept.txt; echo up; while true; do sleep 0.1; done")
    bad.until_running(task)
    assert bad.server.simyard("tasks", "cancel", task).returncode == 0
    [ended] = bad.server.ended(task)
    assert end_of(ended) == ("cancelled", "cancelled-by-user")
    assert bad.get(ended, "/logs") == b"up\n"
    assert "kept.txt" in bad.outputs(ended)
    # A second cancel changes nothing.
    assert bad.server.simyard("tasks", "cancel", task).returncode == 0
    assert bad.server.task(task) == ended


def test_a_cancel_of_a_queued_task_ends_it_at_once(native: Bad) -> None:
    hold = native.start("echo up; sleep 300", resources={"cpus": 2, "memory": "256MiB"})
    native.until_running(hold)
    waiting = native.start("echo never", resources={"cpus": 2, "memory": "256MiB"})
    assert native.server.task(waiting)["status"] == "queued"
    native.server.simyard("tasks", "cancel", waiting)
    ended = native.server.task(waiting)
    assert end_of(ended) == ("cancelled", "cancelled-by-user")
    assert ended["attempts"] == []
    found = native.server.simyard("tasks", "download", waiting)
    assert found.returncode == 2
    assert "Traceback" not in found.stderr
    native.server.simyard("tasks", "cancel", hold)
    assert end_of(native.server.ended(hold)[0]) == ("cancelled", "cancelled-by-user")


def test_a_cancel_while_the_environment_is_made_ends_it(native: Bad) -> None:
    server = native.server
    for made in (server.data_dir / "environments").glob("openseespy-*"):
        subprocess.run(["rm", "-rf", str(made)], check=True)
    task = native.start(("true",), simulator="openseespy")
    until(lambda: server.task(task)["status"] == "preparing", what="preparing")
    until(lambda: list((server.data_dir / "environments").glob("openseespy-*")), what="an environment in the making")
    server.simyard("tasks", "cancel", task)
    [ended] = server.ended(task)
    assert end_of(ended) == ("cancelled", "cancelled-by-user")
    assert ended["started_at"] is None
    assert those(server.processes(), lambda p: "pip" in p.cmdline()) == []


def test_a_cancel_while_outputs_are_stored_gives_one_clear_end(native: Bad) -> None:
    task = native.start("truncate -s 1500M sparse; echo computed")
    until(lambda: native.server.task(task)["status"] in {"finalizing", "succeeded"}, what="finalizing")
    native.server.simyard("tasks", "cancel", task)
    [ended] = native.server.ended(task)
    # It either has a result, whole, or none.
    if ended["result"] is None:
        assert end_of(ended) == ("cancelled", "cancelled-by-user")
    else:
        assert end_of(ended) == ("succeeded", None)
        assert native.outputs(ended)["sparse"]["size"] == 1500 * MIB


def test_a_folder_that_takes_its_own_rights_away_is_stored_and_removed(bad: Bad) -> None:
    script = "mkdir -p a/b; echo x > a/b/x; echo y > y; chmod 000 y a/b/x a/b a; echo done; chmod 000 ."
    task = bad.run(script)
    assert end_of(task) == ("succeeded", None)
    assert bad.get(task, "/logs") == b"done\n"
    assert set(bad.outputs(task)) == {"a/b/x", "y"}
    assert bad.get(task, "/outputs/content", path="y") == b"y\n"


def test_a_simulation_that_deletes_its_inputs_and_its_folder_is_stored(bad: Bad) -> None:
    task = bad.run("rm in.txt; echo new > new.txt")
    assert end_of(task) == ("succeeded", None)
    assert set(bad.outputs(task)) == {"new.txt"}
    gone = bad.run("rm -rf ../work/* ./* .[!.]*; rmdir ../work 2>/dev/null; cd /; echo done")
    assert end_of(gone) == ("succeeded", None)
    assert bad.get(gone, "/logs") == b"done\n"
    assert bad.outputs(gone) == {}


def test_links_out_of_the_folder_are_kept_as_links_and_never_followed(bad: Bad, tmp_path: Path) -> None:
    script = (
        "ln -s /etc/passwd passwd; ln -s /etc etc; ln -s . here; ln -s itself itself; ln -s ../.. up; "
        "mkdir d; echo in > d/in; ln -s d/in good; mkfifo pipe; rm in.txt; ln -s /etc/hostname in.txt"
    )
    task = bad.run(script)
    assert end_of(task) == ("succeeded", None)
    entries = bad.outputs(task)
    links = {path: entry["link"] for path, entry in entries.items() if entry["link"] is not None}
    assert links == {
        "passwd": "/etc/passwd",
        "etc": "/etc",
        "here": ".",
        "itself": "itself",
        "up": "../..",
        "good": "d/in",
        "in.txt": "/etc/hostname",
    }
    assert set(entries) == {*links, "d/in"}
    assert b"pipe" in bad.get(task, "/outputs/content", path=".simyard/not-stored.txt")
    out = tmp_path / "a" / "out"
    out.parent.mkdir()
    done = bad.download(task, out)
    assert (out / "good").readlink() == Path("d/in")
    assert (out / "good").read_text() == "in\n"
    for path in ("passwd", "etc", "up", "in.txt"):
        assert not (out / path).is_symlink()
        assert f"'{path}' was left out" in done.stderr
    with bad.server.http() as http:
        for path in ("passwd", "etc/passwd", "up/x"):
            assert http.get(f"/v1/tasks/{task['id']}/outputs/content", params={"path": path}).status_code in {404, 422}


NAMES = {
    "with space/and  two": b"1",
    'quo\'te "double" $HOME `x` \\n': b"2",
    "new\nline\ttab": b"3",
    "é 漢字 \U0001f30d": b"4",
    "-rf": b"5",
    "*.txt": b"6",
    "a?b#c%20&d=e;f": b"7",
    "CON": b"8",
    " lead and trail ": b"9",
    "x" * 255: b"10",
    "C:\\x": b"11",
    ".hidden": b"12",
}


def test_files_of_any_name_are_kept_and_downloaded(bad: Bad, tmp_path: Path) -> None:
    program = (
        f"import os, pathlib\nfor n, c in {NAMES!r}.items():\n"
        "    p = pathlib.Path('./' + n); p.parent.mkdir(exist_ok=True); p.write_bytes(c)\n"
        "open(b'latin \\xe9 %', 'wb').write(b'bytes')\nos.symlink(b'latin \\xe9 %', 'to latin')\n"
    )
    task = bad.python(program)
    assert end_of(task) == ("succeeded", None)
    wanted = NAMES | {"latin %E9 %25": b"bytes"}
    assert set(bad.outputs(task)) == {*wanted, "to latin"}
    for path, content in wanted.items():
        assert bad.get(task, "/outputs/content", path=path) == content
        assert bad.outputs(task)[path]["sha256"] == hashlib.sha256(content).hexdigest()
    out = tmp_path / "out put"
    bad.download(task, out)
    found = {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file() and not p.is_symlink()}
    assert {path: content for path, content in found.items() if not path.startswith(".simyard/")} == wanted
    listed = json.loads(bad.server.simyard("tasks", "files", task["id"], "--json").stdout)["files"]
    assert {file["path"] for file in listed} >= set(wanted)
    bad.download(task, tmp_path / "two", "--glob", "new*")
    assert (tmp_path / "two" / "new\nline\ttab").read_bytes() == b"3"
    archive = zipfile.ZipFile(io.BytesIO(bad.get(task, "/outputs:download")))
    assert archive.testzip() is None
    assert sorted(archive.read(name) for name in archive.namelist() if not name.startswith(".simyard/")) == sorted(
        [*wanted.values(), b"latin %E9 %25"]
    )


def test_a_program_that_does_not_exist_is_named(bad: Bad) -> None:
    task = bad.run(("no-such-program", "--now"))
    assert task["status"] == "failed"
    assert "no-such-program" in task["reason"]["message"]


def test_a_simulation_does_not_see_our_secrets(bad: Bad) -> None:
    task = bad.run("env; cat /proc/self/environ | tr '\\0' '\\n'")
    seen = bad.get(task, "/logs").decode()
    assert bad.server.key not in seen
    for name in ("SIMYARD_DATA_DIR", "RAY_", "AWS_", "SIMYARD_KEY", "SIMYARD_SERVER"):
        assert name not in seen


# A disk that is full.


def mounted(folder: Path, options: str) -> Callable[[], None]:
    folder.mkdir(parents=True)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"only root can mount a small disk: {done.stderr.strip()}")
    return lambda: subprocess.run(["umount", "--lazy", str(folder)], check=True) and None


@pytest.fixture(scope="module")
def cramped(server: RunningServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server whose tasks have 24 MiB and 300 files on their disk, together."""
    home = tmp_path_factory.mktemp("cramped")
    with ExitStack() as stack:
        stack.callback(mounted(home / "data" / "scratch", "size=24m,nr_inodes=300"))
        stack.callback(mounted(home / "pad", "size=1m"))
        yield stack.enter_context(running_server(home))


@pytest.fixture(params=RUNTIMES)
def full(request: pytest.FixtureRequest, cramped: RunningServer) -> Iterator[Bad]:
    if request.param != NATIVE:
        request.getfixturevalue("images")
    found = Bad(cramped, request.param)
    yield found
    nothing_left(cramped, *found.tasks)
    # The disk is as good as before.
    after = Bad(cramped, request.param)
    assert end_of(after.run("head -c 5000000 /dev/zero > fits")) == ("succeeded", None)
    nothing_left(cramped, *after.tasks)


def test_a_full_disk_ends_the_task_that_filled_it_and_keeps_its_log(full: Bad) -> None:
    task = full.run("echo up; echo kept > kept.txt; head -c 200000000 /dev/zero > big; sleep 300")
    assert end_of(task) == ("failed", "disk-full")
    assert full.get(task, "/logs") == b"up\n"
    assert {"kept.txt", "big"} <= set(full.outputs(task))


def test_a_program_that_fails_for_lack_of_disk_is_told_as_such(full: Bad) -> None:
    task = full.run("echo up; dd if=/dev/zero of=big bs=1000000; exit 1")
    assert end_of(task) == ("failed", "disk-full")


def test_a_disk_that_takes_no_more_files_is_told_as_full(full: Bad) -> None:
    task = full.run("echo up; i=0; while [ $i -lt 1000 ]; do : > f$i; i=$((i+1)); done; sleep 300")
    assert end_of(task) == ("failed", "disk-full")
    assert full.get(task, "/logs").startswith(b"up\n")


@pytest.mark.parametrize("too_much", [5_000_000, -8_000, -150_000], ids=["not", "hardly", "tightly"])
def test_inputs_that_leave_no_room_on_the_disk_end_the_task(full: Bad, tmp_path: Path, too_much: int) -> None:
    disk = os.statvfs(full.server.data_dir / "scratch")
    (tmp_path / "case").mkdir()
    (tmp_path / "case" / "big").write_bytes(os.urandom(disk.f_bavail * disk.f_frsize + too_much))
    arguments = ["run", "swmm", str(tmp_path / "case"), "-c", "true", "--runtime", full.runtime, "--wait", "--json"]
    done = full.server.simyard(*arguments)
    task = json.loads(done.stdout)
    full.tasks.append(task["id"])
    assert done.returncode == 1
    assert end_of(task) == ("failed", "disk-full")
    assert len(task["attempts"]) == 1
