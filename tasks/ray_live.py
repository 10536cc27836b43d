"""Looking into running attempts, waking the dispatcher and reading the groups, all through Ray."""

from __future__ import annotations

import asyncio
import logging
import math
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from simulators.work import NoSnapshot, Superseded
from simyard.checkpoint import Snapshot
from simyard.cluster import CloudState
from simyard.errors import NotFound, Unavailable
from simyard.event import LogStream, Sample
from simyard.group import MachineGroup
from tasks.bell import ring
from tasks.live import HolderGone, LiveFile, LogPiece
from tasks.reporting import DISPATCHER, NAMESPACE

log = logging.getLogger(__name__)

_TIMEOUT = 10.0
_BETWEEN_WAKES = 0.02
"""Seconds between two wake-ups of the dispatcher: who comes alone does not wait, and a burst costs few of them."""


async def _actor(name: str) -> Any:
    # get_actor asks Ray's head: a blocking call that must not hold the event loop.
    return await asyncio.to_thread(ray.get_actor, name, NAMESPACE)


class RayLive:
    """The Live of a cluster: it calls the Simulator actor that carries the attempt."""

    def __init__(self) -> None:
        self._handles: dict[str, Any] = {}

    async def _ask(self, holder: str, method: str, *arguments: Any, seconds: float = _TIMEOUT) -> Any:
        try:
            if holder not in self._handles:
                if len(self._handles) > 1000:
                    self._handles.clear()
                self._handles[holder] = await _actor(holder)
            return await asyncio.wait_for(getattr(self._handles[holder], method).remote(*arguments), seconds)
        except RayTaskError as error:
            if isinstance(error.cause, NotFound | NoSnapshot):
                raise error.cause from None
            if isinstance(error.cause, Superseded):
                raise HolderGone(str(error.cause)) from None
            raise
        except (RayError, ValueError, TimeoutError) as error:
            self._handles.pop(holder, None)
            raise HolderGone("The process that carries the attempt does not answer.") from error

    async def read_log(
        self, holder: str, task: str, attempt: int, stream: LogStream, offset: int, limit: int, wait: float
    ) -> LogPiece:
        """Return a piece of a log."""
        seconds = wait + _TIMEOUT
        data, ended = await self._ask(holder, "read_log", task, attempt, stream, offset, limit, wait, seconds=seconds)
        return LogPiece(offset=offset, data=data, ended=ended)

    async def list_files(self, holder: str, task: str, attempt: int) -> list[LiveFile]:
        """Return the files in the task's folder."""
        found = await self._ask(holder, "list_files", task, attempt)
        return [LiveFile(path=path, size=size, mtime_ns=mtime) for path, size, mtime in found]

    async def read_file(self, holder: str, task: str, attempt: int, path: str, offset: int, limit: int) -> bytes:
        """Return a piece of a file."""
        data: bytes = await self._ask(holder, "read_file", task, attempt, path, offset, limit)
        return data

    async def checkpoint(self, holder: str, task: str, attempt: int, patience: float) -> Snapshot:
        """Return a snapshot of the restart files as they are now."""
        seconds = patience + _TIMEOUT
        found: Snapshot = await self._ask(holder, "checkpoint", task, attempt, patience, seconds=seconds)
        return found

    async def samples(self, holder: str, task: str, attempt: int) -> list[Sample]:
        """Return what the simulation used so far."""
        found: list[Sample] = await self._ask(holder, "samples", task, attempt)
        return found


class RayDispatcher:
    """The dispatcher, as the HTTP face needs it; `bell` is the dispatcher's, on this machine."""

    def __init__(self, bell: Path) -> None:
        self._handle: Any = None
        self._bell = bell
        self._rung_at = -math.inf
        self._next: asyncio.TimerHandle | None = None
        """The wake-up that is to come."""

    async def _dispatcher(self) -> Any:
        if self._handle is None:
            self._handle = await _actor(DISPATCHER)
        return self._handle

    async def wake(self) -> None:
        """Wake the dispatcher; a wake-up that is lost costs a second, no more.

        For a moment after one, those that come share the next: a burst of submissions does not flood it.
        """
        if self._next is not None:
            return
        loop = asyncio.get_running_loop()
        rest = self._rung_at + _BETWEEN_WAKES - loop.time()
        if rest <= 0:
            self._ring()
        else:
            self._next = loop.call_later(rest, self._ring)

    def _ring(self) -> None:
        self._next = None
        self._rung_at = asyncio.get_running_loop().time()
        try:
            ring(self._bell)
        except OSError as error:
            log.warning("the dispatcher could not be woken: %s", error)

    async def groups(self) -> tuple[MachineGroup, ...]:
        """Return the groups with their machines.

        Raises:
            Unavailable: the dispatcher does not answer.
        """
        found: tuple[MachineGroup, ...] = await self._ask("groups")
        return found

    async def cloud(self) -> CloudState | None:
        """Return what is known of the cluster's cloud.

        Raises:
            Unavailable: the dispatcher does not answer.
        """
        found: CloudState | None = await self._ask("cloud")
        return found

    async def _ask(self, method: str) -> Any:
        try:
            return await asyncio.wait_for(getattr(await self._dispatcher(), method).remote(), 5.0)
        except (RayError, ValueError, TimeoutError) as error:
            self._handle = None
            raise Unavailable(
                "The dispatcher does not answer.", fix="It starts again by itself; try again in a few seconds."
            ) from error
