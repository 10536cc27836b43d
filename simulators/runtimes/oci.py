"""What podman and docker have in common: the image, and the command line of one container for each command.

The image's entry point, command, user and folder are ignored and its variables kept, so that images made for other
runners work unmodified.
"""

from __future__ import annotations

import csv
import io
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from simulators.errors import ImageError, Stopped
from simulators.runtimes.environment import hold
from simulators.runtimes.runtime import MARK, Box, Engine, Prepared, Step, SupervisorPlan, check_commands
from simulators.span import WHERE
from simyard.errors import SimyardError
from simyard.simulator import Command, RuntimeName
from storage.settings import load_settings

if TYPE_CHECKING:
    from simulators import images
    from simulators.image_shelf import ImageShelf
    from simulators.spec import ImageSpec, SimulatorSpec, VersionSpec

log = logging.getLogger(__name__)

WORKDIR = "/workdir"
"""Where a container sees the task's folder."""
LABEL = "simyard"
"""The key of the label that holds a container's box."""
_FRESH_SECONDS = 60.0
_CALL_SECONDS = 60.0
_POLL = 0.1


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """How one engine says what the others say differently."""

    name: RuntimeName
    is_asked: bool
    """As Engine.is_asked."""
    tmpfs_options: str
    """Options of a private temporary folder, before its size."""
    environment: Callable[[], Mapping[str, str]]
    """Gives the variables for the engine's client; raises RuntimeUnavailable."""
    own_flags: Callable[[], Sequence[str]]
    """Gives flags of its own."""
    gpu_flags: Callable[[tuple[str, ...]], Sequence[str]]
    """Gives the flags that hand GPUs over."""


