"""What a runtime is, and the words in which it tells the supervisor what to execute."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from simulators.span import Span
from simyard.errors import InvalidInput
from simyard.resources import Limits, Resources
from simyard.simulator import Command, RuntimeName

if TYPE_CHECKING:
    from simulators.spec import SimulatorSpec, VersionSpec

MARK = "SIMYARD_BOX"
"""The environment variable that every process of a box carries: the box's name."""


@dataclass(frozen=True, kw_only=True)
class Box:
    """One run of commands with the folder, the resources and the limits that it gets."""

    name: str
    """`simyard-<task>-<attempt>`: on every process and container of the run."""
    folder: Path
    """The task's folder, in which the commands run."""
    control: Path
    """The supervisor's own folder; the commands do not see it."""
    commands: tuple[Command, ...]
    resources: Resources
    limits: Limits = field(default_factory=Limits)
    gpu_ids: tuple[str, ...] = ()
    """The GPUs that the run may use, by index or UUID."""
    orphan_seconds: float = 30.0
    """How long the run goes on when nobody beats the heart."""
    grace_seconds: float = 3.0
    """How long a process may clean up between SIGTERM and SIGKILL."""
    log_limit: int = 1024**3
    """Bytes that are kept of each of stdout and stderr."""
    processes: int = 1024
    """Processes at a time."""
    span: Span | None = None
    """The machines of a task that runs on several."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What a runtime made ready for a version of a simulator."""

    python: Path | None = None
    """The interpreter that a native command's `python` means."""
    programs: Path | None = None
    """The folder with the environment's programs, first on PATH."""
    image: str | None = None
    """The image's id, which never changes its content."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One command as the supervisor starts it."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    """The whole environment; nothing is inherited."""
    program: str
    """The command's first word, for messages."""
    stdin: str | None = None
    container: str | None = None
    """Name of the container that `argv` starts; None where it starts the simulation itself."""


@dataclass(frozen=True, kw_only=True)
class Engine:
    """How the supervisor and the reaper call the container engine."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    label: str
    """The label, key and value, that all containers of the box carry."""
    is_asked: bool
    """Whether the engine must be asked for a container's process, its end and its removal.

    False: its `run` writes the process id to the file of `--pidfile`, and removes the container at its end.
    """


@dataclass(frozen=True, kw_only=True)
class SupervisorPlan:
    """What a supervisor process executes and holds its commands to."""

    name: str
    folder: Path
    steps: tuple[Step, ...]
    memory: int
    """Bytes; more ends the run."""
    disk: int
    """Bytes; a larger folder ends the run."""
    run_seconds: float | None
    orphan_seconds: float
    grace_seconds: float
    log_limit: int
    processes: int
    """Processes at a time; more end the run."""
    stall_seconds: float | None = None
    """Time without output after which a run stalls."""
    end_stalled: bool = False
    """Whether a run that stalls is ended."""
    disk_reserve: int = 256 * 1024**2
    """Bytes of the file system that are to stay free, or a twentieth of it where that is less.

    A run does not start without them; while they are used up, the runs that grow are ended.
    """
    engine: Engine | None = None
    mark: str = MARK

    def to_json(self) -> str:
        """Return the text that the supervisor reads."""
        return json.dumps(vars(self), default=_plain)


def _plain(value: object) -> object:
    return vars(value) if is_dataclass(value) else str(value)


def check_commands(commands: tuple[Command, ...], *, has_shell: bool) -> None:
    """Refuse what no operating system could start, and a shell where there is none.

    Raises:
        InvalidInput: names the field and the reason.
    """
    for i, command in enumerate(commands):
        if command.shell and not has_shell:
            raise InvalidInput(
                "a shell runs inside a container only.",
                field=f"commands.{i}.shell",
                fix="Give an argument vector, or ask for the runtime podman or docker.",
            )
        if command.shell and len(command.argv) != 1:
            raise InvalidInput("with `shell`, argv is one text.", field=f"commands.{i}.argv", fix="Join the words.")
        if any("\0" in word for word in command.argv):
            raise InvalidInput("a word holds a NUL byte.", field=f"commands.{i}.argv", fix="Leave it out.")
        for name, value in command.environment.items():
            if not name or "=" in name or "\0" in name + value:
                raise InvalidInput(
                    f"{name!r} cannot be a variable: a name has no '=' and is not empty, nothing holds a NUL byte.",
                    field=f"commands.{i}.environment",
                    fix="Rename it.",
                )


class Runtime(Protocol):
    """An engine that runs a simulator's commands."""

    @property
    def name(self) -> RuntimeName:
        """The runtime's name."""
        ...

    def available(self) -> str | None:
        """Return why this machine cannot use the runtime, or None when it can."""
        ...

    def prepare(self, spec: SimulatorSpec, version: VersionSpec, stopped: Callable[[], bool]) -> Prepared:
        """Make a version's environment or image ready, once per machine, and return it.

        Raises:
            ImageError: it could not be made ready.
            Stopped: `stopped` became true before it was.
        """
        ...

    def has(self, prepared: Prepared) -> bool:
        """Say whether nobody has removed what was made ready; where somebody has, `prepare` makes it anew."""
        ...

    def plan(self, prepared: Prepared, box: Box) -> SupervisorPlan:
        """Return what the supervisor executes for a box.

        Raises:
            InvalidInput: a command cannot be run by this runtime.
        """
        ...
