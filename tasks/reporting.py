"""How an attempt's reports reach the dispatcher, from any machine of the cluster."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError

from simulators.outcome import Outcome
from simulators.work import News, Superseded, Work
from simyard.errors import Unavailable
from simyard.status import Status
from tasks.holders import Verdict

NAMESPACE = "simyard"
DISPATCHER = "dispatcher"
_TIMEOUT = 10.0


class DispatcherReporter:
    """A Reporter that calls the dispatcher by its name; it holds nothing, so it travels as it is."""

    def moved(self, work: Work, status: Status) -> None:
        """Report a move."""
        self._send(work, lambda dispatcher: dispatcher.moved.remote(work.task, work.attempt, status))

    def renew(self, work: Work) -> None:
        """Renew the lease."""
        self._send(work, lambda dispatcher: dispatcher.renew.remote(work.task, work.attempt))

    def stalled(self, work: Work, number: int) -> None:
        """Report a stall."""
        self._send(work, lambda dispatcher: dispatcher.stalled.remote(work.task, work.attempt, number))

    def told(self, work: Work, news: News) -> None:
        """Report news of snapshots."""
        self._send(work, lambda dispatcher: dispatcher.told.remote(work.task, work.attempt, news))

    def ended(self, work: Work, outcome: Outcome) -> None:
        """Report the end."""
        self._send(work, lambda dispatcher: dispatcher.ended.remote(work.task, work.attempt, outcome))

    def _send(self, work: Work, call: Callable[[Any], Any]) -> None:
        try:
            dispatcher = ray.get_actor(DISPATCHER, namespace=NAMESPACE)
            verdict = ray.get(call(dispatcher), timeout=_TIMEOUT)
        except (RayError, GetTimeoutError, ValueError) as error:
            # ValueError: there is no actor of that name, for instance while it is being made anew.
            raise Unavailable(f"The dispatcher does not answer: {type(error).__name__}.") from error
        if verdict == Verdict.SUPERSEDED:
            raise Superseded(f"Attempt {work.attempt} of task {work.task} has been superseded.")
