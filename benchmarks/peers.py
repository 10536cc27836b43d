"""How many `/bin/true` tasks a second go from submission to a durable end, beside other task queues?

    .venv/bin/python -m benchmarks.peers [--tasks 2000] [--rounds 3] [--only NAME ...] [--cache DIR] [--json]

Each system starts `/bin/true` once for each task, two at a time, and a round ends when it has said that all tasks have
succeeded. Ours is a whole server as `simyard up` starts it, which gets a round's tasks as one batch, runs them natively
and stores the outputs of each. The floor is a loop of `subprocess.run` in two threads, with no queue at all. A system
is started once, warmed up, and measured in rounds; given are the medians:

- `tasks_per_second`, from the submission to the end of the last;
- `cpu_ms_per_task`, in all cores of the whole machine, so let nothing else run;
- `durable`: whether, by its documentation, an accepted task is still there after the queue has been killed.

The others are installed once from PyPI, each into an environment of its own below the cache folder; Celery also needs
`redis-server`. What cannot be measured is named with the reason.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import queue
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import platformdirs
import psutil

from benchmarks.peer_programs.turns import DEADLINE, ENDED, READY
from benchmarks.server_start import busy
from cluster.head import server_processes
from cluster.server_mark import MARK
from simyard.status import Status
from tests.running_server import running_server

ROOT = Path(__file__).parents[1]
WARM_UP = 50
OUR_SHARE = 4
"""Ours gets every so many-th of the tasks, since a round of all would take minutes; rates are per second."""
INSTALL_SECONDS = 900
STOP_SECONDS = 30.0
LOOK_SECONDS = 0.5
"""How often our server is asked; each time costs it milliseconds that would count as the tasks'."""
OPEN = ",".join(status for status in Status if not status.is_end)
BAD = ",".join(status for status in Status if status.is_end and status is not Status.SUCCEEDED)
Run = Callable[[int], None]


class NotMeasured(Exception):  # noqa: N818 - errors are named after what happened
    """A system cannot be measured here; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A task queue that is not ours."""

    name: str
    requirement: str
    """What pip installs."""
    module: str
    """Its program in `peer_programs`."""
    durable: bool
    needs: str = ""
    """A program that has to be on the PATH; Debian's package has the same name."""
    aside: str = ""
    """Why its figures stand beside the table and not in it."""


PEERS = (
    Peer(
        name="HyperQueue",
        requirement="hyperqueue==0.27.0",
        module="over_hyperqueue",
        # `hq server start --journal` is, but for the last seconds of progress.
        durable=False,
        aside="its wheel has no hq program; measured is the cluster inside of a Python program, which has no journal",
    ),
    # Its checkpoints hold results, not what waits: the queue is in the memory of the program that submits.
    Peer(name="Parsl", requirement="parsl==2026.10.26", module="over_parsl", durable=False),
    # "There is currently no persistence mechanism to record and recover the scheduler state."
    Peer(name="Dask", requirement="distributed==2026.8.0", module="over_dask", durable=False),
    # As durable as Redis, which has each write on disk before it answers with appendfsync always.
    Peer(
        name="Celery",
        requirement="celery[redis]==5.7.0",
        module="over_celery",
        durable=True,
        needs="redis-server",
    ),
)


def installed(peer: Peer, cache: Path) -> Path:
    """Return the Python of a peer's own environment, which is made where it is missing.

    Raises:
        NotMeasured: it cannot be installed.
    """
    if peer.needs and not shutil.which(peer.needs):
        raise NotMeasured(f"there is no {peer.needs} here: apt-get install {peer.needs}")
    series = ".".join(platform.python_version_tuple()[:2])
    folder = cache / f"{peer.requirement.replace('==', '-').replace('[redis]', '')}-python{series}"
    python, complete = folder / "bin" / "python", folder / "complete"
    if not complete.exists():
        print(f"installing {peer.requirement}", file=sys.stderr, flush=True)
        venv = [sys.executable, "-m", "venv", "--clear", str(folder)]
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", peer.requirement]
        for command in (venv, pip):
            try:
                subprocess.run(command, check=True, capture_output=True, text=True, timeout=INSTALL_SECONDS)
            except subprocess.TimeoutExpired:
                raise NotMeasured(f"{peer.requirement} was not installed within {INSTALL_SECONDS} s") from None
            except subprocess.CalledProcessError as error:
                said = _last_line(error.stderr or error.stdout)
                raise NotMeasured(f"{peer.requirement} cannot be installed: {said}") from None
        complete.touch()
    return python


