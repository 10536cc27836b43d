"""Which images the machines of a group will need: told in the storage, and fetched while a machine still boots.

`python -m simulators.wanted_images GROUP` brings them into the machine's engines. A task that comes meanwhile waits for
the one that it needs, as it would for another task's.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from storage.errors import ObjectNotFound
from storage.objects import open_store
from storage.paths import Paths
from storage.settings import load_settings

if TYPE_CHECKING:
    from storage.objects import ObjectStore

log = logging.getLogger("simyard.images")

_FRESH = timedelta(hours=1)
"""What was told longer ago is of no use: those tasks have found their machines."""


class WantedImage(NamedTuple):
    """An image that tasks need."""

    simulator: str
    version: str
    runtime: str


def tell(store: ObjectStore, group: str, images: Collection[WantedImage], now: datetime) -> None:
    """Write down which images the machines of a group will need.

    Raises:
        StorageUnavailable: the storage does not answer.
    """
    told = {"at": now.isoformat(), "images": [image._asdict() for image in sorted(images)]}
    store.put(Paths.wanted_images(group), json.dumps(told).encode())


def wanted(store: ObjectStore, group: str, now: datetime) -> list[WantedImage]:
    """Return the images that the machines of a group need by what was written down lately.

    Raises:
        StorageUnavailable: the storage does not answer.
    """
    try:
        told = json.loads(store.get(Paths.wanted_images(group)))
        if now - datetime.fromisoformat(told["at"]) > _FRESH:
            return []
        return [WantedImage(**image) for image in told["images"]]
    except ObjectNotFound:
        return []
    except (ValueError, TypeError, KeyError) as error:
        # It may be a newer release's.
        log.warning("what images are needed cannot be read: %s", error)
        return []


def bring(group: str) -> None:
    """Bring the images that a group needs to this machine, one after the other; what fails is left to the tasks."""
    # Late: the dispatcher, which only tells, needs neither.
    from simulators import catalogue
    from simulators.runtimes import runtime_of
    from simyard.simulator import RuntimeName

    for image in wanted(open_store(load_settings().storage_uri), group, datetime.now(UTC)):
        try:
            spec = catalogue.find(image.simulator)
            version, runtime = catalogue.resolve(spec, image.version, RuntimeName(image.runtime))
            runtime_of(runtime).prepare(spec, version, lambda: False)
        except Exception as error:  # noqa: BLE001 - a task that needs it says so, and why
            log.warning("the image of %s %s is not brought: %s", image.simulator, image.version, error)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    bring(sys.argv[1])
