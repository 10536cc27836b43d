"""The HTTP face as one application: it runs in Ray Serve, and as well under any other ASGI server."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from serve import (
    batches,
    cluster_status,
    events,
    groups,
    health,
    inputs,
    joining,
    listing,
    logs,
    machines,
    objects,
    outputs,
    problems,
    projects,
    rentals,
    shelf,
    submissions,
    sweep_events,
    sweep_tables,
    sweeps,
    tables,
    uploads,
    working_files,
)
from serve.auth import Doorkeeper
from serve.context import Context
from serve.intake import Intake
from serve.machines import GroupMemory
from serve.news import Feed
from serve.openapi import describe
from serve.sweep_events import Glances, Pages
from serve.sweeps import Turns

# One line for each topic of the API, in the order in which its documentation shows them.
_TOPICS = (
    submissions,
    batches,
    listing,
    sweeps,
    sweep_events,
    sweep_tables,
    events,
    logs,
    outputs,
    tables,
    working_files,
    objects,
    inputs,
    uploads,
    shelf,
    projects,
    groups,
    machines,
    rentals,
    cluster_status,
    joining,
    health,
)


def build_app(context: Context) -> FastAPI:
    """Return the application over the parts that the context names; nothing is started before the first request."""
    app = FastAPI(title="Simyard", version=health.server_version(), redoc_url=None)
    app.state.context = context
    app.state.doorkeeper = Doorkeeper(context)
    app.state.feed = Feed(context)
    app.state.groups = GroupMemory(context)
    app.state.turns = Turns()
    app.state.glances = Glances(context)
    app.state.pages = Pages(context, app.state.feed)
    app.state.intake = Intake(context)
    for topic in _TOPICS:
        app.include_router(topic.router)
    app.add_middleware(problems.Shortcut, method="POST", path="/v1/tasks", operation=submissions.submit)
    problems.install(app)
    described: list[dict[str, Any]] = []

    def openapi() -> dict[str, Any]:
        if not described:
            described.append(describe(app))
        return described[0]

    app.openapi = openapi  # type: ignore[method-assign]
    return app
