"""What a task may have left on this machine after its end: processes, folders and containers."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.running_server import RunningServer, until


def processes_of(task: str) -> dict[int, str]:
    """Return the living processes that carry the mark of any attempt at a task, with their command lines."""
    mark = f"SIMYARD_BOX=simyard-{task}-".encode()
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            marked = any(word.startswith(mark) for word in (folder / "environ").read_bytes().split(b"\0"))
            line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        # A supervisor shows the name of its box, and a zombie has no command line.
        if marked or (f"simyard-{task}-" in line and line):
            found[int(folder.name)] = line
    return found


def containers_of(task: str) -> list[str]:
    """Return podman's containers of any attempt at a task, running or not."""
    if shutil.which("podman") is None:
        return []
    done = subprocess.run(
        ["podman", "ps", "--all", "--format", "{{.Names}} {{.Labels}}"], capture_output=True, text=True, check=True
    )
    return [line for line in done.stdout.splitlines() if f"simyard-{task}-" in line]


def folders_of(server: RunningServer, task: str) -> list[str]:
    """Return what is left of a task in the folder in which attempts run."""
    return [path.name for path in (server.data_dir / "scratch").iterdir() if task in path.name]


def nothing_left(server: RunningServer, *tasks: str) -> None:
    """Wait until nothing of the tasks is left: an actor tidies up just after it has reported the end."""

    def left(task: str) -> tuple[list[str], dict[int, str], list[str]]:
        return folders_of(server, task), processes_of(task), containers_of(task)

    for task in tasks:
        try:
            until(lambda task=task: not any(left(task)), 240.0)  # 100,000 files take their time on a busy machine
        except AssertionError:
            raise AssertionError(f"of {task} there is left: {left(task)}") from None
