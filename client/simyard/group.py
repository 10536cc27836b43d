"""Machine groups: named sets of machines of one type."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Self

from pydantic import BeforeValidator, Field, StringConstraints, model_validator

from simyard.resources import GIB, Duration, parse_size
from simyard.words import Moment, Name, Word

GroupName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$")]
"""A name that begins and ends with a letter or a digit, as Ray's labels must."""
TypeName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
"""What a provider calls a machine type."""
Count = Annotated[int, Field(ge=0, le=10_000)]
"""Machines."""


class Market(StrEnum):
    """How machines are bought."""

    ON_DEMAND = "on-demand"
    SPOT = "spot"
    """Cheaper, and may be taken away."""
    SPOT_THEN_ON_DEMAND = "spot-then-on-demand"
    """Spot while it can be had."""


class GroupState(StrEnum):
    """Where a machine group stands."""

    READY = "ready"
    """It takes tasks."""
    ENDING = "ending"
    """No further task starts; its machines go once those that run have ended."""


class GroupSpec(Word):
    """A machine group as it is asked for: with `count` a fixed one, with `max` one that follows its tasks."""

    name: GroupName
    machine_types: tuple[TypeName, ...] = Field(min_length=1, max_length=8)
    """The first is taken while it can be had, else the next one."""
    count: Count | None = None
    """So many machines, always."""
    min: Count | None = None
    """Machines that are kept also when nothing is to be done; 0 by default."""
    max: Count | None = None
    """The most machines."""
    market: Market = Market.ON_DEMAND
    idle: Duration | None = None
    """Seconds for which an idle machine is kept; by default as the cluster file says."""
    ends_at: Moment | None = None
    """When it ends: what runs then is cancelled, and its outputs are kept."""
    disk: Annotated[int, BeforeValidator(parse_size), Field(ge=8 * GIB, le=64 * 1024 * GIB)] | None = None
    """Bytes of each machine's own disk; by default as the cluster file says."""
    mpi: bool = False
    """For tasks over several machines: it has all of its machines, of one type, or none."""

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        _check_sizes(self.count, self.min, self.max)
        if self.mpi and self.min not in {None, 0, self.max}:
            raise ValueError(f"`min` {self.min} is a part of an MPI group, which has all or none; leave `min` out")
        if self.count is None and self.max is None:
            raise ValueError("`count` or `max` is needed: give `count` for a fixed group, `max` for an elastic one")
        if not (self.count if self.max is None else self.max):
            raise ValueError("a group has at least one machine; give 1 or more")
        if len(set(self.machine_types)) < len(self.machine_types):
            raise ValueError("`machine_types` names a type twice; name each once")
        return self

    @property
    def least(self) -> int:
        """The machines that it always has."""
        return (self.min or 0) if self.count is None else self.count

    @property
    def most(self) -> int:
        """The machines that it may have."""
        return self.count if self.count is not None else (self.max or 0)


class GroupChange(Word):
    """What is to become of a machine group; None leaves as it is."""

    count: Count | None = None
    min: Count | None = None
    max: Count | None = None
    idle: Duration | None = None
    ends_at: Moment | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        _check_sizes(self.count, self.min, self.max)
        if not self.model_fields_set:
            raise ValueError("it changes nothing; give `count`, `min`, `max`, `idle` or `ends_at`")
        return self


def _check_sizes(count: int | None, least: int | None, most: int | None) -> None:
    if count is not None and (least is not None or most is not None):
        raise ValueError("`count` is for a fixed group, `min` and `max` for an elastic one; give one or the other")
    if least is not None and most is not None and least > most:
        raise ValueError(f"`min` {least} is more than `max` {most}; give a smaller one")


class LaunchTrouble(Word):
    """Why machines of a group cannot be started at present."""

    code: str
    """As the provider calls it."""
    message: str
    fix: str
    """What to do about it."""
    machine_type: str
    market: Market
    count: int
    """How often in a row."""
    since: Moment
    next_try: Moment


class GroupEnd(Word):
    """How a group is to end."""

    now: bool = False
    """Cancel what runs, and keep what it has written; else it goes on to its end."""


class Machine(Word):
    """One Ray node."""

    id: str
    """Ray's node id."""
    name: str
    """Host name."""
    group: Name
    cpus: float
    memory: int
    """Bytes that tasks may take together."""
    gpus: int
    cpus_free: float
    memory_free: int
    gpus_free: int
    idle_since: Moment | None = None
    """Since when it carries no task; None where it does, or that is not known."""
    disk: int | None = None
    """Bytes of the disk with the tasks' folders that may be reserved together; None where it is not known."""
    disk_free: int | None = None
    set_aside_until: Moment | None = None
    """It gets no tasks until then, since several failed there at once; None where it does."""
    is_leaving: bool = False
    """It is being taken away by its cloud, and gets no tasks any more."""


class Offer(Word):
    """What one machine offers to tasks."""

    cpus: float
    memory: int
    """Bytes."""
    gpus: int = 0
    disk: int | None = None
    """Bytes that tasks may reserve together; None where it is not known."""


class MachineGroup(Word):
    """A named set of machines; `min`, `max` and `offers` are None for those that nobody starts."""

    name: Name
    machines: tuple[Machine, ...] = Field(default=())
    machine_type: str | None = None
    """As the provider calls it."""
    min: int | None = None
    """The machines that it has also when nothing is to be done."""
    max: int | None = None
    offers: Offer | None = None
    """Of each machine, also of those that have not started."""
    state: GroupState = GroupState.READY
    user: str | None = None
    """Who has made it; None where it stands in the cluster file or is the server's own."""
    machine_types: tuple[str, ...] = ()
    """In the order in which they are taken."""
    market: Market | None = None
    idle: float | None = None
    """Seconds for which an idle machine is kept."""
    ends_at: Moment | None = None
    disk: int | None = None
    """Bytes, where it was asked for."""
    mpi: bool = False
    """Whether it has all of its machines or none."""
    running: int | None = None
    """Tasks that hold one of its machines; None where it is not counted."""
    queued: int | None = None
    """Tasks that wait for it."""
    wanted: int | None = None
    """The machines that it shall have now."""
    troubles: tuple[LaunchTrouble, ...] = ()
    """Why machines cannot be started at present, by machine type and market."""

    @property
    def places(self) -> tuple[Machine | Offer, ...]:
        """What tasks may find here: the machines that are there, and one that would be started."""
        return self.machines if self.offers is None else (*self.machines, self.offers)
