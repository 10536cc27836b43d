"""The control folder: the names of its files, and how they are written so that nobody reads half of one."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from functools import cache
from typing import Any

from simulators.supervisor.processes import read_small

PLAN = "plan.json"
PID = "pid"
"""The supervisor's process id and its start in clock ticks since boot."""
STATE = "state.json"
STDOUT = "stdout.log"
STDERR = "stderr.log"
SAMPLES = "samples.jsonl"
HEARTBEAT = "heartbeat"
"""Touched by whoever watches the run."""
STOP = "stop"
"""Made by whoever wants the run to end."""
MEMBERS = "members"
"""Process ids and starts of the run's processes as last seen, for a reaper that finds the supervisor dead."""
TEMP = "tmp"
"""The run's private temporary folder."""
COMPLAINTS = "supervisor.log"
_BALLAST = "ballast"
# The end is written in its place, so that it can be on a disk that the run has filled.
_BALLAST_BYTES = 256 * 1024


@cache
def boot() -> str:
    """Return the name of this run of the machine since it was switched on; empty where the kernel does not tell."""
    try:
        return read_small("/proc/sys/kernel/random/boot_id").decode().strip()
    except OSError:
        return ""


class Control:
    """One run's control folder, as its supervisor sees it."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def path(self, name: str) -> str:
        """Return where a file of the folder is."""
        return f"{self.folder}/{name}"

    def read_plan(self) -> dict[str, Any]:
        """Return what there is to do."""
        with open(self.path(PLAN), encoding="utf-8") as file:
            plan: dict[str, Any] = json.load(file)
        return plan

    def make_temp(self) -> None:
        """Make the run's private temporary folder."""
        os.makedirs(self.path(TEMP), mode=0o700, exist_ok=True)

    def remove_temp(self) -> None:
        """Remove the run's private temporary folder."""
        remove_tree(self.path(TEMP))

    def is_stop_wanted(self) -> bool:
        """Say whether somebody wants the run to end."""
        return os.path.exists(self.path(STOP))

    def write_pid(self, pid: int, start: int) -> None:
        """Say which process the supervisor is."""
        self._replace(PID, f"{pid} {start}\n")

    def write_state(self, state: Mapping[str, Any]) -> None:
        """Say in which phase the run is."""
        self._replace(STATE, json.dumps(state))

    def write_end(self, state: Mapping[str, Any]) -> None:
        """Say that the run has ended, in the room that was kept for it.

        It says in which boot of the machine, too: it is not on disk before what the commands made, nor is that, and a
        power failure may leave any part of it.
        """
        # Not truncated first: others could take the room in between.
        handle = os.open(self.path(_BALLAST), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(handle, os.write(handle, json.dumps({**state, "boot": boot()}).encode()))
        finally:
            os.close(handle)
        os.rename(self.path(_BALLAST), self.path(STATE))

    def write_members(self, starts: Mapping[int, int]) -> None:
        """Say which processes the run has, by id and start."""
        self._replace(MEMBERS, "".join(f"{pid} {start}\n" for pid, start in starts.items()))

    def add_sample(self, sample: Mapping[str, float]) -> None:
        """Append a line to the samples."""
        handle = os.open(self.path(SAMPLES), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            os.write(handle, (json.dumps(sample) + "\n").encode())
        finally:
            os.close(handle)

    def lay_ballast(self) -> None:
        """Keep room on the disk for the end.

        Raises:
            OSError: the disk is full, or takes no such file.
        """
        handle = os.open(self.path(_BALLAST), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(handle, 0, _BALLAST_BYTES)
        finally:
            os.close(handle)

    def drop_ballast(self) -> None:
        """Give the room back."""
        try:
            os.unlink(self.path(_BALLAST))
        except OSError:
            pass

    def _replace(self, name: str, text: str) -> None:
        temporary = self.path(name + ".tmp")
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.write(handle, text.encode())
        finally:
            os.close(handle)
        os.rename(temporary, self.path(name))


def remove_tree(path: str) -> None:
    """Remove a folder and all below it as far as that can be done; links are not followed."""
    try:
        os.chmod(path, 0o700)
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    remove_tree(entry.path)
                else:
                    os.unlink(entry.path)
        os.rmdir(path)
    except OSError:
        pass  # the folder above is removed with the control folder later, and says why it cannot
