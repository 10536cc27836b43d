"""How long what has ended is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from simyard.errors import InvalidInput

_LONGEST = timedelta(days=100 * 365)


@dataclass(frozen=True, kw_only=True)
class Retention:
    """How long after its end a task keeps its outputs, and how long it is known; None is for ever."""

    project: str | None = None
    """None: all projects that have no rule of their own."""
    outputs: timedelta | None = None
    """The logs are among them; the rows of the tables go with the task."""
    tasks: timedelta | None = None

    @property
    def is_empty(self) -> bool:
        """Say whether it lets nothing go."""
        return self.outputs is None and self.tasks is None


def rule_of(project: str, rules: Sequence[Retention]) -> Retention:
    """Return the rule for a project: its own one, or else the one for all."""
    found = {rule.project: rule for rule in rules}
    return found.get(project) or found.get(None) or Retention()


def check_retention(rule: Retention) -> None:
    """Return where a rule can be set.

    Raises:
        InvalidInput: it lets nothing go, or a time is none, or it keeps outputs longer than their tasks.
    """
    if rule.is_empty:
        raise InvalidInput("The rule lets nothing go.", field="--outputs", fix="Give --outputs, --tasks or both.")
    for name, age in (("--outputs", rule.outputs), ("--tasks", rule.tasks)):
        if age is not None and not timedelta(0) < age <= _LONGEST:
            raise InvalidInput(f"{age} is no time to keep anything.", field=name, fix="Write 90d, 12w or 36h.")
    if rule.outputs is not None and rule.tasks is not None and rule.outputs > rule.tasks:
        reason = "Outputs go with their task at the latest."
        raise InvalidInput(reason, field="--outputs", fix="Give a shorter time than --tasks, or leave it out.")
