"""What a task costs an hour: its share of the machine on which it runs, times the machine's price."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cluster.fleet import Room
from simyard.resources import Resources
from tasks.placement import Host


@dataclass(frozen=True, kw_only=True)
class Sold:
    """A kind of machine of a group, with what one of them offers to tasks and what it costs an hour."""

    group: str
    offers: Room
    usd_per_hour: float


@dataclass(frozen=True, kw_only=True)
class Prices:
    """The machines whose price is known, by their node types; there may be none, and nothing costs anything."""

    machines: Mapping[str, Sold] = field(default_factory=dict)

    def of_place(self, host: Host, need: Resources) -> float | None:
        """Return the US dollars an hour of a task on a machine; None where nobody knows the machine's price."""
        sold = self.machines.get(host.node_type)
        return None if sold is None else sold.usd_per_hour * share_of(need, host) * need.machines

    def estimate(self, group: str, need: Resources) -> float:
        """Return the most that a task may cost an hour in a group, in US dollars.

        That is on the dearest of its kinds of machines that can hold it; 0 where no price of one is known.
        """
        if not self.machines:
            return 0.0
        mine = [one for one in self.machines.values() if one.group == group and _holds(one.offers, need)]
        return max((one.usd_per_hour * share_of(need, one.offers) for one in mine), default=0.0) * need.machines


NO_PRICES = Prices()


def share_of(need: Resources, machine: Host | Room) -> float:
    """Return the part of a machine that a task takes: of its cores, memory or GPUs, whichever is largest; or all."""
    if need.whole_machine:
        return 1.0
    pairs = ((need.cpus, machine.cpus), (need.memory, machine.memory), (need.gpus, machine.gpus))
    return min(1.0, max(wanted / has if has > 0 else 0.0 for wanted, has in pairs))


def _holds(machine: Room, need: Resources) -> bool:
    if need.whole_machine:
        return True
    return need.cpus <= machine.cpus + 1e-6 and need.memory <= machine.memory and need.gpus <= machine.gpus
