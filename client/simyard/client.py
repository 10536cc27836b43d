"""The way in: a server, and the tasks that are run on it."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Mapping
from typing import Self

import httpx
from pydantic import BaseModel, SecretStr

from simyard.backoff import Patience
from simyard.batch import submit_many
from simyard.checkpoint import Checkpoint
from simyard.cluster import ClusterStatus
from simyard.collection import Sweep
from simyard.commands import parse_template
from simyard.connection import Connection
from simyard.dependency import Dependency, IfDependencyFails, InputFrom
from simyard.errors import InputsMissing, SimyardError
from simyard.files import InputFile
from simyard.folder import hash_files, scan
from simyard.groups import Groups
from simyard.handle import Task
from simyard.listings import Machines, Projects, Simulators, Tasks
from simyard.machine_type import MachineType
from simyard.parameter_table import Grid, Table, gathered
from simyard.profile import Profile, load_profile, normal_url
from simyard.progress import Progress
from simyard.resources import Limits, Resources
from simyard.retry import Retry
from simyard.simulator import RuntimeName
from simyard.submission import Commands, describe, describe_sweep
from simyard.sweep import Sweep as SweepInfo
from simyard.sweep import SweepSpec
from simyard.sweeps import Sweeps
from simyard.task import LOCAL_GROUP, TaskSpec, Value
from simyard.task import Task as TaskInfo
from simyard.upload import Upload


class Health(BaseModel):
    """What a server says of itself."""

    status: str
    version: str


class _MachineTypes(BaseModel):
    machine_types: tuple[MachineType, ...]


class Client:
    """A Simyard server: that of the arguments, of `SIMYARD_URL` and `SIMYARD_KEY`, or of `simyard login`.

    It may be used from many threads, and as a context manager that closes its connections.
    """

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        transport: httpx.BaseTransport | None = None,
        patience: Patience | None = None,
    ) -> None:
        """Choose the server; nothing is sent yet. `transport` and `patience` are for tests and unusual networks.

        Raises:
            InvalidInput: the address is not one.
            Unavailable: no server is named anywhere.
        """
        if url is not None and key is not None:
            profile = Profile(url=normal_url(url), key=SecretStr(key))
        else:
            profile = load_profile(url, key)
        self._connection = Connection(profile, transport=transport, patience=patience)
        self.tasks = Tasks(self._connection)
        self.sweeps = Sweeps(self._connection)
        self.simulators = Simulators(self._connection)
        self.groups = Groups(self._connection)
        self.machines = Machines(self._connection)
        self.projects = Projects(self._connection)

    def machine_types(self) -> tuple[MachineType, ...]:
        """Return what clouds sell, with prices by region."""
        return self._connection.ask(_MachineTypes, "GET", "/v1/machine-types").machine_types

    def cluster(self) -> ClusterStatus:
        """Return what the server's tasks run on: its cloud, its groups, and what they have cost."""
        return self._connection.ask(ClusterStatus, "GET", "/v1/cluster")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Client {self.url}>"

    @property
    def url(self) -> str:
        """The server's address."""
        return self._connection.url

    def close(self) -> None:
        """Close every connection."""
        self._connection.close()

    def health(self) -> Health:
        """Return what the server says of itself; no key is needed.

        Raises:
            Unavailable: it cannot be reached.
        """
        return self._connection.ask(Health, "GET", "/v1/health")

    def run(
        self,
        simulator: str,
        folder: str | os.PathLike[str],
        *,
        parameters: Mapping[str, Value | os.PathLike[str]] | None = None,
        commands: Commands = (),
        version: str | None = None,
        runtime: RuntimeName | str | None = None,
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
        after: Iterable[Task | Dependency | str] = (),
        inputs: Iterable[InputFrom] = (),
        if_dependency_fails: IfDependencyFails | str = IfDependencyFails.END,
        idempotency_key: str | None = None,
        progress: Progress | None = None,
    ) -> Task:
        """Send a folder's files, as far as the storage lacks them, and return the task that was made of them.

        `cpus`, `memory`, `gpus`, `disk`, `whole_machine` and `machines` go before those of `resources`; sizes are
        bytes or texts such as `2GiB`.
        `limits` are `Limits` or a mapping such as `{"queue": "1h", "run": "2h"}`; times are seconds or texts, and
        `time_limit` goes before `run`. `retry` says which failures `retries` pay for, such as
        `{"on": ["out-of-memory", "exit-code:75"]}`. `checkpoint` says which files are kept for a next attempt and how
        it goes on, such as `{"files": ["restart/**"], "every": "5m", "resume": ["solver --restart"]}`. With `reuse` the
        result of an earlier task of yours that did exactly the same is taken, where there is one: `info.reused_from`
        then names it. The same `idempotency_key` gives the same task again.

        The task starts once those in `after` have succeeded; `Dependency(task=…, end="any")` waits for any end.
        `inputs` brings outputs of other tasks into its folder, such as `[mesh.path("mesh/**")]`, and waits for them.
        Where one of these has not succeeded, the task ends, or with `if_dependency_fails="hold"` it is held.

        Raises:
            InvalidInput: the folder or a value is not valid, or the server refuses it.
            NotFound: there is no such simulator.
            Unavailable: the server cannot be reached.
        """
        hashed = hash_files(scan(folder), progress)
        spec = describe(
            simulator,
            (*(file.input for file in hashed), *inputs),
            version=version,
            runtime=runtime,
            parameters=parameters,
            commands=commands,
            resources=resources,
            cpus=cpus,
            memory=memory,
            gpus=gpus,
            disk=disk,
            whole_machine=whole_machine,
            machines=machines,
            limits=limits,
            time_limit=time_limit,
            group=group,
            priority=priority,
            name=name,
            project=project,
            metadata=metadata,
            retries=retries,
            retry=retry,
            checkpoint=checkpoint,
            reuse=reuse,
            after=(one.id if isinstance(one, Task) else one for one in after),
            if_dependency_fails=if_dependency_fails,
        )
        key = idempotency_key or secrets.token_hex(16)
        try:
            # What would be refused is refused before gigabytes are sent for it, and a case that was sent before is
            # accepted at once.
            return self.submit(spec, idempotency_key=key)
        except InputsMissing:
            Upload(self._connection, hashed, progress=progress).run()
            return self.submit(spec, idempotency_key=key)

    def upload(self, folder: str | os.PathLike[str], *, progress: Progress | None = None) -> tuple[InputFile, ...]:
        """Send a folder's files, as far as the storage lacks them, and return them as the inputs of any tasks.

        Raises:
            InvalidInput: the folder or a file in it cannot be sent.
            Unavailable: the server cannot be reached.
        """
        hashed = hash_files(scan(folder), progress)
        Upload(self._connection, hashed, progress=progress).run()
        return tuple(file.input for file in hashed)

    def submit(self, spec: TaskSpec, *, idempotency_key: str | None = None) -> Task:
        """Submit a task whose inputs are in the storage already.

        Raises:
            Conflict: the idempotency key was used for another request.
            SimyardError: the server refuses it.
        """
        headers = {"Content-Type": "application/json", "Idempotency-Key": idempotency_key or secrets.token_hex(16)}
        # Defaults are left out, so that an older server is not told of fields that it does not know.
        body = spec.model_dump_json(exclude_defaults=True).encode()
        info = self._connection.ask(TaskInfo, "POST", "/v1/tasks", body=body, headers=headers, timeout=300)
        return Task(self._connection, info)

    def sweep(
        self,
        simulator: str,
        template: str | os.PathLike[str],
        *,
        grid: Grid | None = None,
        table: Table | None = None,
        name: str | None = None,
        parameters: Mapping[str, Value | os.PathLike[str]] | None = None,
        commands: Commands = (),
        version: str | None = None,
        runtime: RuntimeName | str | None = None,
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
        project: str = "default",
        metadata: Mapping[str, Value] | None = None,
        retries: int = 0,
        retry: Retry | Mapping[str, object] | None = None,
        checkpoint: Checkpoint | Mapping[str, object] | None = None,
        reuse: bool = False,
        after: Iterable[Task | Dependency | str] = (),
        inputs: Iterable[InputFrom] = (),
        if_dependency_fails: IfDependencyFails | str = IfDependencyFails.END,
        idempotency_key: str | None = None,
        progress: Progress | None = None,
    ) -> Sweep:
        """Send a template folder once, and return the sweep with a task for each case, all made by the server.

        `grid` has the values of each parameter, and every combination is a case; `table` has a row for each case: the
        path of a `.csv` or `.parquet` file, a list of rows, an Arrow table or a data frame. With both, every row is
        combined with the grid. Files of the folder that end in `.jinja` are rendered with Jinja2 and lose that ending;
        texts of `parameters`, `commands` and `metadata` are rendered too. The rest is as in `run`.

        Raises:
            InvalidInput: the template, the parameters or a case is not valid; nothing was made.
            NotFound: there is no such simulator.
            Unavailable: the server cannot be reached.
        """
        lines = [commands] if isinstance(commands, str) else commands
        hashed = hash_files(scan(template), progress)
        task = describe(
            simulator,
            (*(file.input for file in hashed), *inputs),
            version=version,
            runtime=runtime,
            parameters=parameters,
            commands=tuple(parse_template(line, f"commands.{i}") for i, line in enumerate(lines)),
            resources=resources,
            cpus=cpus,
            memory=memory,
            gpus=gpus,
            disk=disk,
            whole_machine=whole_machine,
            machines=machines,
            limits=limits,
            time_limit=time_limit,
            group=group,
            priority=priority,
            project=project,
            metadata=metadata,
            retries=retries,
            retry=retry,
            checkpoint=checkpoint,
            reuse=reuse,
            after=(one.id if isinstance(one, Task) else one for one in after),
            if_dependency_fails=if_dependency_fails,
        )
        key = idempotency_key or secrets.token_hex(16)
        with gathered(grid, table) as given:
            spec = describe_sweep(task, given.grid, given.rows, given.table, name)
            try:
                return self.submit_sweep(spec, idempotency_key=key)
            except InputsMissing:
                files = hashed if given.file is None else (*hashed, given.file)
                Upload(self._connection, files, progress=progress).run()
                return self.submit_sweep(spec, idempotency_key=key)

    def submit_sweep(self, spec: SweepSpec, *, idempotency_key: str | None = None) -> Sweep:
        """Submit a sweep whose template is in the storage already.

        Raises:
            Conflict: the idempotency key was used for another request.
            SimyardError: the server refuses it.
        """
        headers = {"Content-Type": "application/json", "Idempotency-Key": idempotency_key or secrets.token_hex(16)}
        body = spec.model_dump_json(exclude_defaults=True).encode()
        # The server renders and checks every case before it answers.
        info = self._connection.ask(SweepInfo, "POST", "/v1/sweeps", body=body, headers=headers, timeout=900)
        return Sweep(self._connection, info)

    def submit_many(
        self, specs: Iterable[TaskSpec], *, idempotency_key: str | None = None
    ) -> list[Task | SimyardError]:
        """Submit tasks whose inputs are in the storage already, up to 10,000 in one request.

        Returned is for each spec, in its order, its task or why it was refused. The same `idempotency_key` with the
        same specs gives the same tasks again, also after a failure in between.

        Raises:
            Unavailable: the server cannot be reached.
            SimyardError: the server refuses a whole request.
        """
        return submit_many(self._connection, specs, idempotency_key or secrets.token_hex(16))
