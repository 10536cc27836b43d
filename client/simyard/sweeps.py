"""The sweeps that a server has."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel

from simyard import errors
from simyard.collection import Sweep
from simyard.connection import Connection
from simyard.sweep import Sweep as SweepInfo
from simyard.words import SweepIdText

_PAGE = 50


class _Page(BaseModel):
    sweeps: tuple[SweepInfo, ...]
    cursor: str | None = None


class _Id(BaseModel):
    id: SweepIdText


class Sweeps:
    """The sweeps of this user."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def get(self, sweep: str) -> Sweep:
        """Return a sweep by its id.

        Raises:
            NotFound: there is no such sweep.
        """
        try:
            _Id(id=sweep)
        except ValueError:
            fix = "`simyard sweeps list` shows yours."
            raise errors.NotFound(f"{sweep!r} is no sweep's id.", field="sweep", fix=fix) from None
        return Sweep(self._connection, self._connection.ask(SweepInfo, "GET", f"/v1/sweeps/{sweep}"))

    def list(self, limit: int | None = None) -> Iterator[Sweep]:
        """Give the sweeps, newest first, page by page as they are needed."""
        left, cursor = limit, None
        while left is None or left > 0:
            params = {"limit": _PAGE if left is None else min(left, _PAGE)} | ({"cursor": cursor} if cursor else {})
            page = self._connection.ask(_Page, "GET", "/v1/sweeps", params=params)
            yield from (Sweep(self._connection, info) for info in page.sweeps)
            left = None if left is None else left - len(page.sweeps)
            cursor = page.cursor
            if cursor is None or not page.sweeps:
                return
