"""What the HTTP face needs of the rest of Simyard, each part behind a narrow Protocol."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, cast

from fastapi import Depends, Request

from cluster.cluster_file import ClusterFile
from serve.join_tokens import JoinTokens
from simyard.cluster import CloudState
from simyard.group import MachineGroup
from storage.objects import ObjectStore
from tasks.live import Live, Waker
from tasks.prices import Prices
from tasks.store import Store


def _now() -> datetime:
    return datetime.now(UTC)


async def _no_cloud() -> CloudState | None:
    return None


@dataclass(frozen=True, kw_only=True)
class Door:
    """What the server knows for machines that join."""

    server: str
    head: str
    environment: dict[str, str] = field(repr=False)
    tokens: JoinTokens


@dataclass(frozen=True, kw_only=True)
class Context:
    """The parts behind the HTTP face."""

    store: Store
    """The durable queue."""
    storage: ObjectStore
    """Inputs, outputs and tables."""
    live: Live
    """Looks into running attempts."""
    waker: Waker
    """Tells the dispatcher of news."""
    groups: Callable[[], Awaitable[tuple[MachineGroup, ...]]]
    """Gives the machine groups as they are now."""
    secret: bytes
    """Signs the URLs that the server hands out; the same in every replica."""
    machine_types: Path | None = None
    """The file of what was refreshed of the machine types since the release."""
    cluster: ClusterFile | None = None
    """The autoscaler's file of a cluster that can start machines."""
    cloud: Callable[[], Awaitable[CloudState | None]] = _no_cloud
    """Gives what is known of the cluster's cloud."""
    prices: Callable[[], Prices] = Prices
    """Gives what machines cost."""
    door: Door | None = None
    """What machines need to know that join; None where there is no Ray."""
    clock: Callable[[], datetime] = _now
    """Gives the time, with its zone."""
    url_seconds: int = 6 * 3600
    """How long a signed URL is valid."""
    poll_seconds: float = 0.03
    """How long open streams pause between two pages of news."""
    heartbeat_seconds: float = 15.0
    """How often a silent event stream says that it lives."""


async def context_of(request: Request) -> Context:
    """Return the context of the application that answers the request."""
    return cast(Context, request.app.state.context)


HasContext = Annotated[Context, Depends(context_of)]
"""A parameter that receives the context."""
