from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from simulators.runtimes import Box, Exit, Running, runtime_of
from simulators.runtimes.podman_host import podman_environment
from simulators.spec import SimulatorSpec
from simyard.event import LogStream
from simyard.resources import MIB, Limits, Resources
from simyard.simulator import Command, RuntimeName
from storage.settings import load_settings


@pytest.fixture(scope="session", autouse=True)
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep environments and configuration files of the session in a folder of its own."""
    folder = tmp_path_factory.mktemp("data é ")
    cached: Sequence[Callable[[], object]] = (load_settings, podman_environment)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SIMYARD_DATA_DIR", str(folder))
        for function in cached:
            function.cache_clear()  # type: ignore[attr-defined]
        yield folder
    for function in cached:
        function.cache_clear()  # type: ignore[attr-defined]
    shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class Ran:
    """A run that ended: how, what it printed, and its folder."""

    end: Exit
    stdout: str
    stderr: str
    folder: Path

    @property
    def succeeded(self) -> bool:
        return self.end.why == "exit" and self.end.exit_code == 0


Runner = Callable[..., Ran]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Runner]:
    """Run commands in a folder by a runtime, as the Simulator actor does."""
    started: list[Running] = []

    def runner(spec: SimulatorSpec, runtime: RuntimeName, commands: tuple[Command, ...], folder: Path) -> Ran:
        control = tmp_path / f"control {len(started)}"
        box = Box(
            name=f"simyard-test-{spec.name}-{len(started)}-{id(started):x}",
            folder=folder,
            control=control,
            commands=commands,
            resources=Resources(cpus=1, memory=1024 * MIB),
            limits=Limits(run=120),
        )
        prepared = runtime_of(runtime).prepare(spec, spec.versions[0], lambda: False)
        running = Running.start(runtime_of(runtime).plan(prepared, box), control)
        started.append(running)
        while (end := running.wait(1)) is None:
            running.beat()
        logs = [running.log(stream).read_text(errors="replace") for stream in (LogStream.STDOUT, LogStream.STDERR)]
        return Ran(end, *logs, folder)

    yield runner
    for running in started:
        running.reap()
