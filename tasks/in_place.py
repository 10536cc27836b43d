"""What machines have in place already, as far as it is known from what ran there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tasks.placement import Environment
from tasks.record import TaskRecord

MACHINES = 1000
"""Of so many machines it is remembered, those that something new ran on last."""
EACH = 32
"""So many environments of each, the newest ones."""


@dataclass(frozen=True)
class InPlace:
    """The environments of machines by their names, in the order in which they came."""

    known: Mapping[str, tuple[Environment, ...]] = field(default_factory=dict)

    def on(self, machine: str) -> frozenset[Environment]:
        """Return what a machine has in place."""
        return frozenset(self.known.get(machine, ()))

    def after(self, record: TaskRecord) -> InPlace:
        """Return what is known once this is how a task stands: what it runs in is there once its commands started."""
        task = record.task
        if not task.attempts or task.runtime is None or (last := task.attempts[-1]).started_at is None:
            return self
        has, ran = self.known.get(last.machine, ()), Environment(task.simulator, task.version, task.runtime)
        if ran in has:
            return self
        others = [(name, found) for name, found in self.known.items() if name != last.machine]
        return InPlace(dict([*others, (last.machine, (*has, ran)[-EACH:])][-MACHINES:]))
