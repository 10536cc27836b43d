"""What a simulator's folder says of itself: versions, parameters, how commands are built, and its tables."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from simyard.simulator import Command, Parameter, RuntimeName, SimulatorInfo, SimulatorVersion
from simyard.task import Value

if TYPE_CHECKING:
    import pyarrow as pa

Parameters = Mapping[str, Value]
"""Checked parameters of a task, defaults filled in."""

Builder = Callable[[Parameters, Collection[str]], tuple[Command, ...]]
"""Turns checked parameters and the paths of the input files into commands."""

TableParser = Callable[[Path, Parameters], "pa.Table | None"]
"""Turns the task's folder into a table; None when the outputs hold nothing for it."""

IMAGE_PREFIX = "localhost/simyard/"
"""What the tags of all images that are built here start with."""


@dataclass(frozen=True, kw_only=True)
class ImageSpec:
    """How a version's image is built: `containerfile` takes its base as the argument BASE; its folder is the context.

    `wheels` are pip requirements that the build finds as files in the folder `wheels/` of its context.
    """

    containerfile: Path
    tag: str
    wheels: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class TableSpec:
    """One table of a simulator's outputs: a sentence for its reader, and the parser that makes it."""

    description: str
    parse: TableParser


@dataclass(frozen=True, kw_only=True)
class CheckpointSpec:
    """Globs of the restart files that a simulator writes, and the commands that go on from them.

    Without `resume` the same commands go on: they find the restart files by themselves.
    """

    files: tuple[str, ...]
    resume: Builder | None = None


@dataclass(frozen=True, kw_only=True)
class VersionSpec:
    """One version of a simulator and what each runtime needs for it.

    `requirements` are the exact pip pins of its private Python environment; None where it does not run natively.
    `programs` are Python programs of ours that stand on PATH under their name, natively and in the image alike, and are
    run by the simulator's own Python.
    """

    version: str
    requirements: tuple[str, ...] | None = None
    programs: Mapping[str, Path] = field(default_factory=lambda: MappingProxyType({}))
    image: ImageSpec | None = None

    @property
    def runtimes(self) -> tuple[RuntimeName, ...]:
        """The runtimes that have this version, the preferred one first."""
        native = () if self.requirements is None else (RuntimeName.NATIVE,)
        return native if self.image is None else (*native, RuntimeName.PODMAN, RuntimeName.DOCKER)


@dataclass(frozen=True, kw_only=True)
class SimulatorSpec:
    """One simulator of the catalogue; `versions` stands newest first."""

    name: str
    title: str
    description: str
    homepage: str
    versions: tuple[VersionSpec, ...]
    parameters: tuple[Parameter, ...]
    build: Builder
    tables: Mapping[str, TableSpec] = field(default_factory=lambda: MappingProxyType({}))
    checkpoint: CheckpointSpec | None = None

    @property
    def info(self) -> SimulatorInfo:
        """This simulator as the API shows it."""
        return SimulatorInfo(
            name=self.name,
            title=self.title,
            description=self.description,
            homepage=self.homepage,
            versions=tuple(SimulatorVersion(version=v.version, runtimes=v.runtimes) for v in self.versions),
            parameters=self.parameters,
            tables={name: table.description for name, table in self.tables.items()},
            restart_files=() if self.checkpoint is None else self.checkpoint.files,
        )


def image_of(folder: Path, name: str, version: str, *, wheels: tuple[str, ...] = ()) -> ImageSpec:
    """Return the image that the Containerfile in a simulator's folder gives."""
    return ImageSpec(containerfile=folder / "Containerfile", tag=f"{IMAGE_PREFIX}{name}:{version}", wheels=wheels)
