"""The images of all simulators, built by podman and run in it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from simulators import catalogue, images
from simulators.errors import ImageError, RuntimeUnavailable
from simulators.expectation import deviations, load_example
from simulators.images import Engine, build_image, find_engine, list_images
from simulators.runtimes import runtime_of
from simulators.spec import ImageSpec, SimulatorSpec, VersionSpec
from simyard.simulator import Command, RuntimeName

from .conftest import Runner

pytestmark = [pytest.mark.podman, pytest.mark.images, pytest.mark.timeout(900)]
WITH_IMAGE = [spec for spec in catalogue.all_simulators() if spec.versions[0].image is not None]
CALCULIX = catalogue.find("calculix")


@pytest.fixture(scope="module")
def podman() -> Engine:
    try:
        engine = find_engine(RuntimeName.PODMAN)
    except RuntimeUnavailable as error:
        pytest.skip(str(error))
    if trouble := runtime_of(RuntimeName.PODMAN).available():
        pytest.skip(trouble)
    return engine


def run_job(run: Runner, podman: Engine, folder: Path, job: str):
    build_image(CALCULIX, CALCULIX.versions[0], engine=podman)
    return run(CALCULIX, RuntimeName.PODMAN, (Command(argv=("ccx", "-i", job)),), folder)


@pytest.mark.parametrize("spec", WITH_IMAGE, ids=lambda spec: spec.name)
def test_the_image_is_built_and_its_example_gives_its_numbers(spec, podman: Engine, run: Runner, tmp_path: Path):
    said: list[str] = []
    tag = build_image(spec, spec.versions[0], engine=podman, say=said.append)
    assert said
    assert [image.current for image in list_images(podman) if image.tag == tag] == [True]

    example = load_example(spec)
    folder = Path(shutil.copytree(example.folder, tmp_path / "it's the é work"))
    paths = {path.name for path in folder.iterdir()}
    commands = catalogue.commands(spec, spec.versions[0], example.parameters, (), paths, RuntimeName.PODMAN)
    ran = run(spec, RuntimeName.PODMAN, commands, folder)
    assert ran.succeeded, ran.stderr + ran.stdout[-2000:]
    found, warnings = catalogue.tables(spec, folder, example.parameters)
    assert warnings == []
    assert deviations(example, found) == []


def test_an_image_that_is_up_to_date_is_not_built_again(podman: Engine):
    said: list[str] = []
    build_image(CALCULIX, CALCULIX.versions[0], engine=podman)
    build_image(CALCULIX, CALCULIX.versions[0], engine=podman, say=said.append)
    assert said == ["localhost/simyard/calculix:2.20 is up to date"]


def test_calculix_gives_the_reference_numbers(podman: Engine, run: Runner, tmp_path: Path):
    folder = Path(shutil.copytree(load_example(CALCULIX).folder, tmp_path / "work"))
    assert run_job(run, podman, folder, "cantilever").succeeded
    lines = [(folder / name).read_text().splitlines() for name in ("cantilever.dat", "expected.dat")]
    assert len(lines[0]) == len(lines[1]) > 40
    for line, reference in zip(*lines, strict=True):
        words, wanted = line.split(), reference.split()
        if words and words[0].isdigit():
            # What is zero by symmetry differs by rounding, far below the stresses' hundreds and the shifts' tenths.
            assert [float(w) for w in words] == pytest.approx([float(w) for w in wanted], rel=1e-5, abs=1e-7)
        elif words and words[0][0] not in "-.0123456789":
            assert words == wanted


def test_calculix_runs_in_the_folder_of_its_deck(podman: Engine, run: Runner, tmp_path: Path):
    deck = (load_example(CALCULIX).folder / "cantilever.inp").read_text()
    head, sets = deck.split("*NSET, NSET=ROOT", 1)
    folder = tmp_path / "work" / "deep er"
    folder.mkdir(parents=True)
    (folder / "main-é.inp").write_text(head + "*INCLUDE, INPUT=sets.inc\n")
    (folder / "sets.inc").write_text("*NSET, NSET=ROOT" + sets)
    ran = run_job(run, podman, tmp_path / "work", "deep er/main-é")
    assert ran.succeeded, ran.stderr + ran.stdout
    assert catalogue.tables(CALCULIX, tmp_path / "work", {"job": "deep er/main-é"})[0]["stresses"].num_rows == 27


BROKEN = {
    "empty": "",
    "unknown-element": "*NODE\n1,0,0,0\n*ELEMENT,TYPE=FOO\n1,1\n*STEP\n*STATIC\n*END STEP\n",
    "no-include": "*NODE\n1,0,0,0\n*INCLUDE, INPUT=nothing.inc\n",
}


@pytest.mark.parametrize("job", [*BROKEN, "missing"])
def test_a_calculix_job_that_is_not_finished_fails(job: str, podman: Engine, run: Runner, tmp_path: Path):
    (tmp_path / "work").mkdir()
    if job in BROKEN:
        (tmp_path / "work" / f"{job}.inp").write_text(BROKEN[job])
    ran = run_job(run, podman, tmp_path / "work", job)
    assert not ran.succeeded
    assert ran.end.why == "exit"


def test_a_build_that_fails_says_why_and_leaves_no_image(podman: Engine, tmp_path: Path):
    tag = f"localhost/simyard/broken:{os.getpid()}"
    (tmp_path / "Containerfile").write_text("ARG BASE\nFROM ${BASE}\nRUN echo the disk is on fire && exit 7\n")
    version = VersionSpec(version="1", image=ImageSpec(containerfile=tmp_path / "Containerfile", tag=tag))
    broken = SimulatorSpec(
        name="broken", title="", description="", homepage="", versions=(version,), parameters=(), build=lambda *_: ()
    )
    with pytest.raises(ImageError, match="the disk is on fire"):
        build_image(broken, version, engine=podman)
    assert podman.label(tag) is None


def test_where_no_registry_answers_the_base_is_made_from_debians_packages(
    podman: Engine, monkeypatch: pytest.MonkeyPatch
):
    if os.geteuid() != 0 or shutil.which("mmdebstrap") is None:
        pytest.skip("needs root and mmdebstrap: apt-get install mmdebstrap")
    own = f"localhost/simyard/base:test-{os.getpid()}"
    monkeypatch.setattr(images, "OWN_BASE", own)
    monkeypatch.setattr(images, "PUBLIC_BASE", "localhost:1/nothing/debian:12")
    said: list[str] = []
    try:
        assert images.ensure_base(podman, said.append) == own
        printed = podman.run(["run", "--rm", "--network=none", own, "cat", "/etc/os-release"], 60)
        assert "VERSION_CODENAME=bookworm" in printed
    finally:
        podman.run(["rmi", "--force", own], 60)
    assert said[-1] == "no registry answers; making the base from Debian's packages"
