"""Projects and machine groups of which a user's tasks do not start for now."""

from __future__ import annotations

import re
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Depends, Path, Response
from starlette.background import BackgroundTask

from serve.auth import User
from serve.context import Context, HasContext
from serve.machines import GroupMemory, memory_of
from serve.problems import PROBLEMS
from serve.streams import json_answer
from simyard.errors import InvalidInput, NotFound
from simyard.project import Pausing, Project
from simyard.words import Word
from tasks.rules import Account, Load, Pause, loads_of

router = APIRouter(tags=["projects"])
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


class Projects(Word):
    """Projects of one user."""

    projects: tuple[Project, ...]


async def _project(project: Annotated[str, Path(description="Its name.", examples=["bridge"])]) -> str:
    if not _NAME.fullmatch(project):
        fix = "A name has letters, digits, dots, dashes and underscores, at most 63."
        raise InvalidInput(f"{project[:100]!r} is no name of a project.", field="project", fix=fix)
    return project


async def _group(
    group: Annotated[str, Path(description="Its name.", examples=["local"])],
    groups: Annotated[GroupMemory, Depends(memory_of)],
) -> str:
    known = await groups.recent()
    names = None if known is None else [one.name for one in known]
    if not _NAME.fullmatch(group) or (names is not None and group not in names):
        fix = f"Known: {', '.join(names or ()) or 'none'}."
        raise NotFound(f"There is no machine group {group[:100]!r}.", field="group", fix=fix)
    return group


OneProject = Annotated[str, Depends(_project)]
OneGroup = Annotated[str, Depends(_group)]


@router.get("/v1/projects", summary="List projects", response_model=Projects, responses=PROBLEMS)
async def list_projects(context: HasContext, user: User) -> Response:
    """Return your projects that have tasks queued or running, outputs, costs of this month or a pause; with quotas."""
    return json_answer(Projects(projects=tuple(await to_thread.run_sync(_projects, context, user))))


@router.post("/v1/projects/{project}:pause", summary="Pause a project", response_model=Pausing, responses=PROBLEMS)
async def pause_project(context: HasContext, user: User, project: OneProject) -> Response:
    """Let none of your tasks of a project start until it is resumed; what runs goes on."""
    return await _set(context, Pause(user=user, project=project), paused=True)


@router.post("/v1/projects/{project}:resume", summary="Resume a project", response_model=Pausing, responses=PROBLEMS)
async def resume_project(context: HasContext, user: User, project: OneProject) -> Response:
    """Let your tasks of a project start again."""
    return await _set(context, Pause(user=user, project=project), paused=False)


@router.post("/v1/groups/{group}:pause", summary="Pause a machine group", response_model=Pausing, responses=PROBLEMS)
async def pause_group(context: HasContext, user: User, group: OneGroup) -> Response:
    """Let none of your tasks start in a machine group until it is resumed; what runs goes on."""
    return await _set(context, Pause(user=user, group=group), paused=True)


@router.post("/v1/groups/{group}:resume", summary="Resume a machine group", response_model=Pausing, responses=PROBLEMS)
async def resume_group(context: HasContext, user: User, group: OneGroup) -> Response:
    """Let your tasks start in a machine group again."""
    return await _set(context, Pause(user=user, group=group), paused=False)


async def _set(context: Context, pause: Pause, *, paused: bool) -> Response:
    await to_thread.run_sync(context.store.pause if paused else context.store.resume, pause)
    answer = json_answer(Pausing(project=pause.project, group=pause.group, paused=paused))
    if not paused:
        answer.background = BackgroundTask(context.waker.wake)
    return answer


def _projects(context: Context, user: str) -> list[Project]:
    now = context.clock()
    rules, loads = context.store.rules(now), loads_of(context.store.active(), now)
    queued = {lane.project for lane in context.store.lanes() if lane.user == user}
    paused = {pause.project for pause in rules.pauses if pause.user == user and pause.project is not None}
    stored, spent = context.store.stored(user), context.store.spent(now, user)
    names = queued | paused | {one.project for one in (*loads, *stored, *spent) if one.user == user and one.project}
    found = []
    for name in sorted(names):
        load = loads.get(Account(user, name), Load())
        quota = next((quota for quota in rules.quotas if quota.account == Account(user, name)), None)
        found.append(
            Project(
                name=name,
                paused=name in paused,
                queued=name in queued,
                running=load.running,
                cpus=load.cpus,
                running_quota=None if quota is None else quota.running,
                cpus_quota=None if quota is None else quota.cpus,
                stored=stored.get(Account(user, name), 0),
                storage_quota=None if quota is None else quota.storage,
                usd_per_hour=load.usd_per_hour,
                usd_per_hour_quota=None if quota is None else quota.usd_per_hour,
                usd_this_month=spent.get(Account(user, name), 0.0) + load.usd,
                usd_per_month_quota=None if quota is None else quota.usd_per_month,
            )
        )
    return found
