"""Processes of this machine, as /proc shows them."""

from __future__ import annotations

import os
import signal
from typing import NamedTuple

_PAGE = os.sysconf("SC_PAGE_SIZE")


class Process(NamedTuple):
    """A process as /proc shows it; `start` and `cpu` are in clock ticks, `resident` in bytes."""

    parent: int
    group: int
    alive: bool
    start: int
    cpu: int
    resident: int


def read_small(path: str) -> bytes:
    """Return the content of a small file of the kernel's.

    Raises:
        OSError: it is gone or may not be read.
    """
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(handle, 65536)
    finally:
        os.close(handle)


def read_process(pid: int) -> Process | None:
    """Return a process, or None when there is none with this id."""
    try:
        text = read_small(f"/proc/{pid}/stat")
    except OSError:
        return None
    # The name in brackets may itself hold brackets and spaces: the fields start after the last one.
    fields = text[text.rindex(b")") + 2 :].split()
    ticks = sum(int(field) for field in fields[11:15])
    return Process(
        int(fields[1]), int(fields[2]), fields[0] not in b"ZX", int(fields[19]), ticks, int(fields[21]) * _PAGE
    )


def read_processes() -> dict[int, Process]:
    """Return all processes of the machine that can be seen."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (process := read_process(int(name))) is not None:
            found[int(name)] = process
    return found


def descendants(roots: set[int], processes: dict[int, Process]) -> dict[int, Process]:
    """Return the processes below the roots; the roots themselves only where one is below another."""
    children: dict[int, list[int]] = {}
    for pid, process in processes.items():
        children.setdefault(process.parent, []).append(pid)
    found: dict[int, Process] = {}
    todo = list(roots)
    while todo:
        for child in children.get(todo.pop(), ()):
            if child not in found:
                found[child] = processes[child]
                todo.append(child)
    return found


def family(root: int, most: int) -> dict[int, Process] | None:
    """Return the processes below one, reading only theirs; None where this kernel does not list children.

    Reading ends soon after more than `most` are found, so that a storm of forks cannot make it long. A process that
    comes or goes meanwhile may be missed: good enough to measure, not to say that none is left.
    """
    found: dict[int, Process] = {}
    todo = [root]
    while todo and len(found) <= most:
        pid = todo.pop()
        try:
            for thread in os.listdir(f"/proc/{pid}/task"):
                for child in map(int, read_small(f"/proc/{pid}/task/{thread}/children").split()):
                    if child not in found and (process := read_process(child)) is not None:
                        found[child] = process
                        todo.append(child)
        except OSError:
            if pid == root:
                return None
    return found


def crowd() -> int:
    """Return how many threads the whole machine has, in one short read; 0 where the kernel does not tell."""
    try:
        return int(read_small("/proc/loadavg").split()[3].partition(b"/")[2])
    except (OSError, ValueError, IndexError):
        return 0


def marked(mark: str, value: str, processes: dict[int, Process]) -> dict[int, Process]:
    """Return the processes that were started with a variable of this value in their environment."""
    wanted = f"{mark}={value}".encode()
    found = {}
    for pid, process in processes.items():
        try:
            environment = read_small(f"/proc/{pid}/environ") if process.alive else b""
        except OSError:
            continue
        if wanted in environment.split(b"\0"):
            found[pid] = process
    return found


def kill_all(victims: dict[int, Process], number: int) -> None:
    """Send a signal to each process and to its process group.

    A group takes a signal in one step of the kernel's, which a process that forks without end cannot outrun.
    """
    if number == signal.SIGKILL:
        for group in {process.group for process in victims.values()} - {0, 1, os.getpgrp()}:
            send(-group, number)
    for pid in victims:
        send(pid, number)


def send(pid: int, number: int) -> None:
    """Send a signal to a process, or to a group where the number is negative."""
    try:
        os.kill(pid, number)
    except OSError:
        pass  # it is gone already, or not ours: the next look tells
