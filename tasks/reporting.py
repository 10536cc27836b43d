"""How an attempt's reports reach the dispatcher, from any machine of the cluster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError

from simulators.work import Report, Superseded, Work
from simyard.errors import Unavailable
from tasks.holders import Verdict

NAMESPACE = "simyard"
DISPATCHER = "dispatcher"
_TIMEOUT = 10.0


class DispatcherReporter:
    """A Reporter that calls the dispatcher by its name; it holds nothing, so it travels as it is."""

    def renew(self, work: Work) -> None:
        """Renew the lease."""
        self._send(work, lambda dispatcher: dispatcher.renew.remote(work.task, work.attempt))

    def report(self, work: Work, reports: Sequence[Report]) -> None:
        """Send reports in one call."""
        self._send(work, lambda dispatcher: dispatcher.report.remote(work.task, work.attempt, tuple(reports)))

    def _send(self, work: Work, call: Callable[[Any], Any]) -> None:
        try:
            dispatcher = ray.get_actor(DISPATCHER, namespace=NAMESPACE)
            verdict = ray.get(call(dispatcher), timeout=_TIMEOUT)
        except (RayError, GetTimeoutError, ValueError) as error:
            # ValueError: there is no actor of that name, for instance while it is being made anew.
            raise Unavailable(f"The dispatcher does not answer: {type(error).__name__}.") from error
        if verdict == Verdict.SUPERSEDED:
            raise Superseded(f"Attempt {work.attempt} of task {work.task} has been superseded.")
