"""The Simulator actors that a dispatcher knows, by their names and by what they carry."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tasks.placement import Holder


@dataclass(frozen=True, kw_only=True)
class Held:
    """A Simulator actor that this dispatcher knows."""

    holder: Holder
    carries: tuple[str, int] | None
    """Task and attempt."""
    watched: bool = True
    """Whether we are told when it does not carry that any more."""


class Crew:
    """All of them; whoever uses it from several threads takes care that one does at a time."""

    def __init__(self) -> None:
        self._members: dict[str, Held] = {}
        self._carriers: dict[tuple[str, int], str] = {}

    def __iter__(self) -> Iterator[Held]:
        """Give all of them, as they were at the beginning."""
        return iter(list(self._members.values()))

    def get(self, name: str | None) -> Held | None:
        """Return the actor of that name; None where there is none."""
        return self._members.get(name or "")

    def carrier(self, task: str, attempt: int) -> Held | None:
        """Return the actor that was last given the attempt and carries it; None where there is none."""
        return self._members.get(self._carriers.get((task, attempt), ""))

    def put(self, held: Held) -> None:
        """Take note of what is known of an actor now."""
        self._forget(held.holder.name)
        self._members[held.holder.name] = held
        if held.carries is not None:
            self._carriers[held.carries] = held.holder.name

    def drop(self, name: str | None) -> Held | None:
        """Forget the actor of that name, and return what was known of it."""
        self._forget(name or "")
        return self._members.pop(name or "", None)

    def clear(self) -> None:
        """Forget all."""
        self._members.clear()
        self._carriers.clear()

    def _forget(self, name: str) -> None:
        old = self._members.get(name)
        if old is not None and old.carries is not None and self._carriers.get(old.carries) == name:
            del self._carriers[old.carries]
