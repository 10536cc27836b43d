"""Machines that join a server by a command: who may, and what they are told."""

from __future__ import annotations

import ipaddress
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Depends, Request, Response, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from serve.bodies import documented, json_body
from serve.context import Door, HasContext
from serve.examples import JOINING
from serve.membership import Joining, Membership, check_versions, own_versions
from serve.problems import PROBLEMS
from serve.streams import json_answer
from simyard.errors import Conflict, Unauthorized, Unavailable
from simyard.group import MachineGroup
from storage.identity import identity_of

router = APIRouter(tags=["machines"])


_bearer = HTTPBearer(auto_error=False, scheme_name="join-token", description="A join token: `syj_…`.")


async def _door_of(
    context: HasContext, request: Request, _described: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]
) -> Door:
    """Return what is behind the door for the machine whose join token the request carries.

    Raises:
        Unauthorized: it carries none, or one that is not good.
    """
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not secret:
        fix = "Send the header `Authorization: Bearer syj_…`."
        raise Unauthorized("The request has no join token.", field="Authorization", fix=fix)
    if context.door is None:
        raise Unavailable("This server has no Ray that a machine could join.")
    await to_thread.run_sync(context.door.tokens.verify, secret, context.clock())
    return context.door


@router.post(
    "/v1/machines:join",
    summary="Join as a machine",
    response_model=Membership,
    responses=PROBLEMS,
    openapi_extra=documented(Joining, workstation=JOINING),
)
async def join(
    context: HasContext,
    request: Request,
    door: Annotated[Door, Depends(_door_of)],
    joining: Annotated[Joining, Depends(json_body(Joining))],
) -> Response:
    """Return what a machine needs to know to join. It takes a join token in place of an API key."""
    check_versions(own_versions(), joining.versions)
    _check_way(door.head, request.client.host if request.client else "")
    _check_name(joining, await context.groups())
    storage_id = await to_thread.run_sync(identity_of, context.storage)
    told = Membership(
        server=door.server,
        head=door.head,
        storage=context.storage.uri,
        storage_id=storage_id,
        environment=door.environment,
    )
    # It holds Ray's token, which nobody on the way shall keep.
    return json_answer(told, headers={"Cache-Control": "no-store"})


def _check_way(head: str, peer: str) -> None:
    """Refuse a machine that cannot reach Ray, where that is known here."""
    if _is_loopback(head.rpartition(":")[0]) and not _is_loopback(peer):
        raise Conflict(
            "The server's Ray can be reached from its own machine only.",
            fix="Start the server with `simyard up --host IP`, with an address that other machines reach.",
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _check_name(joining: Joining, groups: tuple[MachineGroup, ...]) -> None:
    """Refuse a name that another machine has, and a group whose machines the server itself starts and ends."""
    for group in groups:
        if group.name == joining.group and group.max is not None:
            reason = f"The machines of group {group.name} are started by the server, as its tasks need them."
            raise Conflict(reason, field="group", fix="Give another group with --group.")
        if not joining.rejoins and any(one.name == joining.name and not one.is_leaving for one in group.machines):
            reason = f"The server has a machine {joining.name} already, in group {group.name}."
            raise Conflict(reason, field="name", fix="Give another name with --name.")
