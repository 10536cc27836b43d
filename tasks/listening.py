"""Hearing of what other servers write into a store that several share."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import suppress

from simyard.event import EventKind
from simyard.status import Status
from tasks.store import Store, StoreUnavailable

log = logging.getLogger(__name__)

_LISTEN = 30.0
_PAUSE = 1.0
_PAGE = 1000


class Listener:
    """Calls `heard` soon after a task may have become the dispatcher's affair: submitted, released, to be cancelled.

    What the dispatcher and its attempts write themselves is not told, or each turn would cause the next.
    """

    def __init__(self, store: Store, heard: Callable[[], object]) -> None:
        self._store = store
        self._heard = heard
        self._closed = threading.Event()
        self._seen: int | None = None
        with suppress(StoreUnavailable):
            self._seen = store.latest()
        self._thread = threading.Thread(target=self._run, name="listener", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._closed.is_set():
            try:
                if self._seen is None:
                    self._seen = self._store.latest()
                    self._heard()
                elif (latest := self._store.wait(self._seen, _LISTEN)) > self._seen:
                    self._seen = self._look(self._seen, latest)
            except StoreUnavailable as error:
                # Until it can be asked again, the dispatcher looks by itself once a second.
                log.warning("nothing is heard of other servers: %s", error)
                self._closed.wait(_PAUSE)

    def _look(self, seen: int, latest: int) -> int:
        """Tell where there is something to tell, and return the number of the last event that was looked at."""
        events = self._store.events(after=seen, limit=_PAGE)
        # A page that is full may be one of many, and reading all of them costs more than a turn that finds nothing.
        if len(events) == _PAGE or any(
            event.kind is not EventKind.STATUS or event.status is Status.QUEUED for event in events
        ):
            self._heard()
        return max([latest, *(event.seq for event in events)])

    def close(self) -> None:
        """Hear no more; a wait that goes on ends by itself."""
        self._closed.set()
