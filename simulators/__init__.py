"""The catalogue of simulators, the Simulator actor and its container runtimes."""

from __future__ import annotations

TYPE_CHECKING = False  # the supervisor is started from here: the import of typing would take a fifth of its time
if TYPE_CHECKING:
    from typing import Any

    from simulators.actor import Simulator

__all__ = ["Simulator"]


def __getattr__(name: str) -> Any:
    """Import the actor, and with it Ray, only when somebody asks for it."""
    if name == "Simulator":
        from simulators.actor import Simulator

        return Simulator
    raise AttributeError(name)
