"""Which machines have the inputs of a sweep, as far as it is known from what was placed there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tasks.record import TaskRecord
from tasks.rows import sweep_of

SWEEPS = 1000
"""Of so many sweeps it is remembered, those that came to another machine last."""
EACH = 8
"""So many machines of each, the newest ones."""


@dataclass(frozen=True)
class Nearness:
    """The machines of sweeps by their ids; a sweep's cases mostly have their large inputs in common."""

    known: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def to(self, record: TaskRecord) -> tuple[str, ...]:
        """Return the machines that have inputs of a task."""
        return self.known.get(sweep_of(record) or "", ())

    def after(self, record: TaskRecord, host: str) -> Nearness:
        """Return what is known once the task has been given to a machine."""
        sweep, has = sweep_of(record), self.to(record)
        if sweep is None or host in has:
            return self
        others = [(name, found) for name, found in self.known.items() if name != sweep]
        return Nearness(dict([*others, (sweep, (*has, host)[-EACH:])][-SWEEPS:]))
