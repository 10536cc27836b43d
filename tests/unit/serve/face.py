"""The HTTP face over in-memory parts, and the moves that a task makes behind it."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI

from cluster.cluster_file import ClusterFile
from serve.api import build_app
from serve.context import Context
from simulators.outcome import Outcome
from simyard.cluster import CloudState
from simyard.group import Machine, MachineGroup
from simyard.reason import Reason, ReasonCode
from simyard.simulator import RuntimeName
from simyard.status import Status
from storage.inputs import put_input
from storage.manifest import commit_manifest
from storage.memory import MemoryStore as MemoryStorage
from storage.outputs import store_outputs
from tasks.fleet import Fleet
from tasks.keys import new_key
from tasks.live import MemoryLive
from tasks.memory import MemoryStore
from tasks.prices import NO_PRICES, Prices
from tasks.record import TaskRecord
from tasks.stimulus import Dispatch, End, Lost, Progress

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
GIB = 1024**3
INP = b"[TITLE]\na town\n"


class Clock:
    """A clock that only moves when it is told to."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


class CountingWaker:
    """Counts how often the dispatcher was woken."""

    def __init__(self) -> None:
        self.count = 0

    async def wake(self) -> None:
        self.count += 1


def machine(name: str = "m1", cpus: float = 4, memory: int = 8 * GIB, gpus: int = 0) -> Machine:
    return Machine(
        id=name,
        name=name,
        group="local",
        cpus=cpus,
        memory=memory,
        gpus=gpus,
        cpus_free=cpus,
        memory_free=memory,
        gpus_free=gpus,
    )


@dataclass
class Face:
    """Everything behind the API, and a client of user `ada` before it."""

    store: MemoryStore = field(default_factory=MemoryStore)
    storage: MemoryStorage = field(default_factory=MemoryStorage)
    live: MemoryLive = field(default_factory=MemoryLive)
    waker: CountingWaker = field(default_factory=CountingWaker)
    clock: Clock = field(default_factory=Clock)
    groups: tuple[MachineGroup, ...] = (MachineGroup(name="local", machines=(machine(),)),)
    cluster: ClusterFile | None = None
    cloud: CloudState | None = None
    prices: Prices = NO_PRICES
    secret: bytes = b"\x07" * 32

    def __post_init__(self) -> None:
        self.key = self.add_key("ada")
        self.context = Context(
            store=self.store,
            storage=self.storage,
            live=self.live,
            waker=self.waker,
            groups=self._groups,
            secret=self.secret,
            clock=self.clock,
            cluster=self.cluster,
            cloud=self._cloud,
            prices=lambda: self.prices,
            url_seconds=600,
            poll_seconds=0.02,
            heartbeat_seconds=0.1,
        )
        self.app: FastAPI = build_app(self.context)
        self._runner = asyncio.Runner()

    async def _cloud(self) -> CloudState | None:
        return self.cloud

    async def _groups(self) -> tuple[MachineGroup, ...]:
        if self.cluster is None:
            return self.groups
        return Fleet(self.cluster, self.store, "10.0.0.1:6379", {}, self.clock).groups(self.groups)

    def close(self) -> None:
        self._runner.close()
        self.store.close()

    def add_key(self, user: str, expires_at: datetime | None = None) -> str:
        secret, key = new_key(user, self.clock.now if hasattr(self, "clock") else START, expires_at)
        self.store.add_key(key)
        return secret

    def request(self, method: str, url: str, *, key: str | None = "", **rest: Any) -> httpx.Response:
        """Send one request as ada, as the owner of another key, or with None as nobody."""
        headers = dict(rest.pop("headers", {}))
        if key is not None:
            headers.setdefault("Authorization", f"Bearer {key or self.key}")

        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://simyard") as client:
                return await client.request(method, url, headers=headers, **rest)

        return self._runner.run(send())

    def get(self, url: str, **rest: Any) -> httpx.Response:
        return self.request("GET", url, **rest)

    def post(self, url: str, **rest: Any) -> httpx.Response:
        return self.request("POST", url, **rest)

    def put(self, url: str, **rest: Any) -> httpx.Response:
        return self.request("PUT", url, **rest)

    def spec(self, **changes: Any) -> dict[str, Any]:
        """Return a good task whose input is in the storage."""
        sha256 = put_input(self.storage, INP)
        return {
            "simulator": "swmm",
            "parameters": {"input_file": "town.inp"},
            "inputs": [{"path": "town.inp", "sha256": sha256, "size": len(INP)}],
        } | changes

    def submit(self, **changes: Any) -> str:
        answer = self.post("/v1/tasks", json=self.spec(**changes))
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def dispatch(self, task: str, holder: str = "holder") -> TaskRecord:
        """Give the task its next attempt."""
        lease = self.clock.now + timedelta(seconds=30)
        stimulus = Dispatch(machine="m1", holder=holder, runtime=RuntimeName.NATIVE, lease_until=lease)
        record = self.store.apply(task, stimulus, self.clock.now)
        self.live.files[task, record.attempt] = {}
        return record

    def run(self, task: str) -> TaskRecord:
        record = self.dispatch(task)
        return self.store.apply(task, Progress(record.attempt, Status.RUNNING), self.clock.now)

    def lose(self, task: str) -> TaskRecord:
        """Take the machine from the current attempt."""
        attempt = self.store.get(task).attempt
        self.live.files.pop((task, attempt), None)
        reason = Reason(code=ReasonCode.MACHINE_LOST, message="The machine went away.")
        return self.store.apply(task, Lost(attempt, reason), self.clock.now)

    def store_files(
        self, task: str, folder: Path, files: Mapping[str, bytes], logs: Mapping[str, bytes] | None = None
    ) -> None:
        """Store outputs and logs of the current attempt, and its manifest."""
        attempt = self.store.get(task).attempt
        made, kept = folder / f"{task}-{attempt}", folder / f"{task}-{attempt}-logs"
        made.mkdir(parents=True)
        kept.mkdir(parents=True)
        for path, data in files.items():
            (made / path).parent.mkdir(parents=True, exist_ok=True)
            (made / path).write_bytes(data)
        for name, data in (logs or {}).items():
            (kept / name).write_bytes(data)
        entries = store_outputs(
            self.storage, task, attempt, made, None, logs={name: kept / name for name in logs or {}}
        )
        commit_manifest(self.storage, task, attempt, entries)

    def end(self, task: str, status: Status = Status.SUCCEEDED, *, stored: bool = True) -> TaskRecord:
        attempt = self.store.get(task).attempt
        self.live.files.pop((task, attempt), None)
        return self.store.apply(task, End(attempt, Outcome(status=status, stored=stored)), self.clock.now)

    def finish(
        self, task: str, folder: Path, files: Mapping[str, bytes], logs: Mapping[str, bytes] | None = None
    ) -> None:
        """Carry a queued task to success with these outputs."""
        self.run(task)
        self.store_files(task, folder, files, logs)
        self.end(task)


def sha256_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def problem(answer: httpx.Response, status: int, field_: str | None = None) -> dict[str, Any]:
    """Return the problem of a refusal, after checking its form."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body["status"] == status
    assert body["type"].startswith("urn:simyard:problem:")
    assert body["detail"]
    if field_ is not None:
        assert body["field"] == field_, body
    return body
