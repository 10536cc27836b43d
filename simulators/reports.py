"""An attempt's reports: sent in order from a thread of their own, so that paid work never waits for them."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from simulators.errors import Stopped
from simulators.outcome import Outcome
from simulators.work import Fact, News, Report, Reporter, Stall, Superseded, Work
from simyard.errors import Unavailable
from simyard.status import Status

log = logging.getLogger(__name__)

_TICK = 0.2
GATHER = 0.05
"""Seconds that a report waits for others which go in the same call; a short run then costs one call and not three."""


def backoff(first: float, most: float) -> Iterator[float]:
    """Yield seconds to wait, for ever: doubling from `first` to `most`, with jitter."""
    wait = first
    while True:
        yield wait * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, not a secret
        wait = min(most, wait * 2)


@dataclass(frozen=True)
class Unsent:
    """Something that is to be reported, and when it was offered."""

    what: Fact
    at: float


def due(unsent: Sequence[Unsent], renewal: float) -> float:
    """Return when the next call goes out: the first report waits a moment for others, an end lets none wait.

    Without a report the call is the renewal of the lease, at its time.
    """
    if not unsent:
        return renewal
    return unsent[-1].at if isinstance(unsent[-1].what, Outcome) else unsent[0].at + GATHER


class Reports:
    """Sends one attempt's moves, its lease renewals and last its end; each is offered until somebody takes it.

    What has gathered goes out in one call.
    """

    def __init__(self, work: Work, reporter: Reporter, lease: float, superseded: Callable[[], None]) -> None:
        self._work = work
        self._reporter = reporter
        self._lease = lease
        self._every = lease / 3
        self._on_superseded = superseded
        self._unsent: deque[Unsent] = deque()
        self._closed = False
        self._alive_at = 0.0
        """When the newest report was sent that was taken."""
        self._refused: Superseded | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="reports", daemon=True)

    def start(self) -> None:
        """Start to renew the lease."""
        self._alive_at = time.monotonic()
        self._thread.start()

    def moved(self, status: Status) -> None:
        """Send a move soon; returns at once."""
        self._offer(status)

    def stalled(self, number: int) -> None:
        """Say soon that the attempt gives no output, for the `number`-th time; returns at once."""
        self._offer(Stall(number))

    def tell(self, news: News) -> None:
        """Send news soon; returns at once."""
        self._offer(news)

    def end(self, outcome: Outcome) -> None:
        """Send the end with all that was not sent before; returns when the store has it.

        Raises:
            Superseded: another attempt has taken over.
        """
        self._offer(outcome)
        with self._changed:
            self._changed.wait_for(lambda: not self._unsent or self._refused)
            if self._refused:
                raise self._refused

    def flush(self, patience: float) -> None:
        """Return once all reports so far are taken or refused, and at the latest after `patience` seconds."""
        with self._changed:
            self._changed.wait_for(lambda: not self._unsent or self._refused, timeout=patience)

    def confirm(self, given_up: Callable[[], bool]) -> None:
        """Return once the lease holds, so that nobody has taken over; mostly at once.

        It does not hold when this process was frozen, or cut off: then the next report that is taken tells.

        Raises:
            Superseded: another attempt has taken over.
            Stopped: it was given up meanwhile.
        """
        with self._changed:
            while time.monotonic() - self._alive_at >= self._lease:
                if self._refused:
                    raise self._refused
                if given_up():
                    raise Stopped
                self._changed.wait(_TICK)

    def close(self) -> None:
        """Send no more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def _offer(self, what: Fact) -> None:
        with self._changed:
            self._unsent.append(Unsent(what, time.monotonic()))
            self._changed.notify_all()

    def _run(self) -> None:
        waits = backoff(0.2, 5.0)
        while True:
            with self._changed:
                while not self._closed and (left := self._due() - time.monotonic()) > 0:
                    self._changed.wait(left)
                if self._closed:
                    return
                gathered = tuple(self._unsent)
            sent_at = time.monotonic()
            try:
                if gathered:
                    self._reporter.report(self._work, [Report(one.what, sent_at - one.at) for one in gathered])
                else:
                    self._reporter.renew(self._work)
            except Superseded as refused:
                with self._changed:
                    self._refused = refused
                    self._changed.notify_all()
                self._on_superseded()
                return
            except Unavailable as error:
                log.warning("a report of %s is not delivered yet: %s", self._work.box, error)
                with self._changed:
                    self._changed.wait_for(lambda: self._closed, timeout=next(waits))
                continue
            waits = backoff(0.2, 5.0)
            with self._changed:
                self._alive_at = sent_at
                for _ in gathered:
                    self._unsent.popleft()
                self._changed.notify_all()

    def _due(self) -> float:
        return due(self._unsent, self._alive_at + self._every)
