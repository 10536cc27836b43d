"""Machine groups: named sets of machines of one type."""

from __future__ import annotations

from pydantic import Field

from simyard.words import Name, Word


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


class MachineGroup(Word):
    """A named set of machines."""

    name: Name
    machines: tuple[Machine, ...] = Field(default=())
