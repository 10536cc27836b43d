"""A server's cluster at a glance: its cloud, its machine groups, and what they have cost."""

from __future__ import annotations

from pydantic import Field

from simyard.group import MachineGroup
from simyard.words import Moment, Word


class CloudState(Word):
    """The cloud of a cluster, as it answered when it was asked last."""

    provider: str
    """What the cluster file calls it."""
    region: str
    cluster: str
    """The name that all of the cluster's machines carry there."""
    answered_at: Moment | None = None
    """When it told last of its machines; None where it has not yet."""
    machines: int | None = None
    """How many it told of, the head among them."""
    error: str | None = None
    """Why it did not answer after that; None where it did."""
    fix: str | None = None
    """What to do about it."""


class ClusterStatus(Word):
    """What a server's tasks run on."""

    version: str
    """Of the server."""
    cloud: CloudState | None = None
    """None where the server starts no machines, or the first look is still to come."""
    max_machines: int | None = None
    """The most that the cluster file allows beside the head; None where the server starts none."""
    groups: tuple[MachineGroup, ...] = ()
    costs: dict[str, float] = Field(default_factory=dict)
    """US dollars of the last 30 days, by group, where prices are known."""
