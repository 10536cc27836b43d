"""What the HTTP face asks of attempts that are running, and how it tells the dispatcher that there is news."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from simulators.work import NoSnapshot
from simyard.checkpoint import Snapshot
from simyard.errors import NotFound, Unavailable
from simyard.event import LogStream, Sample


class HolderGone(Unavailable):
    """The process that carries the attempt does not answer, or has gone on to another one."""

    kind = "holder-gone"


@dataclass(frozen=True, kw_only=True)
class LogPiece:
    """A piece of a log; `ended` says that nothing will follow it."""

    offset: int
    data: bytes
    ended: bool


@dataclass(frozen=True, kw_only=True)
class LiveFile:
    """A file in the folder of a running attempt."""

    path: str
    size: int
    mtime_ns: int


class Live(Protocol):
    """Looks into attempts that are running; every call raises HolderGone when the attempt is not there any more."""

    async def read_log(
        self, holder: str, task: str, attempt: int, stream: LogStream, offset: int, limit: int, wait: float
    ) -> LogPiece:
        """Return up to `limit` bytes from `offset`; waits up to `wait` seconds for the first of them."""
        ...

    async def list_files(self, holder: str, task: str, attempt: int) -> list[LiveFile]:
        """Return the files that are in the task's folder now, by path."""
        ...

    async def read_file(self, holder: str, task: str, attempt: int, path: str, offset: int, limit: int) -> bytes:
        """Return up to `limit` bytes of one file; raises NotFound for a path that is no plain file in the folder."""
        ...

    async def samples(self, holder: str, task: str, attempt: int) -> list[Sample]:
        """Return what the simulation has used so far, oldest first."""
        ...

    async def checkpoint(self, holder: str, task: str, attempt: int, patience: float) -> Snapshot:
        """Return a snapshot of the restart files as they are now; raises NoSnapshot where there is none in time."""
        ...


class Waker(Protocol):
    """Tells the dispatcher that the store has news."""

    async def wake(self) -> None:
        """Wake the dispatcher; never raises and never waits for it."""
        ...


@dataclass
class MemoryLive:
    """The in-memory twin: whoever holds it sets what the attempts show."""

    logs: dict[tuple[str, int, LogStream], bytes] = field(default_factory=dict)
    ended: set[tuple[str, int]] = field(default_factory=set)
    files: dict[tuple[str, int], dict[str, bytes]] = field(default_factory=dict)
    used: dict[tuple[str, int], list[Sample]] = field(default_factory=dict)
    snapshots: dict[tuple[str, int], Snapshot] = field(default_factory=dict)

    def _check(self, task: str, attempt: int) -> None:
        if (task, attempt) not in self.files:
            raise HolderGone(f"Attempt {attempt} of task {task} is not running.")

    async def read_log(
        self, holder: str, task: str, attempt: int, stream: LogStream, offset: int, limit: int, wait: float
    ) -> LogPiece:
        """Return what the log holds from `offset` on."""
        self._check(task, attempt)
        data = self.logs.get((task, attempt, stream), b"")[offset : offset + limit]
        return LogPiece(offset=offset, data=data, ended=not data and (task, attempt) in self.ended)

    async def list_files(self, holder: str, task: str, attempt: int) -> list[LiveFile]:
        """Return the files of the attempt."""
        self._check(task, attempt)
        return [LiveFile(path=p, size=len(d), mtime_ns=0) for p, d in sorted(self.files[task, attempt].items())]

    async def read_file(self, holder: str, task: str, attempt: int, path: str, offset: int, limit: int) -> bytes:
        """Return a piece of one file of the attempt."""
        self._check(task, attempt)
        if path not in self.files[task, attempt]:
            raise NotFound(f"There is no file {path!r}.", field="path")
        return self.files[task, attempt][path][offset : offset + limit]

    async def samples(self, holder: str, task: str, attempt: int) -> list[Sample]:
        """Return the samples of the attempt."""
        self._check(task, attempt)
        return self.used.get((task, attempt), [])

    async def checkpoint(self, holder: str, task: str, attempt: int, patience: float) -> Snapshot:
        """Return the snapshot of the attempt."""
        self._check(task, attempt)
        if (task, attempt) not in self.snapshots:
            raise NoSnapshot("No file matches yet.")
        return self.snapshots[task, attempt]
