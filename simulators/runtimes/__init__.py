"""The engines that run a simulator's commands, one file an engine."""

from __future__ import annotations

from simulators.runtimes.docker import Docker
from simulators.runtimes.launcher import LAUNCHER
from simulators.runtimes.native import Native
from simulators.runtimes.podman import Podman
from simulators.runtimes.running import Exit, Running, Why
from simulators.runtimes.runtime import Box, Prepared, Runtime, SupervisorPlan
from simyard.simulator import RuntimeName

# The register: a new engine is a file beside this one, and a line here.
_RUNTIMES: dict[RuntimeName, Runtime] = {
    RuntimeName.NATIVE: Native(),
    RuntimeName.PODMAN: Podman(),
    RuntimeName.DOCKER: Docker(),
}


def runtime_of(name: RuntimeName) -> Runtime:
    """Return the runtime of this name."""
    return _RUNTIMES[name]


__all__ = ["LAUNCHER", "Box", "Exit", "Prepared", "Running", "Runtime", "SupervisorPlan", "Why", "runtime_of"]
