"""A sweep as its user holds it: all its tasks watched, waited for, read and cancelled as one."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from simyard import errors
from simyard.connection import Connection
from simyard.download import Downloaded
from simyard.event import Event
from simyard.follow import follow_sweep
from simyard.handle import Task
from simyard.listings import Tasks
from simyard.progress import Progress
from simyard.status import Status
from simyard.sweep import Sweep as SweepInfo

if TYPE_CHECKING:
    import pyarrow as pa

FORMS = {".parquet": "parquet", ".csv": "csv", ".json": "json"}
"""How a table is written, by the end of the file's name."""
_ENDS = tuple(status for status in Status if status.is_end)
_SLOW = 600.0
_GATHERED = 0.5
"""Seconds between two requests for tasks that have ended, so that a fast sweep does not cost one for each task."""


class Sweep:
    """Many tasks that were made of one template and a table of parameters.

    Everything that it says of itself is as of the last look: `refresh()` and `wait()` look again.
    """

    def __init__(self, connection: Connection, info: SweepInfo) -> None:
        self._connection = connection
        self._info = info
        self._place = f"/v1/sweeps/{info.id}"

    def __repr__(self) -> str:
        return f"<Sweep {self.id} {self.info.ended}/{self.info.cases}>"

    def __len__(self) -> int:
        return self.info.cases

    @property
    def id(self) -> str:
        """The sweep's id."""
        return self._info.id

    @property
    def info(self) -> SweepInfo:
        """All that the server said of the sweep at the last look."""
        return self._info

    @property
    def tasks(self) -> tuple[Task, ...]:
        """Its tasks as they stand now, in the order of their cases; `task.info.case` has the values."""
        return tuple(reversed(list(Tasks(self._connection).list(sweep=self.id))))

    def refresh(self) -> SweepInfo:
        """Look at the sweep again."""
        self._info = self._connection.ask(SweepInfo, "GET", self._place)
        return self._info

    def wait(
        self,
        timeout: float | None = None,
        on_progress: Callable[[SweepInfo], object] | None = None,
        *,
        show: bool = False,
    ) -> SweepInfo:
        """Return the sweep once all its tasks have ended; `show` says on standard error how far it is meanwhile.

        `on_progress` is told at most once a second. One request follows all tasks.

        Raises:
            StillGoing: they have not ended within `timeout` seconds. They go on.
            Unavailable: the server is away for longer than a minute. They go on.
        """
        if show:
            from simyard.display import shown

            with shown() as tell:
                return self.wait(timeout, tell)
        left = _countdown(timeout)
        self._tell(self.refresh(), on_progress)
        if not self._info.is_over:
            for news in follow_sweep(self._connection, self.id, self._info.latest, left):
                if isinstance(news, SweepInfo):
                    self._info = news
                    self._tell(news, on_progress)
            self._tell(self.refresh(), on_progress)
        if not self._info.is_over:
            raise self._still_going(timeout)
        return self._info

    def as_completed(self, timeout: float | None = None) -> Iterator[Task]:
        """Give each task when it has ended, those first that have ended before.

        Raises:
            StillGoing: not all have ended within `timeout` seconds. They go on.
            Unavailable: the server is away for longer than a minute. They go on.
        """
        left = _countdown(timeout)
        latest = self.refresh().latest
        given: set[str] = set()
        yield from self._ended(given)
        if len(given) < self._info.cases:
            waiting: list[str] = []
            asked_at = -_GATHERED
            for news in follow_sweep(self._connection, self.id, latest, left):
                # The server says how far the sweep is within a second of the last event: nothing waits for longer.
                is_due = isinstance(news, SweepInfo) or time.monotonic() - asked_at >= _GATHERED
                if isinstance(news, SweepInfo):
                    self._info = news
                elif isinstance(news, Event) and news.status.is_end and news.task not in given:
                    given.add(news.task)
                    waiting.append(news.task)
                if waiting and is_due:
                    asked_at = time.monotonic()
                    yield from Tasks(self._connection).named(waiting)
                    waiting.clear()
            yield from Tasks(self._connection).named(waiting)
            yield from self._ended(given)
        if len(given) < self._info.cases:
            raise self._still_going(timeout)

    def table(self, name: str) -> pa.Table:
        """Return one table of all tasks that have succeeded, with the columns `task`, `case` and the parameters.

        Raises:
            NotFound: there is no such table, or no task has given rows yet.
            NotInstalled: pyarrow is missing.
        """
        try:
            import pyarrow as pa
            from pyarrow import parquet
        except ImportError as error:
            raise errors.NotInstalled("Tables need pyarrow.", fix="pip install 'simyard[arrow]'") from error
        with self._open_table(name, "parquet") as chunks:
            data = b"".join(chunks)
        # On this thread alone: Arrow's own let go of the bytes later, and a program that has ended by then aborts.
        with parquet.ParquetFile(pa.BufferReader(data), pre_buffer=False) as file:
            return file.read(use_threads=False)

    def stream_table(self, name: str, form: str = "csv") -> TableStream:
        """Return the same table as bytes in pieces: `parquet`, `csv` or `json`; a context manager.

        Raises:
            NotFound: there is no such table, or no task has given rows yet.
        """
        return self._open_table(name, form)

    def save_table(self, name: str, path: str | os.PathLike[str]) -> tuple[int, int]:
        """Write the same table into a file, and return how many of the cases gave rows, and how many there are.

        The end of its name says how: `.parquet`, `.csv` or `.json`. An older file is replaced when all is there.

        Raises:
            InvalidInput: the name ends otherwise, or the file cannot be written.
            NotFound: there is no such table, or no task has given rows yet.
        """
        target = Path(path)
        form = check_form(target)
        part = target.with_name(f".{target.name}.{os.getpid()}.part")
        with self._open_table(name, form) as stream:
            try:
                with part.open("wb") as file:
                    for chunk in stream:
                        file.write(chunk)
                part.replace(target)
            except OSError as error:
                raise errors.InvalidInput(f"{str(target)!r} cannot be written: {error.strerror}.") from error
            finally:
                part.unlink(missing_ok=True)
            return stream.with_rows, stream.cases

    def download(
        self, folder: str | os.PathLike[str], glob: str | None = None, progress: Progress | None = None
    ) -> dict[int, Downloaded]:
        """Bring the outputs of all tasks that stored some into `folder/case-N`; what is there already stays.

        Returns what came of each case by its number.
        """
        width = len(str(self.info.cases))
        found: dict[int, Downloaded] = {}
        for task in self.tasks:
            if task.info.case is not None and task.info.result is not None:
                number = task.info.case.number
                found[number] = task.download(Path(folder) / f"case-{number:0{width}d}", glob, progress)
        return found

    def cancel(self) -> SweepInfo:
        """Ask that every task ends; what they have made so far is kept. Those that have ended stay as they are."""
        self._info = self._connection.ask(SweepInfo, "POST", f"{self._place}:cancel", repeatable=True, timeout=_SLOW)
        return self._info

    def _ended(self, given: set[str]) -> Iterator[Task]:
        for task in Tasks(self._connection).list(sweep=self.id, status=_ENDS):
            if task.id not in given:
                given.add(task.id)
                yield task

    def _open_table(self, name: str, form: str) -> TableStream:
        if "/" in name or name in {"", ".", ".."}:
            raise errors.NotFound(f"There is no table {name!r}.", field="name")
        return TableStream(self._connection, f"{self._place}/tables/{quote(name, safe='')}", form)

    def _tell(self, info: SweepInfo, on_progress: Callable[[SweepInfo], object] | None) -> None:
        if on_progress is not None:
            on_progress(info)

    def _still_going(self, timeout: float | None) -> errors.StillGoing:
        return errors.StillGoing(
            f"{self._info.cases - self._info.ended} of {self._info.cases} tasks still go on after {timeout or 0:g} s.",
            fix=f"They go on; `simyard sweeps wait {self.id}` waits again.",
        )


