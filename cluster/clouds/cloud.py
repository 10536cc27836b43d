"""What every cloud can be asked by its machines, and how it is asked."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Protocol

import httpx

log = logging.getLogger(__name__)

_SECONDS = 5.0

Notice = float
"""In how many seconds the machine will be taken away."""


class Cloud(Protocol):
    """The metadata service of a cloud; what it does not answer is None, and is logged."""

    def machine_id(self) -> str | None:
        """Return by which id Ray's provider knows this machine."""
        ...

    def is_watched(self) -> bool:
        """Say whether notices of this machine are worth asking for."""
        ...

    def notice(self) -> Notice | None:
        """Return whether the machine is about to be taken away, and when; asked every few seconds."""
        ...

    def give_back(self) -> None:
        """Ask for the end of this machine, where the cloud charges on for one that is switched off."""
        ...


def get(http: httpx.Client, url: str, headers: Mapping[str, str]) -> str | None:
    """Return what a metadata service says; None where it has nothing to say.

    Raises:
        httpx.HTTPError: it does not answer, or refuses to.
    """
    answer = http.get(url, headers=dict(headers))
    return None if answer.status_code == httpx.codes.NOT_FOUND else answer.raise_for_status().text.strip()


def client() -> httpx.Client:
    """Return a client that waits a few seconds, and asks no proxy."""
    return httpx.Client(timeout=_SECONDS, trust_env=False)
