"""A real server with a data folder of its own, as a user starts it, for tests that drive it from outside."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil

from cluster.head import free_port, server_processes

SIMYARD = str(Path(sys.executable).with_name("simyard"))
UP_SECONDS = 280


def until(condition: Callable[[], Any], seconds: float = 60.0, *, what: str = "the condition") -> Any:
    """Return what the condition gives as soon as it is true; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true within {seconds:g} s")
        time.sleep(0.05)
    return value


def those(processes: Iterable[psutil.Process], wanted: Callable[[psutil.Process], bool]) -> list[psutil.Process]:
    """Return the processes that are wanted; some end while they are looked at."""
    found = []
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            if wanted(process):
                found.append(process)
    return found


class RunningServer:
    """A server that `simyard up --detach` started."""

    def __init__(self, home: Path, **settings: str) -> None:
        self.home = home
        self.data_dir = home / "data"
        # Only what a fresh shell has: a user's own SIMYARD_* settings must not leak into the tests.
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith(("SIMYARD_", "RAY_"))} | {
            "SIMYARD_DATA_DIR": str(self.data_dir),
            "SIMYARD_CONFIG": str(home / "profile.json"),
            **settings,
        }
        self.url = ""
        self.key = ""

    def start(self, *options: str) -> None:
        """Start the server; it is ready when this returns."""
        port = free_port()
        done = self.simyard("up", "--detach", "--json", f"--port={port}", *options, timeout=UP_SECONDS)
        assert done.returncode == 0, done.stderr + done.stdout
        told = json.loads(done.stdout)
        self.url, self.key = told["url"], told["key"]

    def stop(self) -> None:
        """Stop the server and check that nothing of it is left."""
        done = self.simyard("down", timeout=UP_SECONDS)
        assert done.returncode == 0, done.stderr
        assert self.processes() == []

    def simyard(self, *arguments: str, timeout: float = 120, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run the command line as a user does."""
        return subprocess.run(
            [SIMYARD, *arguments],
            env=self.environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            cwd=self.home,
        )

    def processes(self, name: str = "") -> list[psutil.Process]:
        """Return the server's living processes whose title starts with `name`."""
        found = server_processes((self.data_dir / "server" / "id").read_text().strip())
        return [p for p in found if title_of(p).startswith(name)]

    def fork_servers(self) -> list[psutil.Process]:
        """Return the living processes that the workers of its machines are forked from."""
        found = {process.pid: process for process in self.processes(f"{sys.executable} -m cluster.fork_server")}
        # A fork is called like it until it has a name of its own.
        return those(found.values(), lambda process: process.ppid() not in found)

    def http(self) -> httpx.Client:
        """Return a plain HTTP client that carries the key."""
        headers = {"Authorization": f"Bearer {self.key}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=30, trust_env=False)

    def put(self, content: bytes) -> dict[str, Any]:
        """Upload a small input and return its row without the path."""
        with self.http() as http:
            answer = http.post("/v1/inputs", content=content)
        assert answer.status_code == 201, answer.text
        assert answer.json()["sha256"] == hashlib.sha256(content).hexdigest()
        told: dict[str, Any] = answer.json()
        return told

    def submit(self, *commands: Sequence[str], count: int = 1, **more: Any) -> list[str]:
        """Submit tasks that run the commands natively over one small file, and return their ids."""
        spec = {
            "simulator": "swmm",
            "runtime": "native",
            "commands": [{"argv": list(argv)} for argv in commands],
            "inputs": [{"path": "in.txt", **self.put(b"input\n")}],
            "resources": {"cpus": 0.25, "memory": "256MiB"},
        } | more
        with self.http() as http:
            answer = http.post("/v1/tasks:batch", json={"tasks": [{"spec": spec} for _ in range(count)]})
        assert answer.status_code == 200, answer.text
        return [result["task"]["id"] for result in answer.json()["results"]]

    def task(self, task: str) -> dict[str, Any]:
        """Return what the server says of a task, waiting while the server is being restarted."""

        def ask() -> dict[str, Any] | None:
            try:
                with self.http() as http:
                    answer = http.get(f"/v1/tasks/{task}")
            except httpx.HTTPError:
                return None
            return answer.json() if answer.status_code == 200 else None

        told: dict[str, Any] = until(ask, 200, what=f"an answer about task {task}")
        return told

    def ended(self, *tasks: str, seconds: float = 120) -> list[dict[str, Any]]:
        """Wait until all of the tasks have ended, and return them."""
        ends = {"succeeded", "failed", "cancelled", "timed-out"}
        deadline = time.monotonic() + seconds
        return [
            until(
                lambda task=task: (told := self.task(task))["status"] in ends and told,
                max(1.0, deadline - time.monotonic()),
                what=f"the end of task {task}",
            )
            for task in tasks
        ]


def title_of(process: psutil.Process) -> str:
    """Return a process's command line, or its name; nothing where it has ended."""
    try:
        return " ".join(process.cmdline()) or process.name()
    except psutil.Error:
        return ""


@contextmanager
def running_server(home: Path, *options: str, **settings: str) -> Iterator[RunningServer]:
    """Give a server that runs with these options of `simyard up`, and stop it whatever happens."""
    server = RunningServer(home, **settings)
    try:
        server.start(*options)
        yield server
    finally:
        server.stop()
