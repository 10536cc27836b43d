"""The server that a command talks to."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from simyard.client import Client


def connect(url: str | None = None, key: str | None = None) -> Client:
    """Return the client for the user's server.

    Raises:
        Unavailable: no server is known.
    """
    from simyard.client import Client

    return Client(url, key)
