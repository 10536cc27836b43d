"""What a cloud's machines have cost: each one from its launch to its end, and a group's together."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from simyard.words import Moment, Word


class RentedMachine(Word):
    """A machine of a cloud, from its launch to its end."""

    id: str
    """As its cloud calls it."""
    group: str
    """Its machine group; the node type of one that belongs to none, such as the head."""
    machine_type: str
    """As its cloud calls it."""
    market: Literal["on-demand", "spot"]
    zone: str
    launched_at: Moment
    last_seen_at: Moment
    """When the cloud told of it last, to a minute."""
    ended_at: Moment | None = None
    why_ended: str | None = None
    hours: float = Field(ge=0)
    """How long it was there, until now or its end."""
    price_per_hour: float | None = Field(default=None, ge=0)
    """US dollars, as the catalogue of machine types has it; None where it does not know it."""
    cost: float | None = Field(default=None, ge=0)
    """US dollars so far: the hours times the price."""


class RentedMachines(Word):
    """Machines of a cloud, those launched last first."""

    machines: tuple[RentedMachine, ...]
    more: bool
    """Whether there are more than were asked for."""
    has_cloud: bool
    """Whether this server's machines are a cloud's, of which prices may be known."""


class GroupCost(Word):
    """What the machines of a group have cost together."""

    group: str
    since: Moment | None = None
    """Only what came after it is counted; None: all."""
    machines: int
    """How many there were."""
    hours: float
    """Of all of them together."""
    cost: float | None = None
    """US dollars; None where no price is known of any of them, or they are no cloud's."""
    unpriced: int = 0
    """How many of the machines are not in `cost`, since nobody knows their price."""
    has_cloud: bool
    """Whether this server's machines are a cloud's, of which prices may be known."""
