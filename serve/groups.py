"""Machine groups that users make, change and end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Depends, Response
from starlette.background import BackgroundTask

from cluster.cluster_file import ClusterFile, groups_of
from cluster.group_record import GroupRecord, changed, check_size, check_spec, new_record
from cluster.machine_types import list_types
from serve.auth import User
from serve.bodies import documented, json_body
from serve.context import Context, HasContext
from serve.examples import GROUP, GROUP_CHANGE, GROUP_END
from serve.machines import GroupMemory, memory_of
from serve.problems import PROBLEMS
from serve.projects import OneGroup
from serve.streams import json_answer
from simyard.errors import Conflict, InvalidInput, NotFound, NotYours
from simyard.group import GroupChange, GroupEnd, GroupSpec, MachineGroup
from simyard.words import Word
from tasks.rules import Pause

router = APIRouter(tags=["machines"])
_REFUSED: dict[int | str, dict[str, Any]] = {
    403: {"description": "The group is another user's."},
    409: {"description": "The name is taken, or the group is none that a command has made, or is ending."},
}
Memory = Annotated[GroupMemory, Depends(memory_of)]


class Groups(Word):
    """All machine groups."""

    groups: tuple[MachineGroup, ...]


@router.get("/v1/groups", summary="List machine groups", responses=PROBLEMS)
async def list_groups(context: HasContext, _user: User) -> Groups:
    """Return every machine group with its machines, what is free on them, and how many tasks run and wait."""
    return Groups(groups=await counted(context, await context.groups()))


@router.post(
    "/v1/groups",
    summary="Make a machine group",
    response_model=MachineGroup,
    status_code=201,
    responses={**PROBLEMS, **_REFUSED, 200: {"description": "It was made before by the same request."}},
    openapi_extra=documented(GroupSpec, elastic=GROUP),
)
async def make_group(
    context: HasContext, user: User, memory: Memory, spec: Annotated[GroupSpec, Depends(json_body(GroupSpec))]
) -> Response:
    """Return the group that is made: its machines start when tasks wait for them, those of a fixed one at once.

    The same request once more gives the same group.
    """
    known = await memory.recent() or ()
    record, is_new = await to_thread.run_sync(_make, context, spec, user, [one.name for one in known])
    return await _told(context, memory, record, 201 if is_new else 200)


@router.get("/v1/groups/{group}", summary="Look at a machine group", response_model=MachineGroup, responses=PROBLEMS)
async def get_group(context: HasContext, _user: User, group: OneGroup) -> Response:
    """Return a machine group with its machines, and why others cannot be started."""
    return json_answer(await _one(context, group))


@router.patch(
    "/v1/groups/{group}",
    summary="Change a machine group",
    response_model=MachineGroup,
    responses={**PROBLEMS, **_REFUSED},
    openapi_extra=documented(GroupChange, larger=GROUP_CHANGE),
)
async def change_group(
    context: HasContext,
    user: User,
    memory: Memory,
    group: OneGroup,
    change: Annotated[GroupChange, Depends(json_body(GroupChange))],
) -> Response:
    """Change how many machines a group that you made has, how long idle ones are kept, or when it ends."""
    record = await to_thread.run_sync(_change, context, group, change, user)
    return await _told(context, memory, record)


@router.post(
    "/v1/groups/{group}:end",
    summary="End a machine group",
    response_model=MachineGroup,
    status_code=202,
    responses={**PROBLEMS, **_REFUSED},
    openapi_extra=documented(GroupEnd, now=GROUP_END),
)
async def end_group(
    context: HasContext,
    user: User,
    memory: Memory,
    group: OneGroup,
    end: Annotated[GroupEnd, Depends(json_body(GroupEnd))],
) -> Response:
    """Let no further task start in a group that you made; its machines go when those that run have ended.

    With `now`, they are cancelled, and what they have written is kept.
    """
    record = await to_thread.run_sync(_end, context, group, end, user)
    return await _told(context, memory, record, 202)


async def _told(context: Context, memory: GroupMemory, record: GroupRecord, status: int = 200) -> Response:
    memory.forget()
    answer = json_answer(await _one(context, record.spec.name), status)
    answer.background = BackgroundTask(context.waker.wake)
    return answer


async def _one(context: Context, name: str) -> MachineGroup:
    found = [group for group in await context.groups() if group.name == name]
    if not found:
        fix = "`simyard groups list` shows all."
        raise NotFound(f"There is no machine group {name!r}.", field="group", fix=fix)
    return (await counted(context, found))[0]


async def counted(context: Context, groups: Sequence[MachineGroup]) -> tuple[MachineGroup, ...]:
    """Return the groups with how many tasks run and wait in each."""

    def look() -> tuple[MachineGroup, ...]:
        running = Counter(record.task.group for record in context.store.active())
        queued = context.store.queued()
        return tuple(
            one.model_copy(update={"running": running[one.name], "queued": queued.get(one.name, 0)}) for one in groups
        )

    return await to_thread.run_sync(look)


def _make(context: Context, spec: GroupSpec, user: str, known: Sequence[str]) -> tuple[GroupRecord, bool]:
    document = _file(context).read()
    now, store = context.clock(), context.store
    records = _standing(context)
    for one in records:
        if (one.spec, one.user, one.ending_since) == (spec, user, None):
            return one, False
        if one.spec.name == spec.name and one.ending_since is not None:
            fix = "Wait until its machines are gone, or take another name."
            raise Conflict(f"The group {spec.name} is ending.", field="name", fix=fix)
    # Own hardware that has joined is a group that neither the file nor the store knows.
    taken = {one.name for one in groups_of(document)} | {one.spec.name for one in records} | set(known)
    check_spec(spec, document, list_types(context.machine_types), sorted(taken), now)
    record = new_record(spec, user, now)
    # One that was left by an earlier group of that name would keep its tasks from starting.
    store.resume(Pause(group=spec.name))
    store.put_group(record)
    return record, True


def _change(context: Context, name: str, change: GroupChange, user: str) -> GroupRecord:
    before = _own(context, name, user)
    if before.ending_since is not None:
        raise Conflict(f"The group {name} is ending.", field="group", fix="Make a new one: `simyard groups create`.")
    spec = changed(before.spec, change)
    check_size(spec, _file(context).read(), context.clock())
    return _put(context, before, before.model_copy(update={"spec": spec}))


def _end(context: Context, name: str, end: GroupEnd, user: str) -> GroupRecord:
    before = _own(context, name, user)
    since = before.ending_since or context.clock()
    after = before.model_copy(update={"ending_since": since, "stops": before.stops or end.now})
    if end.now and not before.stops and before.ending_since is not None:
        # Who is asked to stop only now has the whole time for it.
        after = after.model_copy(update={"ending_since": context.clock()})
    context.store.pause(Pause(group=name))
    return _put(context, before, after)


def _put(context: Context, before: GroupRecord, after: GroupRecord) -> GroupRecord:
    if after != before:
        context.store.put_group(after, before)
    return after


def _standing(context: Context) -> list[GroupRecord]:
    """Return the groups that were made by a command and have not ended."""
    return [one for one in context.store.group_records() if one.ended_at is None]


def _own(context: Context, name: str, user: str) -> GroupRecord:
    found = [one for one in _standing(context) if one.spec.name == name]
    if not found:
        fix = "Change the cluster file and run `ray up` again." if context.cluster is not None else None
        raise Conflict(f"The group {name} was not made by a command.", field="group", fix=fix)
    if found[0].user != user:
        raise NotYours(f"The group {name} is {found[0].user}'s.", field="group", fix=f"Ask {found[0].user}.")
    return found[0]


def _file(context: Context) -> ClusterFile:
    if context.cluster is None:
        reason = "This server runs on one machine and can start no others."
        fix = "Launch a cluster with `ray up cluster.yaml`: docs/how-to/from-laptop-to-cloud.md."
        raise InvalidInput(reason, field="machine_types", fix=fix)
    return context.cluster
