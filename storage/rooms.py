"""A guard: the server's five folders have plain names, so a namesake on the path must be noticed at once."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from simyard.errors import SimyardError

ROOMS = ("cluster", "serve", "simulators", "storage", "tasks")


class ForeignRoom(SimyardError):  # noqa: N818 - errors are named after what happened
    """A package of the same name as one of the server's folders shadows it."""

    kind = "foreign-room"


def check_rooms() -> None:
    """Check that the five folders share one parent.

    Raises:
        ForeignRoom: one of them does not, or is missing; its name and place stand in the error.
    """
    parents: dict[str, Path | None] = {}
    for room in ROOMS:
        spec = find_spec(room)
        parents[room] = Path(spec.origin).resolve().parent.parent if spec and spec.origin else None
    home = Path(__file__).resolve().parent.parent
    for room, parent in parents.items():
        if parent != home:
            raise ForeignRoom(
                f"The package {room!r} comes from {parent or 'nowhere'}, the others from {home}.",
                field=room,
                fix=f"Uninstall the other package named {room!r}, or install simyard-server again.",
            )