def _last_line(text: str) -> str:
    return ([line for line in text.splitlines() if line.strip()] or ["it said nothing"])[-1].strip()


@contextmanager
def running_peer(peer: Peer, cache: Path, home: Path) -> Iterator[Run]:
    """Give what runs so many tasks in a peer that was started for it, and end it whatever happens.

    Raises:
        NotMeasured: it cannot be installed or does not start, or its tasks fail or take too long.
    """
    python = installed(peer, cache)
    mark = f"peers{os.getpid()}-{peer.module}"
    # Whatever it writes goes into the folder, and its own programs are found before others of the same name.
    environment = os.environ | {
        MARK: mark,
        "HOME": str(home),
        "TMPDIR": str(home),
        "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}",
    }
    errors = home / "errors.txt"
    with errors.open("wb") as file:
        process = subprocess.Popen(
            [python, "-m", f"benchmarks.peer_programs.{peer.module}", str(home)],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=file,
            text=True,
            bufsize=1,
            # Ctrl-C is for this program, which then ends the other.
            start_new_session=True,
        )
    assert process.stdin
    assert process.stdout
    told, asked = process.stdout, process.stdin
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def read() -> None:
        for line in told:
            lines.put(line.strip())
        lines.put(None)

    def ended() -> NotMeasured:
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
        said = _last_line(errors.read_text(errors="replace"))
        return NotMeasured(f"its program ended with status {process.poll()}: {said}")

    def hear(word: str) -> None:
        deadline = time.monotonic() + DEADLINE
        line: str | None = ""
        # Some write lines of their own before.
        while line != word:
            try:
                line = lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise NotMeasured(f"it did not say {word!r} within {DEADLINE:.0f} s") from None
            if line is None:
                raise ended()

    def run(count: int) -> None:
        try:
            asked.write(f"{count}\n")
        except OSError:
            raise ended() from None
        hear(ENDED)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        hear(READY)
        yield run
    finally:
        end(process, mark)
        reader.join(STOP_SECONDS)
        told.close()


def end(process: subprocess.Popen[str], mark: str) -> None:
    """End a peer's program by the end of its input, and kill what is left of it."""
    found = _family(process, mark)
    assert process.stdin
    with suppress(OSError):  # it may have ended by itself
        process.stdin.close()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(STOP_SECONDS)
    _, left = psutil.wait_procs(found | _family(process, mark), timeout=5)
    for one in left:
        one.kill()
    _, left = psutil.wait_procs(left, timeout=STOP_SECONDS)
    if left:
        raise SystemExit(f"processes {sorted(p.pid for p in left)} do not end")


def _family(process: subprocess.Popen[str], mark: str) -> set[psutil.Process]:
    """Return a peer's processes: those with the mark, and their children, of whom some write a title over the mark."""
    found = set(server_processes(mark))
    with suppress(psutil.NoSuchProcess):
        found.add(psutil.Process(process.pid))
    for parent in tuple(found):
        with suppress(psutil.NoSuchProcess):
            found.update(parent.children(recursive=True))
    return {one for one in found if one.pid != process.pid}


@contextmanager
def ours(home: Path) -> Iterator[Run]:
    """Give what runs so many tasks in a server of ours."""
    # Half of the cores for each, so that two run at a time, as with the others.
    resources = {"cpus": (os.cpu_count() or 2) / 2, "memory": "256MiB"}
    with running_server(home) as server, server.http() as http:

        def any_of(project: str, statuses: str) -> bool:
            query: dict[str, str | int] = {"project": project, "status": statuses, "limit": 1}
            return bool(http.get("/v1/tasks", params=query).raise_for_status().json()["tasks"])

        def run(count: int) -> None:
            project = f"round-{time.time_ns()}"
            server.submit(["true"], count=count, project=project, resources=resources)
            deadline = time.monotonic() + DEADLINE
            while any_of(project, OPEN):
                if time.monotonic() > deadline:
                    raise SystemExit("our tasks took too long")
                time.sleep(LOOK_SECONDS)
            if any_of(project, BAD):
                raise SystemExit("not all of our tasks succeeded")

        yield run


