"""What a task or a cloud may have left on this machine after its end: processes, folders, containers, links."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.cloud.network import links_of
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


def left_of_cloud(folder: Path) -> list[str]:
    """Return what is left of the cloud of a folder: processes, those of its machines too, links and disks."""
    top = next(parent for parent in folder.parents if parent.is_mount())
    # All processes of a machine see its disk in their mounts, which the kernel tells with its own escapes.
    mark = f"/{folder.relative_to(top)}/disks/".replace(" ", "\\040")
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if str(folder) in line or mark in (process / "mountinfo").read_text():
                found.append(f"process {process.name}: {line or (process / 'comm').read_text()}")
        except OSError:
            continue
    found += [f"link {name}" for name in links_of(folder)]
    return found + [f"disk {disk}" for disk in folder.glob("disks/*")]


def nothing_left_of_cloud(folder: Path) -> None:
    """Wait until nothing of the cloud of a folder is left but its logs."""
    try:
        until(lambda: not left_of_cloud(folder))
    except AssertionError:
        raise AssertionError(f"of the cloud there is left: {left_of_cloud(folder)}") from None
