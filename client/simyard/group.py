"""Machine groups: named sets of machines of one type."""

from __future__ import annotations

from pydantic import Field

from simyard.words import Moment, Name, Word


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


class MachineGroup(Word):
    """A named set of machines; `min`, `max` and `offers` are None where it does not follow its tasks."""

    name: Name
    machines: tuple[Machine, ...] = Field(default=())
    machine_type: str | None = None
    """As the provider calls it."""
    min: int | None = None
    """The machines that it has also when nothing is to be done."""
    max: int | None = None
    offers: Offer | None = None
    """Of each machine, also of those that have not started."""

    @property
    def places(self) -> tuple[Machine | Offer, ...]:
        """What tasks may find here: the machines that are there, and one that would be started."""
        return self.machines if self.offers is None else (*self.machines, self.offers)
