"""Errors of the catalogue, of simulators, and of the engines that run them.

The tree::

    SimyardError
    ├── NotFound
    │   └── UnknownSimulator          the catalogue has no simulator of that name
    ├── InvalidInput
    │   ├── UnknownVersion            the simulator has no such version
    │   └── UnsuitableRuntime         the version does not run in that runtime
    ├── Unavailable
    │   └── RuntimeUnavailable        this machine lacks the container engine, or the engine does not work
    ├── ImageError                    an environment or an image could not be made ready
    ├── BrokenCatalogue               a simulator's folder cannot be read
    ├── NotAdoptable                  a run that another process had started cannot be taken over
    ├── Stopped                       the work was given up because somebody asked for it
    ├── MachineLost                   a machine that a run over several needs has gone
    └── SupervisorLost                the process that carries a run is gone and left no end
"""

from __future__ import annotations

from simyard.errors import InvalidInput, NotFound, SimyardError, Unavailable
from storage.errors import Stopped as Stopped


class UnknownSimulator(NotFound):
    """The catalogue has no simulator of that name."""

    kind = "unknown-simulator"


class UnknownVersion(InvalidInput):
    """The simulator has no such version."""


class UnsuitableRuntime(InvalidInput):
    """This version of the simulator does not run in that runtime."""


class RuntimeUnavailable(Unavailable):
    """The container engine is not on this machine or does not work."""


class ImageError(SimyardError):
    """The simulator's environment or image could not be made ready."""

    kind = "image-error"


class BrokenCatalogue(SimyardError):  # noqa: N818 - errors are named after what happened
    """A simulator's folder cannot be read."""


class NotAdoptable(SimyardError):  # noqa: N818
    """A run that another process had started cannot be taken over."""

    kind = "not-adoptable"


class MachineLost(SimyardError):  # noqa: N818
    """One of the machines on which the task runs has gone."""

    kind = "machine-lost"

    def __init__(self, reason: str, *, machine: str = "") -> None:
        """Keep what happened and what people call the machine."""
        super().__init__(reason)
        self.machine = machine


class SupervisorLost(SimyardError):  # noqa: N818
    """The process that carries the run is gone and left no end behind."""

    kind = "supervisor-lost"
