"""The way in: a server, and the tasks that are run on it."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from typing import Self

import httpx
from pydantic import BaseModel, SecretStr

from simyard.backoff import Patience
from simyard.connection import Connection
from simyard.errors import InputsMissing
from simyard.folder import hash_files, scan
from simyard.handle import Task
from simyard.listings import Groups, Simulators, Tasks
from simyard.profile import Profile, load_profile, normal_url
from simyard.progress import Progress
from simyard.resources import Limits, Resources
from simyard.retry import Retry
from simyard.simulator import RuntimeName
from simyard.submission import Commands, describe
from simyard.task import LOCAL_GROUP, TaskSpec, Value
from simyard.task import Task as TaskInfo
from simyard.upload import Upload


class Health(BaseModel):
    """What a server says of itself."""

    status: str
    version: str


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
        self.simulators = Simulators(self._connection)
        self.groups = Groups(self._connection)

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
        limits: Limits | Mapping[str, float | str | bool] | None = None,
        time_limit: float | str | None = None,
        group: str = LOCAL_GROUP,
        priority: int = 0,
        name: str | None = None,
        project: str = "default",
        metadata: Mapping[str, Value] | None = None,
        retries: int = 0,
        retry: Retry | Mapping[str, object] | None = None,
        idempotency_key: str | None = None,
        progress: Progress | None = None,
    ) -> Task:
        """Send a folder's files, as far as the storage lacks them, and return the task that was made of them.

        `cpus`, `memory`, `gpus` and `disk` go before those of `resources`; sizes are bytes or texts such as `2GiB`.
        `limits` are `Limits` or a mapping such as `{"queue": "1h", "run": "2h"}`; times are seconds or texts, and
        `time_limit` goes before `run`. `retry` says which failures `retries` pay for, such as
        `{"on": ["out-of-memory", "exit-code:75"]}`. The same `idempotency_key` gives the same task again.

        Raises:
            InvalidInput: the folder or a value is not valid, or the server refuses it.
            NotFound: there is no such simulator.
            Unavailable: the server cannot be reached.
        """
        hashed = hash_files(scan(folder), progress)
        spec = describe(
            simulator,
            (file.input for file in hashed),
            version=version,
            runtime=runtime,
            parameters=parameters,
            commands=commands,
            resources=resources,
            cpus=cpus,
            memory=memory,
            gpus=gpus,
            disk=disk,
            limits=limits,
            time_limit=time_limit,
            group=group,
            priority=priority,
            name=name,
            project=project,
            metadata=metadata,
            retries=retries,
            retry=retry,
        )
        key = idempotency_key or secrets.token_hex(16)
        try:
            # What would be refused is refused before gigabytes are sent for it, and a case that was sent before is
            # accepted at once.
            return self.submit(spec, idempotency_key=key)
        except InputsMissing:
            Upload(self._connection, hashed, progress=progress).run()
            return self.submit(spec, idempotency_key=key)

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
