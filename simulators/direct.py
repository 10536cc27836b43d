"""Running a simulator without the queue: a folder or a storage URI in, a folder or a storage URI out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from simulators import catalogue
from simulators.delivery import bring, check_target, is_uri, keep
from simulators.errors import ImageError
from simulators.execution import Execution, outcome_of
from simulators.outcome import Outcome
from simulators.runtimes import Runtime
from simulators.spec import SimulatorSpec, VersionSpec
from simulators.work import box_of
from simyard.event import LogStream
from simyard.reason import Reason, ReasonCode
from simyard.resources import Limits, Resources
from simyard.simulator import Command
from simyard.status import Status
from simyard.task import Value
from simyard.words import new_task_id
from storage.folder import Folder
from storage.manifest import commit_manifest
from storage.objects import open_store
from storage.outputs import store_outputs, take_stamps
from storage.settings import load_settings

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """How a direct run ended and where its outputs are."""

    outcome: Outcome
    output: str
    """The folder or storage URI that holds the outputs."""
    task: str
    """The id under which a storage URI holds them, as attempt 1."""
    tables: dict[str, pa.Table]
    """The tables that the outputs gave."""

    @property
    def succeeded(self) -> bool:
        """Say whether every command ended with exit code 0."""
        return self.outcome.status is Status.SUCCEEDED


def run_directly(
    spec: SimulatorSpec,
    version: VersionSpec,
    runtime: Runtime,
    *,
    source: str,
    target: str,
    parameters: dict[str, Value],
    commands: tuple[Command, ...],
    resources: Resources,
    limits: Limits,
    gpu_ids: tuple[str, ...],
) -> RunResult:
    """Run a simulator once and return how it ended; a folder gets plain files, a URI packs and a manifest.

    Raises:
        InvalidInput: an argument is not valid; nothing was run.
    """
    check_target(target)
    task = new_task_id()
    execution = Execution(
        box=box_of(task, 1),
        root=load_settings().scratch / box_of(task, 1),
        spec=spec,
        version=version,
        runtime=runtime,
        resources=resources,
        limits=limits,
        gpu_ids=gpu_ids,
    )
    try:
        paths = bring(source, execution.folder)
        runnable = catalogue.commands(spec, version, parameters, commands, paths, runtime.name)
        before = take_stamps(execution.folder)
        try:
            outcome = outcome_of(execution.run(runnable), resources, limits)
        except ImageError as error:
            reason = Reason(code=ReasonCode.IMAGE_ERROR, message=str(error)[:4000])
            return RunResult(outcome=Outcome(status=Status.FAILED, reason=reason), output=target, task=task, tables={})
        tables, notes = catalogue.tables(spec, execution.folder, parameters)
        logs = {f"{stream}.log": execution.log(stream) for stream in LogStream}
        if is_uri(target):
            store = open_store(target)
            entries = store_outputs(store, task, 1, execution.folder, before, logs=logs, stopped=lambda: False)
            commit_manifest(store, task, 1, entries)
        else:
            made = (found for found in Folder(execution.folder).walk() if not before.has(found))
            keep(execution.folder, made, logs, Path(target))
        done = outcome.model_copy(update={"stored": True, "notes": tuple(notes)})
        return RunResult(outcome=done, output=target, task=task, tables=tables)
    finally:
        execution.remove()