class TableStream:
    """A table on its way: a context manager that gives its bytes in pieces."""

    def __init__(self, connection: Connection, place: str, form: str) -> None:
        self._opened = connection.stream("GET", place, params={"format": form}, timeout=_SLOW)
        self.cases = 0
        """How many cases the sweep has."""
        self.with_rows = 0
        """How many of them gave rows."""

    def __enter__(self) -> TableStream:
        """Send the request.

        Raises:
            NotFound: there is no such table, or no task has given rows yet.
        """
        self._answer = self._opened.__enter__()
        self.cases = int(self._answer.headers.get("Simyard-Cases", "0"))
        self.with_rows = int(self._answer.headers.get("Simyard-Cases-With-Rows", "0"))
        return self

    def __exit__(self, *error: object) -> None:
        self._opened.__exit__(*error)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[bytes]:
        return self._answer.iter_bytes()


def check_form(path: Path) -> str:
    """Return how a table is written into a file of that name.

    Raises:
        InvalidInput: the name ends in nothing that is known.
    """
    form = FORMS.get(path.suffix.lower())
    if form is None:
        fix = f"Let its name end in {', '.join(FORMS)}."
        raise errors.InvalidInput(f"How is {str(path)!r} to be written?", field="out", fix=fix)
    return form


def _countdown(timeout: float | None) -> Callable[[], float]:
    ends = None if timeout is None else time.monotonic() + timeout
    return lambda: float("inf") if ends is None else ends - time.monotonic()
