"""What a machine that joins says of itself, and what it is told."""

from __future__ import annotations

import platform
from importlib.metadata import version

from pydantic import Field

from serve.health import server_version
from simyard.errors import Conflict
from simyard.words import Name, Word


class Versions(Word):
    """What must be the same on all machines of a server."""

    python: str
    ray: str
    simyard: str


class Joining(Word):
    """What a machine asks to be."""

    name: Name
    """It is the same whenever the machine joins: tasks keep it."""
    group: Name
    versions: Versions
    rejoins: bool = False
    """The machine was there a moment ago, and may still be listed."""


class Membership(Word):
    """What a machine needs to know to join."""

    server: str
    """The server's id."""
    head: str
    """Address of Ray's head, with its port."""
    storage: str
    """URI of the storage; the machine has credentials of its own for it."""
    storage_id: str
    """The storage's own name, which the machine must find there."""
    environment: dict[str, str] = Field(repr=False)
    """What the machine's processes need to know, Ray's token among it."""


def own_versions() -> Versions:
    """Return the versions of this process."""
    return Versions(python=platform.python_version(), ray=version("ray"), simyard=server_version())


def check_versions(ours: Versions, theirs: Versions) -> None:
    """Return where the two agree: Ray refuses another Python or Ray, and pickles do not cross releases of Simyard.

    Raises:
        Conflict: one is different; both are named.
    """
    for name, label in (("python", "Python"), ("ray", "Ray"), ("simyard", "Simyard")):
        here, there = getattr(ours, name), getattr(theirs, name)
        if here != there:
            raise Conflict(
                f"The server has {label} {here}, and the machine {there}.",
                field=f"versions.{name}",
                fix=f"Install {label} {here} on the machine; the same checkout with `scripts/environment` gives it.",
            )
