"""A task as its user describes it, made into the request that the server takes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from simyard.checkpoint import Checkpoint
from simyard.commands import parse_command
from simyard.dependency import Dependency, IfDependencyFails, InputFrom
from simyard.errors import InvalidInput
from simyard.files import InputFile
from simyard.resources import Limits, Resources
from simyard.retry import Retry
from simyard.simulator import Command, RuntimeName
from simyard.sweep import SweepSpec, TableFile
from simyard.task import LOCAL_GROUP, TaskSpec, Value

Commands = str | Sequence[Command | str | Sequence[str]]
"""One command in a line, or several, each as a line, as its words, or as a `Command`."""


def describe(
    simulator: str,
    inputs: Iterable[InputFile | InputFrom],
    *,
    version: str | None = None,
    runtime: RuntimeName | str | None = None,
    parameters: Mapping[str, Value | os.PathLike[str]] | None = None,
    commands: Commands = (),
    resources: Resources | None = None,
    cpus: float | None = None,
    memory: int | str | None = None,
    gpus: int | None = None,
    disk: int | str | None = None,
    whole_machine: bool | None = None,
    machines: int | None = None,
    limits: Limits | Mapping[str, float | str | bool] | None = None,
    time_limit: float | str | None = None,
    group: str = LOCAL_GROUP,
    priority: int = 0,
    name: str | None = None,
    project: str = "default",
    metadata: Mapping[str, Value] | None = None,
    retries: int = 0,
    retry: Retry | Mapping[str, object] | None = None,
    checkpoint: Checkpoint | Mapping[str, object] | None = None,
    reuse: bool = False,
    after: Iterable[Dependency | str] = (),
    if_dependency_fails: IfDependencyFails | str = IfDependencyFails.END,
) -> TaskSpec:
    """Return the request for one task.

    Raises:
        InvalidInput: a value is not valid; its field says which.
    """
    lines = [commands] if isinstance(commands, str) else commands
    asked = {"cpus": cpus, "memory": memory, "gpus": gpus, "disk": disk, "whole_machine": whole_machine}
    asked["machines"] = machines
    base = {} if resources is None else resources.model_dump(exclude_unset=True)
    times = limits.model_dump(exclude_unset=True) if isinstance(limits, Limits) else dict(limits or {})
    values: dict[str, Any] = {
        "simulator": simulator,
        "version": version,
        "runtime": runtime,
        "parameters": {
            key: os.fspath(value) if isinstance(value, os.PathLike) else value
            for key, value in (parameters or {}).items()
        },
        "commands": tuple(parse_command(line, f"commands.{i}") for i, line in enumerate(lines)),
        "resources": base | {key: value for key, value in asked.items() if value is not None},
        "limits": times | ({} if time_limit is None else {"run": time_limit}),
        "group": group,
        "priority": priority,
        "name": name,
        "project": project,
        "metadata": dict(metadata or {}),
        "retries": retries,
        "retry": retry or {},
        "checkpoint": _checkpoint(checkpoint),
        "reuse": reuse,
        "inputs": tuple(inputs),
        "after": tuple(after),
        "if_dependency_fails": if_dependency_fails,
    }
    try:
        return TaskSpec.model_validate(values)
    except ValidationError as error:
        raise refusal_of(error) from None


def _checkpoint(checkpoint: Checkpoint | Mapping[str, object] | None) -> Checkpoint | dict[str, object] | None:
    """Return what was asked for, with commands in the form that the server takes; one glob may stand by itself."""
    if checkpoint is None or isinstance(checkpoint, Checkpoint):
        return checkpoint
    found = dict(checkpoint)
    if isinstance(found.get("files"), str):
        found["files"] = (found["files"],)
    resume = found.get("resume", ())
    lines = [resume] if isinstance(resume, str) else resume
    if isinstance(lines, Sequence):
        found["resume"] = tuple(parse_command(line, f"checkpoint.resume.{i}") for i, line in enumerate(lines))
    return found


def describe_sweep(
    task: TaskSpec,
    grid: Mapping[str, Sequence[Value]],
    rows: Sequence[Mapping[str, Value]],
    table: TableFile | None,
    name: str | None,
) -> SweepSpec:
    """Return the request for a sweep.

    Raises:
        InvalidInput: a value is not valid; its field says which.
    """
    values = {"task": task, "grid": grid, "rows": tuple(rows), "table": table, "name": name}
    try:
        return SweepSpec.model_validate(values)
    except ValidationError as error:
        raise refusal_of(error) from None


def refusal_of(error: ValidationError) -> InvalidInput:
    """Return the first thing that a type refuses, in our words."""
    first = error.errors(include_url=False, include_context=False)[0]
    field = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ").rstrip(".")
    given = repr(first.get("input"))
    shown = f" Given: {given}." if len(given) <= 80 and given.strip("'") not in message else ""
    return InvalidInput(f"{message[:1].upper()}{message[1:]}.{shown}", field=field or None)
