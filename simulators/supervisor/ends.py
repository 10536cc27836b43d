"""How a run is ended before its commands have ended."""

from __future__ import annotations


class End(Exception):  # noqa: N818 - it is not an error of ours
    """The run must end now."""

    def __init__(
        self, why: str, message: str | None = None, grace: float = 0.0, evidence: dict[str, int] | None = None
    ) -> None:
        super().__init__(why)
        self.why = why
        self.message = message
        self.evidence = evidence or {}
        """What was measured."""
        self.grace = grace
        """Seconds in which the processes may clean up."""


class LaunchError(Exception):
    """A command cannot be started; the text names it."""
