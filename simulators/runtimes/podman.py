"""Commands in containers of podman, which needs no daemon: a small monitor stands beside each container."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING

from simulators.errors import RuntimeUnavailable
from simulators.runtimes import oci
from simulators.runtimes.podman_host import podman_environment
from simulators.runtimes.runtime import Box, Prepared, SupervisorPlan
from simyard.simulator import RuntimeName

if TYPE_CHECKING:
    from simulators.spec import SimulatorSpec, VersionSpec

_NEEDED = {"cpu", "memory", "pids"}
_INIT_FOLDERS = "/usr/libexec/podman:/usr/lib/podman:/usr/local/libexec/podman:/usr/bin:/usr/sbin"


def _own_flags() -> Sequence[str]:
    # An init process passes signals on, which a first process of a container does not hear by itself.
    init = ("--init",) if shutil.which("catatonit", path=_INIT_FOLDERS) else ()
    return ("--rm", "--http-proxy=false", *init)


def _gpu_flags(ids: tuple[str, ...]) -> Sequence[str]:
    return [word for gpu in ids for word in ("--device", f"nvidia.com/gpu={gpu}")]


_DIALECT = oci.Dialect(
    name=RuntimeName.PODMAN,
    is_asked=False,
    tmpfs_options="rw,exec,mode=1777,notmpcopyup",
    environment=podman_environment,
    own_flags=_own_flags,
    gpu_flags=_gpu_flags,
)


class Podman:
    """Runs each command in a container of its own."""

    name = RuntimeName.PODMAN

    def __init__(self) -> None:
        self._images = oci.Images(_DIALECT)

    def available(self) -> str | None:
        """Return why podman cannot hold containers to their limits here, or None when it can."""
        try:
            return _trouble()
        except RuntimeUnavailable as error:
            return str(error)

    def prepare(self, spec: SimulatorSpec, version: VersionSpec, stopped: Callable[[], bool]) -> Prepared:
        """Make the version's image ready and return it."""
        return self._images.prepare(spec, version, stopped)

    def has(self, prepared: Prepared) -> bool:
        """Say whether nobody has removed the image."""
        return self._images.has(prepared)

    def plan(self, prepared: Prepared, box: Box) -> SupervisorPlan:
        """Return what the supervisor executes."""
        return oci.plan(_DIALECT, prepared, box)


@cache
def _trouble() -> str | None:
    try:
        done = subprocess.run(
            ["podman", "info", "--format", "{{json .Host}}"],
            env=podman_environment(),
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
            check=False,
        )
        host = json.loads(done.stdout or "{}")
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        return f"podman does not answer: {error}"
    if done.returncode != 0:
        return f"podman does not work: {done.stderr.decode(errors='replace').strip()[-500:]}"
    if lacking := _NEEDED - set(host.get("cgroupControllers") or ()):
        return (
            f"podman cannot limit {', '.join(sorted(lacking))} for this user; "
            "run the server as root, or delegate these cgroup controllers to its user."
        )
    return None
