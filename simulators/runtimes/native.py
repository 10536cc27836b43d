"""Commands as plain processes of this machine: no container, a private Python environment where one is needed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from simulators import supervisor
from simulators.runtimes.environment import prepare_environment
from simulators.runtimes.runtime import MARK, Box, Prepared, Step, SupervisorPlan, check_commands
from simyard.simulator import Command, RuntimeName
from storage.settings import load_settings

if TYPE_CHECKING:
    from simulators.spec import SimulatorSpec, VersionSpec

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Native:
    """Runs commands as processes; limits are kept by the supervisor, which looks several times a second.

    The processes are the server's user: they can read what it can. Trusted simulations only.
    """

    name = RuntimeName.NATIVE

    def available(self) -> str | None:
        """Return None: a machine can always start a process."""
        return None

    def prepare(self, spec: SimulatorSpec, version: VersionSpec, stopped: Callable[[], bool]) -> Prepared:
        """Make the version's Python environment ready and return it."""
        return prepare_environment(load_settings().environments, spec.name, version, stopped)

    def has(self, prepared: Prepared) -> bool:
        """Say whether nobody has removed the environment."""
        return prepared.python is None or prepared.python.exists()

    def plan(self, prepared: Prepared, box: Box) -> SupervisorPlan:
        """Return what the supervisor executes.

        Raises:
            InvalidInput: a command asks for a shell, or cannot be started anywhere.
        """
        check_commands(box.commands, has_shell=False)
        folder = box.folder.resolve()
        return SupervisorPlan(
            name=box.name,
            folder=folder,
            steps=tuple(_step(prepared, box, folder, command) for command in box.commands),
            memory=box.resources.memory,
            disk=box.resources.disk,
            run_seconds=box.limits.run,
            orphan_seconds=box.orphan_seconds,
            grace_seconds=box.grace_seconds,
            log_limit=box.log_limit,
            processes=box.processes,
            stall_seconds=box.limits.stall,
            end_stalled=box.limits.end_stalled,
        )


def _step(prepared: Prepared, box: Box, folder: Path, command: Command) -> Step:
    argv = command.argv
    if argv[0] in {"python", "python3"} and prepared.python is not None:
        argv = (str(prepared.python), *argv[1:])
    path = _PATH if prepared.programs is None else f"{prepared.programs}{os.pathsep}{_PATH}"
    environment = _environment(box, folder, path) | command.environment | {MARK: box.name}
    return Step(argv=argv, environment=environment, program=command.argv[0], stdin=command.stdin)


def _environment(box: Box, folder: Path, path: str) -> dict[str, str]:
    return {
        "PATH": path,
        "HOME": str(folder),
        "TMPDIR": str(box.control.resolve() / supervisor.TEMP),
        "LANG": "C.UTF-8",
        "OMP_NUM_THREADS": str(max(1, int(box.resources.cpus))),
        "CUDA_VISIBLE_DEVICES": ",".join(box.gpu_ids),
    }
