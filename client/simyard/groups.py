"""The machine groups of a server: seen, made, changed and ended."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from urllib.parse import quote

from pydantic import BaseModel, ValidationError

from simyard.connection import Connection
from simyard.errors import InvalidInput
from simyard.group import GroupChange, GroupEnd, GroupSpec, MachineGroup, Market
from simyard.project import Pausing
from simyard.rental import GroupCost
from simyard.submission import refusal_of
from simyard.words import Word

W = TypeVar("W", bound=Word)


class _Groups(BaseModel):
    groups: tuple[MachineGroup, ...]


class Groups:
    """The machine groups."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def list(self) -> tuple[MachineGroup, ...]:
        """Return every machine group with its machines and what is free on them."""
        return self._connection.ask(_Groups, "GET", "/v1/groups").groups

    def get(self, name: str) -> MachineGroup:
        """Return a group with its machines, and why others cannot be started.

        Raises:
            NotFound: there is no such group.
        """
        return self._connection.ask(MachineGroup, "GET", _path(name))

    def create(
        self,
        name: str,
        machine_type: str | Sequence[str],
        *,
        count: int | None = None,
        min: int | None = None,  # noqa: A002 - as the API calls it
        max: int | None = None,  # noqa: A002 - likewise
        market: Market | str = Market.ON_DEMAND,
        idle: float | str | None = None,
        ends_at: datetime | None = None,
        disk: int | str | None = None,
        mpi: bool = False,
    ) -> MachineGroup:
        """Return the group that is made: with `count` a fixed one, with `max` one that follows its tasks.

        Of several machine types the first is taken while it can be had. `idle` is in seconds and `disk` in bytes where
        they are no texts with a unit. With `mpi` it has all of its machines, of one type, or none.

        Raises:
            InvalidInput: a field is wrong, or the server can start no machines.
            Conflict: there is a group of that name.
        """
        types = [machine_type] if isinstance(machine_type, str) else list(machine_type)
        given: dict[str, Any] = {"name": name, "machine_types": types, "count": count, "min": min, "max": max}
        given |= {"market": market, "idle": idle, "ends_at": ends_at, "disk": disk, "mpi": mpi or None}
        return self._send("POST", "/v1/groups", _checked(GroupSpec, given))

    def resize(
        self,
        name: str,
        *,
        count: int | None = None,
        min: int | None = None,  # noqa: A002 - as the API calls it
        max: int | None = None,  # noqa: A002 - likewise
        idle: float | str | None = None,
        ends_at: datetime | None = None,
    ) -> MachineGroup:
        """Return a group as it is after a change of its size, its idle limit or its end.

        Raises:
            InvalidInput: a field is wrong.
            Conflict: it stands in the cluster file, or is ending.
            NotYours: it is another user's.
        """
        given = {"count": count, "min": min, "max": max, "idle": idle, "ends_at": ends_at}
        return self._send("PATCH", _path(name), _checked(GroupChange, given))

    def end(self, name: str, *, now: bool = False) -> MachineGroup:
        """Let no further task start in a group; its machines go once those that run have ended.

        With `now`, what runs is cancelled, and what it has written is kept.

        Raises:
            Conflict: it stands in the cluster file.
            NotYours: it is another user's.
        """
        return self._send("POST", f"{_path(name)}:end", GroupEnd(now=now))

    def cost(self, name: str, since: datetime | timedelta | None = None) -> GroupCost:
        """Return what a group's machines have cost together, all in all or since a moment, or in the time until now.

        Raises:
            NotFound: there is no such group, and there was none.
            InvalidInput: the moment lies in the future, or has no zone.
        """
        try:
            moment = datetime.now(UTC) - since if isinstance(since, timedelta) else since
        except OverflowError:
            raise InvalidInput("is longer than time.", field="since", fix="Leave it out for all.") from None
        if moment is not None and moment.tzinfo is None:
            raise InvalidInput("has no zone.", field="since", fix="Give for example datetime.now(UTC).")
        params = {} if moment is None else {"since": moment.isoformat()}
        return self._connection.ask(GroupCost, "GET", f"{_path(name)}/cost", params=params)

    def pause(self, name: str) -> None:
        """Let none of your tasks start in a group until `resume()`; what runs goes on.

        Raises:
            NotFound: there is no such group.
        """
        self._connection.ask(Pausing, "POST", f"{_path(name)}:pause", repeatable=True)

    def resume(self, name: str) -> None:
        """Let your tasks start in a group again."""
        self._connection.ask(Pausing, "POST", f"{_path(name)}:resume", repeatable=True)

    def _send(self, method: str, place: str, word: Word) -> MachineGroup:
        body = word.model_dump_json(exclude_none=True).encode()
        headers = {"Content-Type": "application/json"}
        return self._connection.ask(MachineGroup, method, place, body=body, headers=headers, repeatable=True)


def _checked(kind: type[W], given: dict[str, Any]) -> W:
    try:
        return kind.model_validate({field: value for field, value in given.items() if value is not None})
    except ValidationError as error:
        raise refusal_of(error) from None


def _path(group: str) -> str:
    return f"/v1/groups/{quote(group, safe='')}"
