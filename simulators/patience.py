"""Waiting out a storage that does not answer."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from simulators.errors import Stopped
from simulators.reports import backoff
from storage.errors import StorageUnavailable

log = logging.getLogger(__name__)
T = TypeVar("T")

PATIENCE = 24 * 3600.0
"""Seconds for which a storage that does not answer is asked again, before the attempt fails."""
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0
_TICK = 0.2


def patiently(action: Callable[[], T], patience: float, given_up: Callable[[], bool], box: str) -> T:
    """Return what the action returns; it is begun again while the storage does not answer.

    Raises:
        StorageUnavailable: the storage has not answered for `patience` seconds.
        Stopped: it was given up.
    """
    deadline = time.monotonic() + patience
    for wait in backoff(_FIRST_PAUSE, _LONGEST_PAUSE):
        try:
            return action()
        except StorageUnavailable as error:
            if time.monotonic() > deadline:
                raise
            log.warning("the storage of %s does not answer: %s", box, error)
        until = time.monotonic() + wait
        while time.monotonic() < until:
            if given_up():
                raise Stopped
            time.sleep(_TICK)
    raise AssertionError("the backoff never ends")