@contextmanager
def floor(_: Path) -> Iterator[Run]:
    """Give what runs so many processes with no queue."""
    with ThreadPoolExecutor(2) as threads:

        def run(count: int) -> None:
            for _ in threads.map(lambda _: subprocess.run(["/bin/true"], check=True), range(count)):
                pass

        yield run


def measure(system: AbstractContextManager[Run], tasks: int, rounds: int) -> dict[str, Any]:
    """Return the figures of one system over its rounds."""
    rates, costs = [], []
    with system as run:
        run(min(WARM_UP, tasks))
        for _ in range(rounds):
            worked, began = busy(), time.perf_counter()
            run(tasks)
            seconds, used = time.perf_counter() - began, busy() - worked
            rates.append(tasks / seconds)
            costs.append(used * 1000 / tasks)
    return {
        "tasks": tasks,
        "tasks_per_second": round(statistics.median(rates), 1),
        "lowest": round(min(rates), 1),
        "highest": round(max(rates), 1),
        "cpu_ms_per_task": round(statistics.median(costs), 2),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*", help="names of the systems to measure")
    parser.add_argument("--cache", type=Path, default=platformdirs.user_cache_path("simyard") / "peers")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    cache: Path = options.cache.absolute()
    # So that what was started is ended then too.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    systems: dict[str, Callable[[Path], AbstractContextManager[Run]]] = {"floor": floor, "Simyard": ours}
    systems |= {peer.name: partial(running_peer, peer, cache) for peer in PEERS}
    durable = {"floor": None, "Simyard": True} | {peer.name: peer.durable for peer in PEERS}
    asides = {peer.name: peer.aside for peer in PEERS}
    rows: list[dict[str, Any]] = []
    left_out: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, system in systems.items():
            if options.only and name not in options.only:
                continue
            home = Path(folder, name)
            home.mkdir()
            tasks = max(1, options.tasks // OUR_SHARE) if name == "Simyard" else options.tasks
            try:
                figures = measure(system(home), tasks, options.rounds)
            except NotMeasured as reason:
                left_out[name] = str(reason)
                print(f"{name} is left out: {reason}", file=sys.stderr, flush=True)
                continue
            row = {"system": name, "durable": durable[name], **figures, "aside": asides.get(name, "")}
            rows.append(row)
            print(json.dumps(row), file=sys.stderr, flush=True)
    told = {"benchmark": "peers", "rounds": options.rounds, "cores": os.cpu_count(), "load": os.getloadavg()[0]}
    if options.json:
        print(json.dumps(told | {"systems": rows, "left_out": left_out}))
    else:
        show(rows, left_out, options.rounds)


def show(rows: list[dict[str, Any]], left_out: dict[str, str], rounds: int) -> None:
    """Print a table for people."""
    print(f"/bin/true, two at a time, medians of {rounds} rounds, load {os.getloadavg()[0]:.1f}")
    print(f"{'system':12} {'durable':8} {'tasks':>6} {'a second':>9} {'lowest':>8} {'highest':>8} {'CPU, ms':>8}")
    durable = {None: "", True: "yes", False: "no"}
    for row in [row for row in rows if not row["aside"]]:
        print(
            f"{row['system']:12} {durable[row['durable']]:8} {row['tasks']:6} {row['tasks_per_second']:9.1f} "
            f"{row['lowest']:8.1f} {row['highest']:8.1f} {row['cpu_ms_per_task']:8.2f}"
        )
    for row in [row for row in rows if row["aside"]]:
        figures = f"{row['tasks_per_second']:.1f} a second, {row['cpu_ms_per_task']:.2f} ms"
        print(f"beside the table: {row['system']}: {row['aside']}: {figures}")
    for name, reason in left_out.items():
        print(f"left out: {name}: {reason}")


if __name__ == "__main__":
    main()
