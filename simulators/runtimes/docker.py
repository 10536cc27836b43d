"""Commands in containers of docker, whose daemon is their parent and is asked about them."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from simulators.runtimes import oci
from simulators.runtimes.podman_host import engine_environment
from simulators.runtimes.runtime import Box, Prepared, SupervisorPlan
from simyard.simulator import RuntimeName

if TYPE_CHECKING:
    from simulators.spec import SimulatorSpec, VersionSpec


def _own_flags() -> Sequence[str]:
    return ("--init",)


def _gpu_flags(ids: tuple[str, ...]) -> Sequence[str]:
    # The inner quotes belong to the value: docker reads it as CSV.
    return ("--gpus", f'"device={",".join(ids)}"') if ids else ()


_DIALECT = oci.Dialect(
    name=RuntimeName.DOCKER,
    is_asked=True,
    tmpfs_options="rw,exec,mode=1777",
    environment=engine_environment,
    own_flags=_own_flags,
    gpu_flags=_gpu_flags,
)


class Docker:
    """Runs each command in a container of its own."""

    name = RuntimeName.DOCKER

    def __init__(self) -> None:
        self._images = oci.Images(_DIALECT)

    def available(self) -> str | None:
        """Return why docker cannot be used here, or None when it can."""
        try:
            done = subprocess.run(
                ["docker", "version", "--format", "{{.Server.Version}}"],
                env=engine_environment(),
                cwd="/",
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=20,
                check=False,
            )
        except FileNotFoundError:
            return "docker is not installed."
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"docker does not answer: {error}"
        if done.returncode != 0:
            return f"docker does not answer: {done.stderr.decode(errors='replace').strip()[-500:]}"
        return None

    def prepare(self, spec: SimulatorSpec, version: VersionSpec, stopped: Callable[[], bool]) -> Prepared:
        """Make the version's image ready and return it."""
        return self._images.prepare(spec, version, stopped)

    def has(self, prepared: Prepared) -> bool:
        """Say whether nobody has removed the image."""
        return self._images.has(prepared)

    def plan(self, prepared: Prepared, box: Box) -> SupervisorPlan:
        """Return what the supervisor executes."""
        return oci.plan(_DIALECT, prepared, box)
