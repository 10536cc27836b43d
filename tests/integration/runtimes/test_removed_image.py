"""An image that somebody removes while the machine is in use."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from simulators.errors import SupervisorLost
from simulators.execution import Execution
from simulators.runtimes import runtime_of
from simulators.spec import ImageSpec, VersionSpec
from simyard.resources import Limits, Resources
from simyard.simulator import RuntimeName
from tests.integration.runtimes.carrier import SPEC
from tests.integration.runtimes.conftest import call, imported, sh

ENGINES = [
    pytest.param(RuntimeName.PODMAN, marks=pytest.mark.podman),
    pytest.param(RuntimeName.DOCKER, marks=pytest.mark.docker),
]


@pytest.mark.parametrize("engine", ENGINES)
def test_who_needed_it_is_not_blamed_and_the_next_one_has_it_again(
    engine: RuntimeName, settings_folder: Path, image_archive: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if engine is RuntimeName.DOCKER:
        request.getfixturevalue("docker_server")
    tag = f"localhost/simyard-removed-{os.getpid()}:1"
    version = VersionSpec(version="1", image=ImageSpec(containerfile=tmp_path / "Containerfile", tag=tag))
    spec = replace(SPEC, name="removed", versions=(version,))

    def run(number: int) -> int | None:
        execution = Execution(
            box=f"simyard-t{os.urandom(6).hex()}-1",
            root=tmp_path / str(number),
            spec=spec,
            version=version,
            runtime=runtime_of(engine),
            resources=Resources(),
            limits=Limits(),
        )
        try:
            return execution.run((sh("exit 7"),)).exit_code
        finally:
            execution.remove()

    for _ in imported(engine, image_archive, tag):
        assert run(1) == 7
    with pytest.raises(SupervisorLost, match="was removed from the machine"):
        run(2)
    for image in imported(engine, image_archive, tag):
        assert run(3) == 7
        assert call(engine, "image", "inspect", "--format", "{{.Id}}", tag) == image
