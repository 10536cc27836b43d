from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from simulators import catalogue, images
from simulators.errors import ImageError, RuntimeUnavailable, UnsuitableRuntime
from simulators.images import OWN_BASE, PUBLIC_BASE, Engine, build_image, ensure_base, fill_context, recipe
from simulators.spec import VersionSpec
from simyard.simulator import RuntimeName

CALCULIX = catalogue.find("calculix")
VERSION = CALCULIX.versions[0]


class Recorder(Engine):
    """An engine that remembers what it was asked and answers from `images` and `refuses`."""

    def __init__(self, images: dict[str, str], refuses: tuple[str, ...] = ()) -> None:
        super().__init__(RuntimeName.PODMAN, {"PATH": "/nowhere"})
        self.__dict__ |= {"images": images, "refuses": refuses, "asked": []}

    def run(self, arguments, seconds, cwd=None):
        self.asked.append(list(arguments))
        if arguments[0] == "image":
            if arguments[-1] not in self.images:
                raise ImageError("no such image")
            return self.images[arguments[-1]] + "\n"
        if arguments[0] in self.refuses:
            raise ImageError(f"{arguments[0]} refused")
        if arguments[0] == "build":
            assert (cwd / "Containerfile").is_file()
            assert (cwd / "programs" / "ccx").stat().st_mode & 0o777 == 0o755
        return ""


def test_an_image_is_built_once_and_again_when_its_folder_changed(tmp_path: Path):
    engine = Recorder({OWN_BASE: "<no value>"})
    assert build_image(CALCULIX, VERSION, engine=engine) == "localhost/simyard/calculix:2.20"
    build = next(asked for asked in engine.asked if asked[0] == "build")
    assert f"BASE={OWN_BASE}" in build
    assert f"simyard.recipe={recipe(VERSION)}" in build

    current = Recorder({OWN_BASE: "", "localhost/simyard/calculix:2.20": recipe(VERSION)})
    build_image(CALCULIX, VERSION, engine=current)
    assert not any(asked[0] == "build" for asked in current.asked)
    build_image(CALCULIX, VERSION, engine=current, rebuild=True)
    assert any(asked[0] == "build" for asked in current.asked)


def test_a_recipe_changes_with_anything_that_goes_into_the_image(tmp_path: Path):
    program = tmp_path / "run.py"
    program.write_text("print(1)")
    assert VERSION.image is not None
    changed = [
        VERSION,
        replace(VERSION, programs={"ccx": program}),
        replace(VERSION, programs={"other": program}),
        replace(VERSION, image=replace(VERSION.image, wheels=("a==1",))),
        replace(VERSION, image=replace(VERSION.image, containerfile=program)),
    ]
    assert len({recipe(version) for version in changed}) == len(changed)


def test_a_given_base_is_used_without_asking_a_registry():
    engine = Recorder({})
    build_image(CALCULIX, VERSION, engine=engine, base="registry.test/debian:12")
    assert any("BASE=registry.test/debian:12" in asked for asked in engine.asked)
    assert not any(asked[0] == "pull" for asked in engine.asked)


def test_the_public_base_is_preferred():
    assert ensure_base(Recorder({})) == PUBLIC_BASE


def test_without_registry_and_mmdebstrap_the_fix_is_named():
    with pytest.raises(ImageError) as caught:
        ensure_base(Recorder({}, refuses=("pull",)))
    assert "apt-get install mmdebstrap" in str(caught.value)
    assert "--base" in str(caught.value)


def test_a_version_without_an_image_is_refused():
    with pytest.raises(UnsuitableRuntime, match="native"):
        build_image(CALCULIX, VersionSpec(version="1", requirements=()), engine=Recorder({}))


def test_a_program_starts_with_the_line_that_names_its_interpreter(tmp_path: Path):
    fill_context(tmp_path, VERSION)
    assert (tmp_path / "programs" / "ccx").read_text().startswith("#!/usr/bin/env -S python3 -I\n")


def test_a_missing_engine_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(images.shutil, "which", lambda *_, **__: None)
    with pytest.raises(RuntimeUnavailable, match=r"docker is not installed.*docker\.io"):
        images.find_engine("docker")


def test_native_is_no_engine():
    with pytest.raises(RuntimeUnavailable, match="podman or docker"):
        images.find_engine(RuntimeName.NATIVE)
