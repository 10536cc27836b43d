"""What is interrupted: requests that submit tasks, and the end of an attempt, over a real store and a real storage."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa

from simulators import catalogue
from simulators.attempt import AttemptRun
from simulators.execution import Execution
from simulators.runtimes import runtime_of
from simulators.spec import SimulatorSpec, TableSpec, VersionSpec
from simulators.work import Report, Superseded, Work
from simyard.files import InputFile, Staged
from simyard.simulator import Command, RuntimeName
from simyard.status import Status
from simyard.task import TaskSpec
from simyard.words import TaskId
from storage import outputs
from storage.inputs import put_input, stage
from storage.kept_inputs import KeptInputs
from storage.local import LocalStore
from storage.stamps import Stamps, take_stamps
from tasks.desk import Clock, Desk
from tasks.holders import HolderState, OnLeft, Verdict
from tasks.keys import new_key
from tasks.placement import Host, Kind
from tasks.record import Draft
from tasks.sqlite.store import SqliteStore
from tasks.stimulus import Dispatch, Progress

DATABASE, STORAGE, SCRATCH, KEY = "tasks.db", "storage", "scratch", "key"
TASK = TaskId("t000000000001")
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
MODEL = b"[TITLE]\na town\n"
TEMPLATE = b"[TITLE]\na town of {{ size }}\n"
NAMES = ("single", "together-1", "together-2", "together-3", "batch-1", "batch-2", "batch-3")
CASES = 3


def _parse(folder: Path, _: object) -> pa.Table | None:
    path = folder / "result.csv"
    return pa.table({"value": [float(path.read_text())]}) if path.exists() else None


SHELL = SimulatorSpec(
    name="shell",
    title="Shell",
    description="Built-in programs of the machine.",
    homepage="https://example.org",
    versions=(VersionSpec(version="1", requirements=()),),
    parameters=(),
    build=lambda *_: (),
    tables={"result": TableSpec(description="One value.", parse=_parse)},
)
BIG = 1000
"""Bytes from which on a file becomes an object of its own."""
_found = catalogue.find
_MAKE = "echo 42 > result.csv; mkdir -p a/b; echo deep > a/b/c; truncate -s 65k big; ln -s big link; echo said"


def use_simulator() -> None:
    """Add the simulator of these scenes to those of the catalogue, and let its large file count as one."""
    catalogue.find = find
    outputs._BIG = BIG


def find(name: str, root: Path | None = None) -> SimulatorSpec:
    """Return the simulator of these scenes, or another one of the catalogue."""
    return SHELL if name == SHELL.name else _found(name, root)


# The submission.


@dataclass(frozen=True)
class Request:
    """A request that is to be answered."""

    name: str
    url: str
    body: bytes
    headers: Mapping[str, str]


def requests(key: str) -> tuple[tuple[Request, ...], ...]:
    """Return the requests, one group after the other; those of a group are sent at the same time."""
    signed = {"Authorization": f"Bearer {key}"}
    typed = signed | {"Content-Type": "application/json"}
    model, template = _file(MODEL, "town.inp"), _file(TEMPLATE, "town.inp.jinja")
    spec = {"simulator": "swmm", "parameters": {"input_file": "town.inp"}, "inputs": [model]}

    def single(name: str) -> Request:
        body = json.dumps(spec | {"name": name}).encode()
        return Request(name, "/v1/tasks", body, typed | {"Idempotency-Key": name})

    batch = [{"spec": spec | {"name": name}, "idempotency_key": name} for name in NAMES if "batch" in name]
    sweep = {"task": spec | {"inputs": [template]}, "grid": {"size": [1, 2, 3]}}
    return (
        (Request("model", "/v1/inputs", MODEL, signed),),
        (Request("template", "/v1/inputs", TEMPLATE, signed),),
        (single("single"),),
        (single("together-1"), single("together-2"), single("together-3")),
        (Request("batch", "/v1/tasks:batch", json.dumps({"tasks": batch, "atomic": True}).encode(), typed),),
        (Request("sweep", "/v1/sweeps", json.dumps(sweep).encode(), typed | {"Idempotency-Key": "sweep"}),),
    )


def _file(content: bytes, path: str) -> dict[str, Any]:
    return {"path": path, "sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}


def make_empty(folder: Path) -> None:
    """Make a store without tasks, a storage without objects and an API key."""
    folder.mkdir()
    (folder / STORAGE).mkdir()
    secret, key = new_key("ada", NOW)
    (folder / KEY).write_text(secret)
    with contextlib.closing(SqliteStore(folder / DATABASE)) as store:
        store.add_key(key)


# The staging.

KEPT, WORK = "inputs", "work"
_MESH = bytes(range(256)) * 16
STAGED = {"mesh": _MESH, "a/copy of the mesh": _MESH, "small": b"small"}


def make_inputs(folder: Path) -> None:
    """Store input files, of which two have one content, and make a folder for a task and one for what is kept."""
    (folder / STORAGE).mkdir(parents=True)
    (folder / WORK).mkdir()
    for content in STAGED.values():
        put_input(LocalStore(folder / STORAGE), content)
    KeptInputs(folder / KEPT, 10**6)


def stage_inputs(folder: Path) -> Staged:
    """Bring the input files into the folder of the task, one after the other, and keep them."""
    storage, kept = LocalStore(folder / STORAGE), KeptInputs(folder / KEPT, 10**6)
    one_by_one = [
        stage(storage, [InputFile(**_file(content, path))], folder / WORK, kept=kept)
        for path, content in STAGED.items()
    ]
    return Staged(fetched=sum(one.fetched for one in one_by_one), kept=sum(one.kept for one in one_by_one))


# The completion.


def make_run(folder: Path) -> None:
    """Make a store with a task whose commands have just ended, on a machine whose scratch folder has what they made."""
    folder.mkdir()
    (folder / STORAGE).mkdir()
    storage = LocalStore(folder / STORAGE)
    inputs = (InputFile(path="in put.txt", sha256=put_input(storage, b"41\n"), size=3),)
    commands = (Command(argv=("sh", "-c", _MAKE)),)
    spec = TaskSpec(simulator="shell", version="1", runtime=RuntimeName.NATIVE, commands=commands, inputs=inputs)
    with contextlib.closing(SqliteStore(folder / DATABASE)) as store:
        store.submit([Draft(id=TASK, spec=spec, user="ada", key="k", digest="d")], NOW)
        lease = NOW + timedelta(seconds=30)
        store.apply(TASK, Dispatch(machine="node", holder="sim-0", runtime=RuntimeName.NATIVE, lease_until=lease), NOW)
        store.apply(TASK, Progress(1, Status.RUNNING), NOW)
    execution = _execution(folder, spec)
    (execution.folder / "in put.txt").write_bytes(b"41\n")
    execution.allow_adoption()
    assert execution.run(commands).exit_code == 0


def _execution(folder: Path, spec: TaskSpec, *, adopting: bool = False) -> Execution:
    box = f"simyard-{TASK}-1"
    return Execution(
        box=box,
        root=folder / SCRATCH / box,
        spec=SHELL,
        version=SHELL.versions[0],
        runtime=runtime_of(RuntimeName.NATIVE),
        resources=spec.resources,
        limits=spec.limits,
        adopting=adopting,
    )


def copy(template: Path, folder: Path) -> None:
    """Copy a scene, also what tells an input from an output, which knows files by their inodes."""
    shutil.copytree(template, folder, symlinks=True)
    for root in (folder / SCRATCH).glob("*"):
        stamps = take_stamps(root / "work").stamps
        Stamps({path: stamp for path, stamp in stamps.items() if path == "in put.txt"}).save(root / "before.json")


@dataclass
class Site:
    """A dispatcher's desk and one machine, whose actors carry what they are given at once and die with the process."""

    folder: Path
    started: int = 0
    lost: list[str] = field(default_factory=list)

    def __enter__(self) -> Self:
        self.store = SqliteStore(self.folder / DATABASE)
        self.storage = LocalStore(self.folder / STORAGE)
        clock = Clock(now=lambda: NOW, monotonic=lambda: 0.0)
        self.desk = Desk(self.store, self.storage, self, clock, lease=30, warm=60, storage=self.storage.uri)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.store.close()

    def complete(self) -> None:
        """Bring the attempt to its end, as the actor that carried it does."""
        self._adopt(self.desk._work(self.store.get(TASK)))

    def _adopt(self, work: Work) -> None:
        record = self.store.get(TASK)
        spec = TaskSpec.model_construct(resources=record.task.resources, limits=record.task.limits)
        AttemptRun(work, _execution(self.folder, spec, adopting=True), self.storage, self, 30.0).adopt()

    # The actor's reports, which go to the desk.

    def renew(self, work: Work) -> None:
        self._check(self.desk.renew(work.task, work.attempt))

    def report(self, work: Work, reports: Sequence[Report]) -> None:
        self._check(self.desk.report(work.task, work.attempt, reports))

    def _check(self, verdict: Verdict) -> None:
        if verdict is Verdict.SUPERSEDED:
            raise Superseded

    # The desk's actors.

    def machines(self) -> tuple[Host, ...]:
        return (Host(id="1", name="node", group="local", cpus=8, memory=2**34, gpus=0),)

    def departed(self) -> frozenset[str]:
        return frozenset()

    def start(self, kind: Kind, host: str) -> str:
        self.started += 1
        return f"sim-{self.started}"

    def hand_over(self, name: str, work: Work, left: OnLeft) -> None:
        raise AssertionError("an attempt that had ended is computed again")

    def adopt(self, name: str, work: Work, left: OnLeft) -> None:
        self._adopt(work)
        left(None)

    def watch(self, name: str, task: str, attempt: int, left: OnLeft) -> None:
        pass

    def cancel(self, name: str, task: str, attempt: int) -> None:
        pass

    def end(self, name: str) -> None:
        self.lost.append(name)

    def ask(self) -> Mapping[str, HolderState]:
        return {}
