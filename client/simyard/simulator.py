"""What the catalogue says of a simulator, and how a command is written."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from simyard.words import Name, Word


class RuntimeName(StrEnum):
    """The engine that a simulator's commands run in."""

    NATIVE = "native"
    PODMAN = "podman"
    DOCKER = "docker"


class ParameterType(StrEnum):
    """The type of a parameter's value."""

    FILE = "file"
    """The path of an input file."""
    TEXT = "text"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    CHOICE = "choice"


class Parameter(Word):
    """One parameter of a simulator."""

    name: Name
    type: ParameterType
    description: str
    required: bool = False
    default: str | int | float | bool | None = None
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None


class Command(Word):
    """A command as an argument vector; no shell reads it unless `shell` says so, and then inside the container only."""

    argv: tuple[Annotated[str, StringConstraints(min_length=1, max_length=32768)], ...] = Field(
        min_length=1, max_length=1024
    )
    stdin: str | None = Field(default=None, max_length=1_000_000)
    """Text that the command reads from its standard input: prompts, one a line."""
    environment: dict[str, str] = Field(default_factory=dict)
    shell: bool = False
    """Run the one element of `argv` with `sh -c` inside the container."""


class SimulatorVersion(Word):
    """One version of a simulator and the runtimes that have it."""

    version: Name
    runtimes: tuple[RuntimeName, ...]
    """The runtimes that can run this version, the preferred one first."""


class SimulatorInfo(Word):
    """A catalogue entry as the API shows it."""

    name: Name
    title: str
    description: str
    homepage: str
    versions: tuple[SimulatorVersion, ...]
    """Newest first; the first one is taken when a task names none."""
    parameters: tuple[Parameter, ...]
    tables: dict[str, str]
    """Names of the tables that outputs give, each with a sentence."""
    restart_files: tuple[str, ...] = ()
    """Globs of the files from which it goes on where its machine was lost; none where it declares none."""
