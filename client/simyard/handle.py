"""A task as its user holds it: watched, waited for, read and cancelled."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from pydantic import BaseModel, ValidationError

from simyard import errors
from simyard.checkpoint import Snapshot
from simyard.connection import Connection
from simyard.dependency import InputFrom
from simyard.download import Download, Downloaded, list_outputs
from simyard.event import Event, LogStream, Sample
from simyard.files import EntryKind, ManifestEntry
from simyard.follow import follow_events, follow_log
from simyard.progress import Progress
from simyard.reason import Reason
from simyard.status import Status
from simyard.task import Explanation
from simyard.task import Task as TaskInfo

if TYPE_CHECKING:
    import pyarrow as pa


class TaskFile(BaseModel):
    """A file in the folder of a task."""

    path: str
    size: int
    """Bytes."""
    mtime_ns: int
    """Last change in nanoseconds since 1970."""


class _Files(BaseModel):
    files: tuple[TaskFile, ...]


class _Events(BaseModel):
    events: tuple[Event, ...]


class _Samples(BaseModel):
    samples: tuple[Sample, ...]


class _TableName(BaseModel):
    name: str
    description: str = ""


class _Tables(BaseModel):
    tables: tuple[_TableName, ...]


class Task:
    """One run of a simulator over one set of input files, on a server.

    Everything that it says of itself is as of the last look: `refresh()` and `wait()` look again.
    """

    def __init__(self, connection: Connection, info: TaskInfo) -> None:
        self._connection = connection
        self._info = info
        self._place = f"/v1/tasks/{info.id}"

    def __repr__(self) -> str:
        return f"<Task {self.id} {self.status.value}>"

    @property
    def id(self) -> str:
        """The task's id."""
        return self._info.id

    @property
    def info(self) -> TaskInfo:
        """All that the server said of the task at the last look."""
        return self._info

    @property
    def status(self) -> Status:
        """Where the task stood at the last look."""
        return self._info.status

    @property
    def reason(self) -> Reason | None:
        """Why it ended other than by success, or why it waits."""
        return self._info.reason

    def refresh(self) -> TaskInfo:
        """Look at the task again."""
        self._info = self._connection.ask(TaskInfo, "GET", self._place)
        return self._info

    def wait(self, timeout: float | None = None, on_event: Callable[[Event], object] | None = None) -> Status:
        """Return how the task ended, once it has; `on_event` is told of every event since its submission.

        Raises:
            StillGoing: it has not ended within `timeout` seconds. It goes on.
            Unavailable: the server is away for longer than a minute. The task goes on.
        """
        ends = None if timeout is None else time.monotonic() + timeout

        def left() -> float:
            return float("inf") if ends is None else ends - time.monotonic()

        if on_event is None:
            self.refresh()
        if on_event is not None or not self.status.is_end:
            for event in follow_events(self._connection, self.id, left=left):
                if on_event is not None:
                    on_event(event)
            self.refresh()
        if not self.status.is_end:
            raise errors.StillGoing(
                f"The task is still {self.status.value} after {timeout:g} s.",
                fix=f"It goes on; `simyard tasks wait {self.id}` waits again.",
            )
        return self.status

    def events(self, after: int = 0, *, follow: bool = False) -> Iterator[Event]:
        """Give what happened to the task, oldest first; with `follow` also what happens until it has ended."""
        if follow:
            yield from follow_events(self._connection, self.id, after)
            return
        while True:
            headers = {"Accept": "application/json"}
            params = {"after": after, "limit": 1000}
            page = self._connection.ask(_Events, "GET", f"{self._place}/events", params=params, headers=headers).events
            yield from page
            if not page:
                return
            after = page[-1].seq

    def logs(self, *, follow: bool = True, stream: LogStream | str = LogStream.STDOUT) -> Iterator[bytes]:
        """Give what the commands printed, as bytes in pieces; with `follow` until the task has ended."""
        return follow_log(self._connection, self.id, _stream(stream), follow=follow)

    def tail(self, stopped: Callable[[], bool]) -> Iterator[bytes]:
        """Give standard output as it comes, until the task has ended or somebody says that it is enough."""
        return follow_log(self._connection, self.id, LogStream.STDOUT, follow=True, stopped=stopped)

    def files(self) -> tuple[TaskFile, ...]:
        """Return the files in the task's folder as it is now; after its end, its outputs."""
        return self._connection.ask(_Files, "GET", f"{self._place}/files", timeout=300).files

    def stream(self, path: str) -> Iterator[bytes]:
        """Give the bytes of one file in pieces: as it is now while the task goes on, as it was stored afterwards.

        Raises:
            NotFound: there is no such file.
        """
        if not self.status.is_end:
            self.refresh()
        place = f"{self._place}/outputs/content" if self.status.is_end else f"{self._place}/files/content"
        with self._connection.stream("GET", place, params={"path": path}) as answer:
            yield from answer.iter_raw()

    def read(self, path: str) -> bytes:
        """Return the bytes of one file, as `stream` gives them."""
        return b"".join(self.stream(path))

    def samples(self) -> tuple[Sample, ...]:
        """Return the CPU time, memory and disk that the simulation used, over time."""
        return self._connection.ask(_Samples, "GET", f"{self._place}/samples").samples

    @property
    def outputs(self) -> tuple[ManifestEntry, ...]:
        """The files that the simulation made or changed, as they are stored.

        Raises:
            NotFound: nothing is stored yet.
        """
        entries = list_outputs(self._connection, self.id).entries
        return tuple(entry for entry in entries if entry.kind is EntryKind.OUTPUT)

    def path(self, path: str, *, into: str | None = None) -> InputFrom:
        """Return those outputs that match a path or a glob, as inputs of a task that starts after this one.

        `into` is a folder that they are put into; without it they keep their paths.
        """
        try:
            return InputFrom(task=self.id, path=path, into=into)
        except ValidationError as error:
            field = ".".join(str(part) for part in error.errors()[0]["loc"])
            raise errors.InvalidInput(f"{error.errors()[0]['msg']}.", field=field or None) from None

    def download(
        self, folder: str | os.PathLike[str], glob: str | None = None, progress: Progress | None = None
    ) -> Downloaded:
        """Bring the outputs and the logs, or those that match a glob, into a folder; what is there already stays.

        Raises:
            NotFound: the task has stored nothing, or nothing that matches.
            Damaged: what arrived is not what was stored.
            InvalidInput: the folder cannot take it.
        """
        return Download(self._connection, self.id, folder, glob=glob, progress=progress).run()

    def remove_outputs(self) -> TaskInfo:
        """Remove the outputs and logs from the storage, for ever; the task and its rows of tables stay.

        Raises:
            Conflict: it has not ended, or another task needs them.
        """
        self._info = self._connection.ask(TaskInfo, "DELETE", f"{self._place}/outputs", repeatable=True, timeout=300)
        return self._info

    @property
    def tables(self) -> dict[str, str]:
        """The names of the tables that the outputs gave, each with a sentence."""
        found = self._connection.ask(_Tables, "GET", f"{self._place}/tables").tables
        return {table.name: table.description for table in found}

    def table(self, name: str) -> pa.Table:
        """Return one table of the outputs as an Arrow table.

        Raises:
            NotFound: there is no such table.
            NotInstalled: pyarrow is missing.
        """
        try:
            import pyarrow as pa
            from pyarrow import parquet
        except ImportError as error:
            raise errors.NotInstalled("Tables need pyarrow.", fix="pip install 'simyard[arrow]'") from error
        if "/" in name or name in {"", ".", ".."}:
            raise errors.NotFound(f"There is no table {name!r}.", field="name")
        answer = self._connection.request("GET", f"{self._place}/tables/{name}", params={"format": "parquet"})
        # On this thread alone: Arrow's own let go of the bytes later, and a program that has ended by then aborts.
        with parquet.ParquetFile(pa.BufferReader(answer.content), pre_buffer=False) as file:
            return file.read(use_threads=False)

    def cancel(self) -> TaskInfo:
        """Ask that the task ends; what it has made so far is kept. One that has ended stays as it is."""
        self._info = self._connection.ask(TaskInfo, "POST", f"{self._place}:cancel", repeatable=True)
        return self._info

    def hold(self) -> TaskInfo:
        """Keep the task from starting until `release()`; what runs already goes on."""
        self._info = self._connection.ask(TaskInfo, "POST", f"{self._place}:hold", repeatable=True)
        return self._info

    def release(self) -> TaskInfo:
        """Let a held task start when its turn comes."""
        self._info = self._connection.ask(TaskInfo, "POST", f"{self._place}:release", repeatable=True)
        return self._info

    def checkpoint(self) -> Snapshot:
        """Take a snapshot of the restart files now, and return it once it is complete in the storage.

        Raises:
            Conflict: the task does not run, or has no restart files.
            Unavailable: no snapshot was complete in time; the task goes on.
        """
        return self._connection.ask(Snapshot, "POST", f"{self._place}:checkpoint", repeatable=True, timeout=120)

    def explain(self) -> Explanation:
        """Return why the task stands where it stands, with the evidence."""
        return self._connection.ask(Explanation, "GET", f"{self._place}/explain")


def _stream(stream: LogStream | str) -> LogStream:
    try:
        return LogStream(stream)
    except ValueError:
        raise errors.InvalidInput(f"{stream!r} is no log.", field="stream", fix="Take stdout or stderr.") from None
