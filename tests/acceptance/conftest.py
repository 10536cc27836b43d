"""What the stories share: a server that nobody kills, and the images of the simulators."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.running_server import RunningServer, running_server


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server that nobody kills."""
    with running_server(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture(scope="session")
def images(server: RunningServer) -> None:
    """The images of all simulators, built where they are not there already."""
    for name in ("swmm", "openseespy", "calculix"):
        done = server.simyard("images", "build", name, "--engine", "podman", timeout=1200)
        assert done.returncode == 0, done.stderr + done.stdout
