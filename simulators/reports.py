"""An attempt's reports: sent in order from a thread of their own, so that paid work never waits for them."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from simulators.errors import Stopped
from simulators.outcome import Outcome
from simulators.work import News, Reporter, Superseded, Work
from simyard.errors import Unavailable
from simyard.status import Status

log = logging.getLogger(__name__)

_TICK = 0.2


def backoff(first: float, most: float) -> Iterator[float]:
    """Yield seconds to wait, for ever: doubling from `first` to `most`, with jitter."""
    wait = first
    while True:
        yield wait * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, not a secret
        wait = min(most, wait * 2)


@dataclass(frozen=True)
class _Stall:
    number: int


_Report = Status | _Stall | News | Outcome


class Reports:
    """Sends one attempt's moves, its lease renewals and last its end; each is offered until somebody takes it."""

    def __init__(self, work: Work, reporter: Reporter, lease: float, superseded: Callable[[], None]) -> None:
        self._work = work
        self._reporter = reporter
        self._lease = lease
        self._every = lease / 3
        self._on_superseded = superseded
        self._unsent: deque[_Report] = deque()
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
        """Send a move as soon as it can be; returns at once."""
        with self._changed:
            self._unsent.append(status)
            self._changed.notify_all()

    def stalled(self, number: int) -> None:
        """Say that the attempt gives no output, for the `number`-th time, as soon as it can be; returns at once."""
        with self._changed:
            self._unsent.append(_Stall(number))
            self._changed.notify_all()

    def tell(self, news: News) -> None:
        """Send news as soon as it can be; returns at once."""
        with self._changed:
            self._unsent.append(news)
            self._changed.notify_all()

    def end(self, outcome: Outcome) -> None:
        """Send the end after all moves; returns when the store has it.

        Raises:
            Superseded: another attempt has taken over.
        """
        with self._changed:
            self._unsent.append(outcome)
            self._changed.notify_all()
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

    def _run(self) -> None:
        waits = backoff(0.2, 5.0)
        while True:
            with self._changed:
                left = self._alive_at + self._every - time.monotonic()
                self._changed.wait_for(lambda: self._closed or self._unsent, timeout=max(0.0, left))
                if self._closed:
                    return
                first = self._unsent[0] if self._unsent else None
            sent_at = time.monotonic()
            try:
                self._send(first)
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
                if first is not None:
                    self._unsent.popleft()
                self._changed.notify_all()

    def _send(self, report: _Report | None) -> None:
        match report:
            case None:
                self._reporter.renew(self._work)
            case Status():
                self._reporter.moved(self._work, report)
            case _Stall():
                self._reporter.stalled(self._work, report.number)
            case News():
                self._reporter.told(self._work, report)
            case _:
                self._reporter.ended(self._work, report)
