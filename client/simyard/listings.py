"""What a server has: its tasks, its simulators and its projects."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple
from urllib.parse import quote

from pydantic import BaseModel

from simyard import errors
from simyard.connection import Connection
from simyard.handle import Task
from simyard.project import Pausing, Project
from simyard.rental import RentedMachine, RentedMachines
from simyard.simulator import SimulatorInfo
from simyard.status import Status
from simyard.task import Task as TaskInfo
from simyard.words import TaskIdText

_PAGE = 200
"""Tasks of one request: a page of a list, or those that are named, of which the server takes no more."""


class _Page(BaseModel):
    tasks: tuple[TaskInfo, ...]
    cursor: str | None = None


class _Simulators(BaseModel):
    simulators: tuple[SimulatorInfo, ...]


class _Projects(BaseModel):
    projects: tuple[Project, ...]


class _Id(BaseModel):
    id: TaskIdText


class TaskPage(NamedTuple):
    """Some tasks, newest first, and where the next page starts."""

    tasks: tuple[Task, ...]
    cursor: str | None


class Tasks:
    """The tasks of this user."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def get(self, task: str) -> Task:
        """Return a task by its id.

        Raises:
            NotFound: there is no such task.
        """
        try:
            _Id(id=task)
        except ValueError:
            raise errors.NotFound(
                f"{task!r} is no task's id.", field="task", fix="`simyard tasks list` shows yours."
            ) from None
        return Task(self._connection, self._connection.ask(TaskInfo, "GET", f"/v1/tasks/{task}"))

    def named(self, ids: Sequence[str]) -> Iterator[Task]:
        """Give the tasks of these ids in this order, those that there are, with one request for 200."""
        for start in range(0, len(ids), _PAGE):
            some = ids[start : start + _PAGE]
            page = self._connection.ask(_Page, "GET", "/v1/tasks", params={"ids": ",".join(some)})
            found = {info.id: info for info in page.tasks}
            yield from (Task(self._connection, found[one]) for one in some if one in found)

    def page(
        self,
        *,
        status: Status | str | Iterable[Status | str] | None = None,
        simulator: str | None = None,
        project: str | None = None,
        name: str | None = None,
        group: str | None = None,
        sweep: str | None = None,
        cursor: str | None = None,
        limit: int = 100,
    ) -> TaskPage:
        """Return one page of the tasks that fit all the filters."""
        statuses = [status] if isinstance(status, str) else list(status or ())
        asked = {
            "status": ",".join(str(one) for one in statuses) or None,
            "simulator": simulator,
            "project": project,
            "name": name,
            "group": group,
            "sweep": sweep,
            "cursor": cursor,
            "limit": limit,
        }
        params = {key: value for key, value in asked.items() if value is not None}
        page = self._connection.ask(_Page, "GET", "/v1/tasks", params=params)
        return TaskPage(tuple(Task(self._connection, info) for info in page.tasks), page.cursor)

    def list(
        self,
        *,
        status: Status | str | Iterable[Status | str] | None = None,
        simulator: str | None = None,
        project: str | None = None,
        name: str | None = None,
        group: str | None = None,
        sweep: str | None = None,
        limit: int | None = None,
    ) -> Iterator[Task]:
        """Give the tasks that fit all the filters, newest first, page by page as they are needed."""
        left, cursor = limit, None
        while left is None or left > 0:
            page = self.page(
                status=status,
                simulator=simulator,
                project=project,
                name=name,
                group=group,
                sweep=sweep,
                cursor=cursor,
                limit=_PAGE if left is None else min(left, _PAGE),
            )
            yield from page.tasks
            left = None if left is None else left - len(page.tasks)
            cursor = page.cursor
            if cursor is None or not page.tasks:
                return


class Simulators:
    """The catalogue of simulators."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def get(self, name: str) -> SimulatorInfo:
        """Return what the catalogue says of a simulator.

        Raises:
            NotFound: there is no such simulator.
        """
        if not name or name in {".", ".."}:
            raise errors.NotFound(f"There is no simulator {name!r}.", field="simulator")
        return self._connection.ask(SimulatorInfo, "GET", f"/v1/simulators/{quote(name, safe='')}")

    def list(self) -> tuple[SimulatorInfo, ...]:
        """Return every simulator of the catalogue."""
        return self._connection.ask(_Simulators, "GET", "/v1/simulators").simulators


class Machines:
    """The machines that a cloud has for this server, or had."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def page(self, *, ended: bool = False, group: str | None = None, limit: int = 200) -> RentedMachines:
        """Return up to so many machines, those launched last first, and whether there are more."""
        params = {"ended": ended, "limit": limit} | ({} if group is None else {"group": group})
        return self._connection.ask(RentedMachines, "GET", "/v1/machines", params=params)

    def list(self, *, ended: bool = False, group: str | None = None, limit: int = 200) -> tuple[RentedMachine, ...]:
        """Return the machines that are there, or those that have ended, each with its price and its cost so far."""
        return self.page(ended=ended, group=group, limit=limit).machines


class Projects:
    """The projects of this user."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def list(self) -> tuple[Project, ...]:
        """Return the projects of which tasks are queued or run, or that are paused."""
        return self._connection.ask(_Projects, "GET", "/v1/projects").projects

    def pause(self, name: str) -> None:
        """Let none of your tasks of a project start until `resume()`; what runs goes on.

        Raises:
            InvalidInput: it is no name.
        """
        self._connection.ask(Pausing, "POST", f"/v1/projects/{quote(name, safe='')}:pause", repeatable=True)

    def resume(self, name: str) -> None:
        """Let your tasks of a project start again."""
        self._connection.ask(Pausing, "POST", f"/v1/projects/{quote(name, safe='')}:resume", repeatable=True)
