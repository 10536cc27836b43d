"""What a cloud asks for its machines now, kept beside what the release knows: on command, and by itself once a day."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from cluster import aws_prices, azure_prices, google_prices
from cluster.machine_types import kept_types, list_types, merged, save
from cluster.provider import cloud_name, region_of
from simyard.errors import InvalidInput, SimyardError
from simyard.machine_type import MachineType

log = logging.getLogger(__name__)

FIRST_SECONDS = 20.0
"""After the start of the server, which has more urgent things to do then."""
EVERY_SECONDS = 3600.0
"""Between two looks at whether today's prices are known; so often a cloud that does not answer is asked again."""

Ask = Callable[[str, Sequence[MachineType], date, Callable[[int, int], None]], list[MachineType]]
SELLERS: dict[str, Ask] = {
    aws_prices.PROVIDER: aws_prices.refresh,
    azure_prices.PROVIDER: azure_prices.refresh,
    google_prices.PROVIDER: google_prices.refresh,
}
"""What asks a cloud for its prices, by the cloud's name."""


def seller_of(region: str) -> str:
    """Return the cloud that writes its regions like this one."""
    if google_prices.is_region(region):
        return google_prices.PROVIDER
    return azure_prices.PROVIDER if azure_prices.is_region(region) else aws_prices.PROVIDER


def _today() -> date:
    return datetime.now(UTC).date()


def ask(
    region: str, wanted: Sequence[MachineType], path: Path, told: Callable[[int, int], None], today: date | None = None
) -> list[MachineType]:
    """Return those of the types, all of one cloud, that a region has, with their prices of today, which are kept.

    `path` is the file of what was refreshed, `told` is told how many of the types are done, of how many.

    Raises:
        Unavailable: the cloud does not answer, or refuses; the message says what it answered and what to give.
        InvalidInput: there is no such region, or it has none of these types.
    """
    found = SELLERS[wanted[0].provider](region, wanted, today or _today(), told)
    if not found:
        raise InvalidInput(f"{region} has none of these types.", field="--region", fix="Take another region.")
    path.parent.mkdir(parents=True, exist_ok=True)
    # What the release knows is not kept beside it: the next one may know better.
    save(merged([*kept_types(path), *found]), path)
    return found


class Quotes:
    """Asks a cluster's cloud for the prices of its region, whenever those of today are not known.

    Args:
        document: gives the cluster file.
        path: the file of what was refreshed.
        today: gives the day in UTC.
    """

    def __init__(
        self, document: Callable[[], Mapping[str, Any]], path: Path, *, today: Callable[[], date] = _today
    ) -> None:
        self._document, self._path, self._today = document, path, today
        self._closed = threading.Event()

    def start(self) -> None:
        """Look from now on again and again, in a thread, until it is closed."""
        threading.Thread(target=self._run, name="quotes", daemon=True).start()

    def close(self) -> None:
        """Look no more."""
        self._closed.set()

    def _run(self) -> None:
        pause = FIRST_SECONDS
        while not self._closed.wait(pause):
            try:
                self.look()
            except SimyardError as error:
                log.warning("what machines cost today is not known, and is asked again: %s", error)
            except Exception:  # the thread must outlive any failure of a client or of our own
                log.exception("prices could not be asked for; it is tried again")
            # Heads that started together do not ask together.
            pause = EVERY_SECONDS * random.uniform(0.9, 1.1)  # noqa: S311 - no secret

    def look(self) -> list[MachineType]:
        """Return what was asked for: nothing where today's prices are known, or the cloud is none that tells them.

        Raises:
            SimyardError: the cluster file cannot be read, or the cloud does not tell its prices.
        """
        document = self._document()
        provider, region = cloud_name(document), region_of(document)
        types = [one for one in list_types(self._path) if one.provider == provider]
        today = self._today()
        if provider not in SELLERS or any(price.date >= today for one in types if (price := one.price(region))):
            return []
        found = ask(region, types, self._path, lambda _done, _of: None, today)
        log.info("%d machine types of %s have the prices of %s", len(found), region, today)
        return found
