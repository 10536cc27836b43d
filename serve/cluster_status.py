"""The cluster at a glance."""

from __future__ import annotations

from datetime import timedelta

from anyio import to_thread
from fastapi import APIRouter, Response

from serve.auth import User
from serve.context import HasContext
from serve.groups import counted
from serve.health import server_version
from serve.problems import PROBLEMS
from serve.rentals import costs_since
from serve.streams import json_answer
from simyard.cluster import ClusterStatus

router = APIRouter(tags=["machines"])
_SPAN = timedelta(days=30)


@router.get("/v1/cluster", summary="Look at the cluster", response_model=ClusterStatus, responses=PROBLEMS)
async def look_at_cluster(context: HasContext, _user: User) -> Response:
    """Return what tasks run on: the cloud and whether it answers, the groups, and what they cost in 30 days."""
    groups = await counted(context, await context.groups())
    cloud = await context.cloud()

    def look() -> tuple[int | None, dict[str, float]]:
        most = None if context.cluster is None else int(context.cluster.read().get("max_workers", 0))
        return most, costs_since(context, context.clock() - _SPAN)

    most, costs = await to_thread.run_sync(look)
    status = ClusterStatus(version=server_version(), cloud=cloud, max_machines=most, groups=groups, costs=costs)
    return json_answer(status)
