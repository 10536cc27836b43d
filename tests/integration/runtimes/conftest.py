from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from simulators import supervisor
from simulators.runtimes import Box, Exit, Prepared, Running, Runtime, runtime_of
from simulators.runtimes.podman_host import engine_environment, podman_environment
from simyard.event import LogStream
from simyard.resources import Resources
from simyard.simulator import Command, RuntimeName
from storage.settings import load_settings

PATIENCE = 60.0


def until(condition: Callable[[], Any], what: str) -> Any:
    """Wait for a condition and return what it gave."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.01)
    raise AssertionError(f"waited in vain for: {what}")


def sh(script: str, **more: Any) -> Command:
    return Command(argv=("sh", "-c", script), **more)


@dataclass
class Job:
    """A run with its box's name and folder."""

    name: str
    running: Running
    folder: Path

    def finish(self) -> Exit:
        def end() -> Exit | None:
            self.running.beat()
            return self.running.wait(1.0)

        found: Exit = until(end, "the end of the run")
        return found

    @property
    def out(self) -> bytes:
        return self.running.log(LogStream.STDOUT).read_bytes()

    @property
    def err(self) -> bytes:
        return self.running.log(LogStream.STDERR).read_bytes()


@dataclass
class Bench:
    """A runtime with something prepared for it, and the boxes that were run on it."""

    runtime: Runtime
    prepared: Prepared
    root: Path
    jobs: list[Job] = field(default_factory=list)

    def box(
        self, *commands: Command, name: str | None = None, resources: dict[str, Any] | None = None, **more: Any
    ) -> Box:
        # A name that is awkward for a shell, for CSV and for TOML, as a user's data folder may be.
        root = self.root / f'it\'s "{len(self.jobs)}", né'
        more.setdefault("folder", root / "work")
        more.setdefault("control", root / "control")
        more["folder"].mkdir(parents=True, exist_ok=True)
        more["control"].mkdir(parents=True, exist_ok=True)
        name = name or f"simyard-t{os.urandom(6).hex()}-1"
        return Box(name=name, commands=commands, resources=Resources(**(resources or {})), **more)

    def start(self, *commands: Command, **more: Any) -> Job:
        box = self.box(*commands, **more)
        job = Job(box.name, Running.start(self.runtime.plan(self.prepared, box), box.control), box.folder)
        self.jobs.append(job)
        return job

    def run(self, *commands: Command, **more: Any) -> tuple[Exit, Job]:
        job = self.start(*commands, **more)
        return job.finish(), job

    def leftovers(self) -> dict[int, str]:
        """Return all processes of all boxes of this bench that still live."""
        everyone = supervisor.read_processes()
        found = {}
        for job in self.jobs:
            for pid in supervisor.marked("SIMYARD_BOX", job.name, everyone):
                found[pid] = supervisor.read_small(f"/proc/{pid}/cmdline").decode(errors="replace")
        return found

    def containers(self) -> list[str]:
        if self.runtime.name is RuntimeName.NATIVE:
            return []
        names: list[str] = []
        for job in self.jobs:
            wanted = f"label=simyard={job.name}"
            names += call(self.runtime.name, "ps", "--all", "--format", "{{.Names}}", "--filter", wanted).split()
        return names


def close(bench: Bench) -> None:
    for job in bench.jobs:
        assert job.running.reap()
        assert job.running.supervisor_pid() is None
        assert not (job.running.control / supervisor.TEMP).exists()
    assert bench.leftovers() == {}
    assert bench.containers() == []


@pytest.fixture(scope="session")
def settings_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Give a data folder of the tests' own to the settings."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("data")
        patch.setenv("SIMYARD_DATA_DIR", str(folder))
        load_settings.cache_clear()
        podman_environment.cache_clear()
        yield folder
    load_settings.cache_clear()
    podman_environment.cache_clear()


@pytest.fixture(scope="session")
def image_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a root file system that holds busybox under all its names."""
    busybox = shutil.which("busybox")
    if busybox is None:
        pytest.skip("needs a static busybox: apt-get install busybox-static")
    archive = tmp_path_factory.mktemp("image") / "image.tar"
    applets = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split()
    with tarfile.open(archive, "w") as tar:
        tar.add(busybox, "bin/busybox")
        for applet in applets:
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            if applet != "busybox":
                tar.addfile(link)
        for name in ("tmp", "proc", "sys", "dev", "etc", "run", "var/tmp"):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(folder)
    return archive


def imported(engine: RuntimeName, archive: Path, tag: str = f"localhost/simyard-test-{os.getpid()}:1") -> Iterator[str]:
    """Give the id of the archive's image, which is removed afterwards; its entry point would fail."""
    if trouble := runtime_of(engine).available():
        pytest.skip(trouble)
    changes = ['ENTRYPOINT ["/bin/false"]', 'CMD ["ignored"]', "ENV FROM_IMAGE=kept", "USER 4321", "WORKDIR /var"]
    # Two of one archive would be one image otherwise, and stay while one of them is there.
    changes.append(f"ENV IMAGE_TAG={tag}")
    call(engine, "import", *(word for change in changes for word in ("--change", change)), str(archive), tag)
    try:
        yield call(engine, "image", "inspect", "--format", "{{.Id}}", tag)
    finally:
        call(engine, "rmi", "--force", tag)


def call(engine: RuntimeName, *arguments: str) -> str:
    environment = podman_environment() if engine is RuntimeName.PODMAN else engine_environment()
    argv = [engine.value, *arguments]
    return subprocess.run(argv, env=environment, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture(scope="session")
def podman_image(settings_folder: Path, image_archive: Path) -> Iterator[str]:
    yield from imported(RuntimeName.PODMAN, image_archive)


@pytest.fixture(scope="session")
def docker_image(settings_folder: Path, docker_server: None, image_archive: Path) -> Iterator[str]:
    yield from imported(RuntimeName.DOCKER, image_archive)


@pytest.fixture
def native(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(runtime_of(RuntimeName.NATIVE), Prepared(python=Path(sys.executable)), tmp_path)
    yield bench
    close(bench)


@pytest.fixture
def podman(tmp_path: Path, podman_image: str) -> Iterator[Bench]:
    bench = Bench(runtime_of(RuntimeName.PODMAN), Prepared(image=podman_image), tmp_path)
    yield bench
    close(bench)


@pytest.fixture
def docker(tmp_path: Path, docker_image: str) -> Iterator[Bench]:
    bench = Bench(runtime_of(RuntimeName.DOCKER), Prepared(image=docker_image), tmp_path)
    yield bench
    close(bench)


@pytest.fixture(
    params=[
        "native",
        pytest.param("podman", marks=pytest.mark.podman),
        pytest.param("docker", marks=pytest.mark.docker),
    ]
)
def bench(request: pytest.FixtureRequest) -> Bench:
    """Give each runtime in turn: one suite says how all of them behave."""
    found: Bench = request.getfixturevalue(request.param)
    return found
