"""The machine groups, remembered for a moment so that a burst of submissions asks for them once."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import cast

from anyio import to_thread
from fastapi import APIRouter, Request, Response

from cluster.machine_types import list_types
from cluster.provider import cloud_name, region_of
from serve.auth import User
from serve.context import Context, HasContext
from serve.problems import PROBLEMS
from serve.streams import json_answer
from simyard.errors import Unavailable
from simyard.group import MachineGroup
from simyard.machine_type import MachineType
from simyard.words import Word

_SECONDS = 2.0
_SECONDS_WITHOUT = 10.0
_log = logging.getLogger(__name__)

router = APIRouter(tags=["machines"])


class MachineTypes(Word):
    """What clouds sell."""

    machine_types: tuple[MachineType, ...]


class GroupMemory:
    """The groups as they were a moment ago."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._known: tuple[MachineGroup, ...] | None = None
        self._until = 0.0
        self._asking = asyncio.Lock()

    def forget(self) -> None:
        """Ask anew the next time: a group was made, changed or ended."""
        self._until = 0.0

    async def recent(self) -> tuple[MachineGroup, ...] | None:
        """Return the groups, older ones where nobody can tell at present, None where nobody ever could.

        A task is accepted without them: it must not depend on a machine, or the dispatcher, being there.
        """
        async with self._asking:
            if time.monotonic() >= self._until:
                remembered = _SECONDS
                try:
                    self._known = await self._context.groups()
                except Unavailable as error:
                    # Finding that nobody answers takes seconds, which not every submission must wait for.
                    remembered = _SECONDS_WITHOUT
                    _log.warning("The machine groups are not known at present: %s", error)
                self._until = time.monotonic() + remembered
        return self._known


async def memory_of(request: Request) -> GroupMemory:
    """Return the memory of the application that answers the request."""
    return cast(GroupMemory, request.app.state.groups)


@router.get("/v1/machine-types", summary="List machine types", response_model=MachineTypes, responses=PROBLEMS)
async def list_machine_types(context: HasContext, _user: User) -> Response:
    """Return what clouds sell: cores, memory, GPUs, disks, and prices by region with their source and date.

    A server whose machines are a cloud's tells what that cloud sells, and the prices of its region first.
    """

    def look() -> Response:
        return json_answer(MachineTypes(machine_types=_sold(context)))

    return await to_thread.run_sync(look)


def _sold(context: Context) -> tuple[MachineType, ...]:
    known = list_types(context.machine_types)
    priced = tuple(one for one in known if one.prices)
    if context.cluster is None:
        return priced
    document = context.cluster.read()
    provider, region = cloud_name(document), region_of(document)
    ours = tuple(
        one.model_copy(update={"prices": tuple(sorted(one.prices, key=lambda price: price.region != region))})
        for one in known
        if one.provider == provider
    )
    # Hosts of one's own, and clouds of which the catalogue knows nothing, are not in it.
    return ours or priced
