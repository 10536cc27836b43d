"""The simulators that this server knows: every folder here that has a `spec.py`.

A function that takes `root` reads another folder of simulators instead.
"""

from __future__ import annotations

import hashlib
import importlib
import sys
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from simulators import parameters as checks
from simulators.errors import BrokenCatalogue, UnknownSimulator, UnknownVersion, UnsuitableRuntime
from simulators.spec import SimulatorSpec, VersionSpec
from simulators.suggestion import suggest
from simyard.checkpoint import Checkpoint
from simyard.errors import InvalidInput
from simyard.simulator import Command, RuntimeName, SimulatorInfo
from simyard.task import Value

if TYPE_CHECKING:
    import pyarrow as pa

_HERE = Path(__file__).parent.resolve()


def all_simulators(root: Path | None = None) -> tuple[SimulatorSpec, ...]:
    """Return all simulators by name.

    Raises:
        BrokenCatalogue: a folder's `spec.py` cannot be imported, or has no fitting SPEC.
    """
    return _load(_HERE if root is None else root.resolve())


def find(name: str, root: Path | None = None) -> SimulatorSpec:
    """Return the simulator of that name.

    Raises:
        UnknownSimulator: there is none; the fix names the nearest ones.
    """
    specs = _by_name(_HERE if root is None else root.resolve())
    if name not in specs:
        raise UnknownSimulator(
            f"there is no simulator {name!r}.", field="simulator", fix=suggest(name, specs, "simulators")
        )
    return specs[name]


def info(spec: SimulatorSpec) -> SimulatorInfo:
    """Return a simulator as the API shows it."""
    return spec.info


def resolve(
    spec: SimulatorSpec, version: str | None = None, runtime: RuntimeName | None = None
) -> tuple[VersionSpec, RuntimeName]:
    """Return the version and the runtime that a task gets: where it names none, the newest and the preferred one.

    Raises:
        UnknownVersion: the simulator has no such version.
        UnsuitableRuntime: the version does not run in that runtime.
    """
    versions = {v.version: v for v in spec.versions}
    if version is not None and version not in versions:
        fix = suggest(version, versions, f"versions of {spec.name}")
        raise UnknownVersion(f"{spec.name} has no version {version!r}.", field="version", fix=fix)
    fitting = [v for v in spec.versions if version in {None, v.version} and runtime in {None, *v.runtimes}]
    if not fitting:
        known = sorted({r.value for v in spec.versions if version in {None, v.version} for r in v.runtimes})
        of = f"{spec.name} {version}" if version else spec.name
        fix = f"Runtimes of {of}: {', '.join(known)}."
        raise UnsuitableRuntime(f"{of} does not run in the runtime {runtime}.", field="runtime", fix=fix)
    return fitting[0], runtime or fitting[0].runtimes[0]


def commands(
    spec: SimulatorSpec,
    version: VersionSpec,
    parameters: Mapping[str, Value],
    commands: Sequence[Command],
    input_paths: Collection[str],
    runtime: RuntimeName | None = None,
) -> tuple[Command, ...]:
    """Return the commands of a task: the given ones, or else those that the simulator builds from its parameters.

    Raises:
        InvalidInput: a parameter or a command is wrong; field, reason and fix say which and what to do.
    """
    known = f"{spec.name} {version.version}"
    if commands:
        checks.check_parameters(spec.parameters, parameters, input_paths, known, complete=False)
        checks.check_commands(commands, runtime)
        return tuple(commands)
    checked = checks.check_parameters(spec.parameters, parameters, input_paths, known)
    return spec.build(checked, input_paths)


def checkpoint(
    spec: SimulatorSpec,
    wanted: Checkpoint | None,
    parameters: Mapping[str, Value],
    commands: Sequence[Command],
    input_paths: Collection[str],
    runtime: RuntimeName | None = None,
) -> Checkpoint | None:
    """Return what is kept of a task for a next attempt: what the user wants, and else what the simulator declares.

    Where a task brings its own `commands`, the simulator's declaration counts only when the user asks for it.

    Raises:
        InvalidInput: there are no restart files, or a command to resume with is wrong.
    """
    declared = spec.checkpoint
    if wanted is None:
        if declared is None or commands:
            return None
        wanted = Checkpoint()
    if not wanted.files and declared is None:
        raise InvalidInput(
            f"{spec.name} declares no restart files.", field="checkpoint.files", fix="Name them: --checkpoint GLOB."
        )
    checks.check_commands(wanted.resume, runtime, "checkpoint.resume")
    files, resume = wanted.files, wanted.resume
    if not files and declared is not None:
        files = declared.files
        if not resume and not commands and declared.resume is not None:
            filled = {p.name: p.default for p in spec.parameters if p.default is not None} | dict(parameters)
            resume = declared.resume(filled, input_paths)
    return wanted.model_copy(update={"files": files, "resume": resume})


def tables(spec: SimulatorSpec, folder: Path, parameters: Mapping[str, Value]) -> tuple[dict[str, pa.Table], list[str]]:
    """Return the tables that a task's outputs hold, by name, and a warning for each that could not be read."""
    filled = {p.name: p.default for p in spec.parameters if p.default is not None} | dict(parameters)
    found: dict[str, pa.Table] = {}
    warnings: list[str] = []
    for name, table in spec.tables.items():
        try:
            rows = table.parse(folder, filled)
        except Exception as error:  # noqa: BLE001 - outputs of a broken run must not fail the task that made them
            warnings.append(f"table {name} could not be read: {type(error).__name__}: {error}")
        else:
            if rows is not None:
                found[name] = rows
    return found, warnings


@cache
def _by_name(root: Path) -> Mapping[str, SimulatorSpec]:
    return {spec.name: spec for spec in _load(root)}


@cache
def _load(root: Path) -> tuple[SimulatorSpec, ...]:
    package = _package(root)
    return tuple(_load_one(folder, package) for folder in sorted(root.iterdir()) if (folder / "spec.py").is_file())


def _load_one(folder: Path, package: str) -> SimulatorSpec:
    try:
        module = importlib.import_module(f"{package}.{folder.name}.spec")
    except Exception as error:
        reason = f"{folder / 'spec.py'} cannot be imported: {error!r}."
        raise BrokenCatalogue(reason, fix="Mend or remove it.") from error
    spec = getattr(module, "SPEC", None)
    if not isinstance(spec, SimulatorSpec):
        raise BrokenCatalogue(f"{folder / 'spec.py'} has no SPEC.", fix="Define SPEC = SimulatorSpec(...).")
    if spec.name != folder.name:
        raise BrokenCatalogue(f"{folder / 'spec.py'} names itself {spec.name!r}.", fix=f"Write name={folder.name!r}.")
    if not spec.versions or not all(version.runtimes for version in spec.versions):
        reason = f"{folder / 'spec.py'} has no version, or one that runs nowhere."
        raise BrokenCatalogue(reason, fix="Give each VersionSpec requirements or an image.")
    return spec


def _package(root: Path) -> str:
    """Return the name of the package that stands for a folder of simulators, so that its modules import each other."""
    if root == _HERE:
        return __package__ or "simulators"
    name = f"_simulators_{hashlib.sha256(bytes(root)).hexdigest()[:12]}"
    if name not in sys.modules:
        package = ModuleType(name, f"The simulators in {root}.")
        package.__path__ = [str(root)]
        sys.modules[name] = package
    return name