class Images:
    """The images of one engine, by the id that never changes its content."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._known: dict[str, tuple[str, float]] = {}

    def prepare(self, spec: SimulatorSpec, version: VersionSpec, stopped: Callable[[], bool]) -> Prepared:
        """Return a version's image; one that is missing or out of date is fetched or built, once by all who ask.

        Raises:
            ImageError: there is none and it cannot be made.
            Stopped: `stopped` became true before it was there; a build that has begun goes on for the next one.
            RuntimeUnavailable: the engine does not work.
        """
        image = version.image
        if image is None:
            raise ImageError(f"{spec.name} {version.version} has no image.")
        known, seen_at = self._known.get(image.tag, ("", 0.0))
        if known and time.monotonic() - seen_at < _FRESH_SECONDS:
            return Prepared(image=known)
        found = self._find(version, image)
        if found is None:
            self._build_once(spec, version, image, stopped)
            found = self._find(version, image)
        if found is None:
            raise ImageError(f"The image {image.tag} was built and is not there.")
        self._known[image.tag] = found, time.monotonic()
        return Prepared(image=found)

    def has(self, prepared: Prepared) -> bool:
        """Say whether the engine still has an image; one that it has not is looked for anew by the next `prepare`."""
        from simulators import images  # it imports this package for the engine's settings

        if prepared.image is None or images.find_engine(self._dialect.name).id(prepared.image) is not None:
            return True
        self._known = {tag: known for tag, known in self._known.items() if known[0] != prepared.image}
        return False

    def _find(self, version: VersionSpec, image: ImageSpec) -> str | None:
        """Return the id of an image unless it is missing or was built here from something else."""
        from simulators import images  # it imports this package for the engine's settings

        engine = images.find_engine(self._dialect.name)
        label = engine.label(image.tag)
        # One without our label was put there by the operator, under this name on purpose.
        if label is None or (label and label != images.recipe(version)):
            return None
        return engine.run(["image", "inspect", "--format", "{{.Id}}", image.tag], _CALL_SECONDS).strip()

    def _build_once(
        self, spec: SimulatorSpec, version: VersionSpec, image: ImageSpec, stopped: Callable[[], bool]
    ) -> None:
        if not image.containerfile.is_file():
            raise ImageError(f"The image {image.tag} is not on this machine and there is no Containerfile for it.")
        folder = load_settings().environments
        folder.mkdir(parents=True, exist_ok=True)
        lock = hold(folder / f"{self._dialect.name}-{spec.name}-{version.version}.lock", stopped)
        failures: list[Exception] = []

        def build() -> None:
            from simulators.images import find_engine

            try:
                if self._find(version, image) is None:
                    _bring(find_engine(self._dialect.name), spec, version)
            except Exception as error:  # noqa: BLE001 - raised again by the one who waits
                failures.append(error)
            finally:
                lock.release()

        worker = threading.Thread(target=build, name=f"build {image.tag}", daemon=True)
        worker.start()
        while worker.is_alive():
            if stopped():
                raise Stopped
            worker.join(_POLL)
        if failures:
            raise failures[0]


def _bring(engine: images.Engine, spec: SimulatorSpec, version: VersionSpec) -> None:
    """Fetch an image that another machine has built, or else build it, and let the others fetch it.

    Raises:
        ImageError: it can neither be fetched nor built.
    """
    from simulators.image_shelf import image_shelf
    from simulators.images import build_image

    shelf = image_shelf()
    if shelf is not None and shelf.fetch(engine, spec, version):
        return
    build_image(spec, version, engine=engine)
    if shelf is not None:
        # No run waits for it, and where it fails the next machine builds the image too.
        threading.Thread(target=_keep, args=(shelf, engine, spec, version), name="keep image").start()


def _keep(shelf: ImageShelf, engine: images.Engine, spec: SimulatorSpec, version: VersionSpec) -> None:
    try:
        shelf.keep(engine, spec, version)
    except (SimyardError, OSError) as error:
        log.warning("the image of %s %s could not be put into the storage: %s", spec.name, version.version, error)


def plan(dialect: Dialect, prepared: Prepared, box: Box) -> SupervisorPlan:
    """Return what the supervisor executes: one container after the other.

    Raises:
        InvalidInput: a command cannot be started anywhere.
        RuntimeUnavailable: the engine does not work.
    """
    check_commands(box.commands, has_shell=True)
    environment = dict(dialect.environment())
    engine = Engine(
        argv=(dialect.name.value,), environment=environment, label=f"{LABEL}={box.name}", is_asked=dialect.is_asked
    )
    return SupervisorPlan(
        name=box.name,
        folder=box.folder.resolve(),
        steps=tuple(_step(dialect, environment, prepared, box, i, c) for i, c in enumerate(box.commands)),
        memory=box.resources.memory,
        disk=box.resources.disk,
        run_seconds=box.limits.run,
        orphan_seconds=box.orphan_seconds,
        grace_seconds=box.grace_seconds,
        log_limit=box.log_limit,
        processes=box.processes,
        stall_seconds=box.limits.stall,
        end_stalled=box.limits.end_stalled,
        engine=engine,
    )


def _step(
    dialect: Dialect, environment: Mapping[str, str], prepared: Prepared, box: Box, index: int, command: Command
) -> Step:
    if prepared.image is None:
        raise ImageError("The image has not been made ready.")
    container = f"{box.name}-{index}"
    argv = (
        dialect.name.value, "run",
        "--name", container,
        "--label", f"{LABEL}={box.name}",
        *dialect.own_flags(),
        *_isolation(dialect, box),
        *_network(box),
        *_limits(box),
        *dialect.gpu_flags(box.gpu_ids),
        *_variables(box, command),
        *(("--interactive",) if command.stdin is not None else ()),
        "--entrypoint", "",
        prepared.image,
        *(("sh", "-c") if command.shell else ()), *command.argv,
    )  # fmt: skip
    return Step(
        argv=argv,
        environment={**environment, MARK: box.name},
        program=command.argv[0],
        stdin=command.stdin,
        container=container,
    )


def _isolation(dialect: Dialect, box: Box) -> list[str]:
    return [
        "--pull", "never",
        "--log-driver", "none",
        "--read-only",
        "--tmpfs", f"/tmp:{dialect.tmpfs_options},size={box.resources.memory // 2}",  # noqa: S108 - the container's own
        "--cap-drop", "all",
        "--security-opt", "no-new-privileges",
        "--user", f"{os.geteuid()}:{os.getegid()}" if dialect.is_asked else "0:0",
        "--mount", mount(box.folder.resolve(), WORKDIR),
        "--workdir", WORKDIR,
        "--stop-timeout", "0",
    ]  # fmt: skip


def _network(box: Box) -> list[str]:
    if box.span is None:
        return ["--network", "none"]
    # Programs on several machines talk to each other: from the host's network, and by names that all of them know.
    known = {**box.span.hosts, **box.span.addresses}
    names = [word for name, address in known.items() for word in ("--add-host", f"{name}:{address}")]
    return ["--network", "host", *names, "--mount", mount(box.span.folder.resolve(), WHERE)]


def mount(source: Path, target: str) -> str:
    """Return the value of `--mount` for a folder, quoted as these engines read it: as a line of CSV."""
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(["type=bind", f"source={source}", f"target={target}"])
    return text.getvalue()


def _limits(box: Box) -> list[str]:
    resources = box.resources
    # An engine refuses more cores than the machine has.
    cpus = min(resources.cpus, float(os.cpu_count() or 1))
    return [
        "--cpus", f"{max(0.01, cpus):.2f}",
        "--memory", str(resources.memory),
        "--memory-swap", str(resources.memory),
        "--shm-size", str(resources.memory // 2),
        "--pids-limit", str(box.processes),
    ]  # fmt: skip


def _variables(box: Box, command: Command) -> list[str]:
    # A container sees its own GPUs only, numbered from 0.
    gpus = ",".join(str(i) for i in range(len(box.gpu_ids)))
    variables = {
        "HOME": WORKDIR,
        "TMPDIR": "/tmp",  # noqa: S108 - the container's own
        "LANG": "C.UTF-8",
        "OMP_NUM_THREADS": str(max(1, int(box.resources.cpus))),
        "CUDA_VISIBLE_DEVICES": gpus,
        "NVIDIA_VISIBLE_DEVICES": ",".join(box.gpu_ids) or "void",
        # Open MPI refuses root otherwise, which is nobody outside of a container.
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        **({} if box.span is None else box.span.variables),
        **command.environment,
        MARK: box.name,
    }
    return [word for name, value in variables.items() for word in ("--env", f"{name}={value}")]
