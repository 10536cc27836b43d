"""Images in the storage: what one machine has built another one fetches. Real engines, and a real S3 server."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from serve import image_commands
from simulators import catalogue, images
from simulators.errors import ImageError
from simulators.image_shelf import ImageShelf, image_shelf
from simulators.images import Engine, find_engine
from simulators.runtimes import podman
from simulators.spec import ImageSpec, SimulatorSpec, VersionSpec
from simyard.simulator import RuntimeName
from storage.errors import StorageUnavailable
from storage.memory import MemoryStore
from storage.objects import ObjectStore, open_store
from storage.paths import Paths
from storage.settings import load_settings
from tests.services.s3 import S3Server

pytestmark = [pytest.mark.podman, pytest.mark.timeout(300)]


class Yard:
    """One engine's machine: an image that is made of nothing, and a storage."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        self.engine = engine
        self.tag = f"localhost/simyard/shelf-{os.getpid()}:1"
        containerfile = folder / "Containerfile"
        containerfile.write_text("ARG BASE\nFROM scratch\nCOPY Containerfile /told\n")
        self.version = VersionSpec(version="1", image=ImageSpec(containerfile=containerfile, tag=self.tag))
        self.spec = SimulatorSpec(
            name="shelf",
            title="",
            description="",
            homepage="",
            versions=(self.version,),
            parameters=(),
            build=lambda *_: (),
        )
        self.builds = 0

    def remove(self) -> None:
        self.engine.run(["rmi", "--force", self.tag], 60)

    def prepare(self) -> str:
        """Return the image's id as a run that needs it gets it, on a machine that has seen nothing yet."""
        found = podman.Podman().prepare(self.spec, self.version, lambda: False).image
        assert found is not None
        return found


@pytest.fixture
def engine() -> Engine:
    return find_engine(RuntimeName.PODMAN)


@pytest.fixture
def yard(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Yard]:
    made = Yard(engine, tmp_path)
    build = images.build_image

    def counted(*arguments: object, **more: object) -> str:
        made.builds += 1
        return build(*arguments, base="scratch", **more)  # type: ignore[arg-type]

    monkeypatch.setattr(images, "build_image", counted)
    yield made
    made.remove()


@pytest.fixture
def bucket(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    uri = f"s3://{s3_server.bucket}/shelf-{os.getpid()}-{time.time_ns()}"
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SIMYARD_STORAGE", uri)
    load_settings.cache_clear()
    yield open_store(uri)
    load_settings.cache_clear()


def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.05)


def keys(store: ObjectStore) -> list[str]:
    return sorted(found.key for found in store.list("images"))


def test_what_one_machine_has_built_another_one_fetches(yard: Yard, bucket: ObjectStore) -> None:
    first = yard.prepare()
    shelf = image_shelf()
    assert shelf is not None
    until(lambda: shelf.has(yard.spec, yard.version), "the image in the storage")
    assert len(keys(bucket)) == 2
    yard.remove()
    assert yard.prepare() == first
    assert yard.builds == 1
    assert not shelf.keep(yard.engine, yard.spec, yard.version), "it is there"


def test_one_that_is_damaged_or_half_there_is_not_taken_and_built_instead(yard: Yard, bucket: ObjectStore) -> None:
    yard.prepare()
    shelf = ImageShelf(bucket)
    until(lambda: shelf.has(yard.spec, yard.version), "the image in the storage")
    note, archive = keys(bucket)
    data = bucket.get(archive)
    bucket.put(archive, data[:-1] + bytes([data[-1] ^ 1]))
    yard.remove()
    assert not shelf.fetch(yard.engine, yard.spec, yard.version)
    bucket.put(archive, data)
    bucket.delete([note])
    assert not shelf.fetch(yard.engine, yard.spec, yard.version)
    yard.prepare()
    assert yard.builds == 2
    until(lambda: not list(load_settings().environments.glob("image-*")), "the end of what was made meanwhile")


def test_an_image_of_another_recipe_is_another_one(yard: Yard, bucket: ObjectStore) -> None:
    yard.prepare()
    shelf = ImageShelf(bucket)
    until(lambda: shelf.has(yard.spec, yard.version), "the image in the storage")
    image = yard.version.image
    assert image is not None
    image.containerfile.write_text(image.containerfile.read_text() + "LABEL changed=1\n")
    assert not shelf.has(yard.spec, yard.version)
    with pytest.raises(ImageError, match="is not as its folder gives it"):
        shelf.keep(yard.engine, yard.spec, yard.version)
    yard.prepare()
    assert yard.builds == 2


def test_the_list_of_images_says_which_of_them_the_storage_has(bucket: ObjectStore) -> None:
    def stored() -> dict[str, bool]:
        result = CliRunner().invoke(image_commands.commands, ["list", "--engine", "podman", "--json"])
        assert result.exit_code == 0, result.output
        return {image["simulator"]: image["stored"] for image in json.loads(result.stdout)["images"]}

    assert set(stored().values()) == {False}
    swmm = catalogue.find("swmm")
    version, _ = catalogue.resolve(swmm, None, None)
    bucket.put(Paths.image_note("swmm", version.version, platform.machine(), images.recipe(version)), b"{}")
    assert {name for name, has in stored().items() if has} == {"swmm"}
    table = CliRunner().invoke(image_commands.commands, ["list", "--engine", "podman"]).stdout
    assert {line.split()[0]: line.split()[3] for line in table.splitlines()}["swmm"] == "yes"


def test_a_storage_that_does_not_answer_costs_a_build(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object) -> bytes:
        raise StorageUnavailable("It is away.")

    store = MemoryStore()
    monkeypatch.setattr(store, "get", away)
    assert not ImageShelf(store).fetch(yard.engine, yard.spec, yard.version)
    assert image_shelf() is None, "a folder on this machine has no images"
    yard.prepare()
    assert yard.builds == 1


@pytest.mark.docker
def test_what_podman_has_built_docker_fetches(yard: Yard, docker_server: None) -> None:
    yard.prepare()
    shelf, docker = ImageShelf(MemoryStore()), find_engine(RuntimeName.DOCKER)
    assert shelf.keep(yard.engine, yard.spec, yard.version)
    try:
        assert shelf.fetch(docker, yard.spec, yard.version)
        assert docker.label(yard.tag) == images.recipe(yard.version)
    finally:
        docker.run(["rmi", "--force", yard.tag], 60)
