from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from simulators import catalogue
from simulators.errors import BrokenCatalogue, UnknownSimulator, UnknownVersion, UnsuitableRuntime
from simulators.expectation import load_example
from simulators.spec import CheckpointSpec
from simyard.checkpoint import Checkpoint
from simyard.errors import InvalidInput
from simyard.simulator import Command, RuntimeName

SPEC = """
from simulators.spec import SimulatorSpec, VersionSpec, TableSpec
from simyard.simulator import Command
from . import tables
SPEC = SimulatorSpec(name={name!r}, title="T", description="D", homepage="H", parameters=(),
    versions=({versions}),
    build=lambda parameters, inputs: (Command(argv=("true",)),),
    tables={{name: TableSpec(description="x", parse=getattr(tables, name)) for name in ("good", "bad")}})
"""
TABLES = """
def good(folder, parameters):
    import pyarrow as pa
    return pa.table({"n": [len(list(folder.iterdir()))]})
def bad(folder, parameters):
    raise KeyError("no such column")
"""


def make(root: Path, name: str, spec: str | None = None) -> Path:
    (root / name).mkdir(parents=True)
    versions = 'VersionSpec(version="2", requirements=()), VersionSpec(version="1", requirements=("a==1",))'
    (root / name / "spec.py").write_text(spec if spec is not None else SPEC.format(name=name, versions=versions))
    (root / name / "tables.py").write_text(TABLES)
    return root


INPUTS = {"a.py"}
PARAMETERS = {"script": "a.py"}


def declared(**more):
    resume = lambda parameters, inputs: (Command(argv=("go", parameters["script"])),)  # noqa: E731
    return replace(catalogue.find("openseespy"), checkpoint=CheckpointSpec(files=("state/*",), resume=resume), **more)


def test_what_a_simulator_declares_is_kept_unless_the_task_says_otherwise():
    spec, mine, go = declared(), Command(argv=("mine",)), Command(argv=("go", "a.py"))
    assert catalogue.checkpoint(spec, None, PARAMETERS, (), INPUTS) == Checkpoint(files=("state/*",), resume=(go,))
    assert catalogue.checkpoint(spec, Checkpoint(every=60), PARAMETERS, (), INPUTS) == Checkpoint(
        files=("state/*",), every=60, resume=(go,)
    )
    assert catalogue.checkpoint(spec, Checkpoint(files=("b",)), PARAMETERS, (), INPUTS) == Checkpoint(files=("b",))
    assert catalogue.checkpoint(spec, Checkpoint(resume=(mine,)), PARAMETERS, (), INPUTS) == Checkpoint(
        files=("state/*",), resume=(mine,)
    )


def test_a_task_with_commands_of_its_own_keeps_only_what_it_asks_for():
    spec, own = declared(), (Command(argv=("own",)),)
    assert catalogue.checkpoint(spec, None, {}, own, INPUTS) is None
    assert catalogue.checkpoint(spec, Checkpoint(), {}, own, INPUTS) == Checkpoint(files=("state/*",))


def test_restart_files_that_nobody_names_are_refused():
    with pytest.raises(InvalidInput) as caught:
        catalogue.checkpoint(catalogue.find("swmm"), Checkpoint(every=60), {}, (), INPUTS)
    assert caught.value.field == "checkpoint.files"
    assert catalogue.checkpoint(catalogue.find("swmm"), None, {}, (), INPUTS) is None
    assert catalogue.info(catalogue.find("openseespy")).restart_files == ("restart/**",)


def test_the_catalogue_is_the_folders_that_have_a_spec():
    here = Path(catalogue.__file__).parent
    assert {s.name for s in catalogue.all_simulators()} == {path.parent.name for path in here.glob("*/spec.py")}
    assert {"swmm", "calculix", "openseespy"} <= {s.name for s in catalogue.all_simulators()}


@pytest.mark.parametrize("spec", catalogue.all_simulators(), ids=lambda spec: spec.name)
def test_every_simulator_builds_commands_for_its_own_example(spec):
    example = load_example(spec)
    paths = {path.relative_to(example.folder).as_posix() for path in example.folder.rglob("*") if path.is_file()}
    version, runtime = catalogue.resolve(spec)
    commands = catalogue.commands(spec, version, example.parameters, (), paths, runtime)
    assert commands and not any(command.shell for command in commands)
    assert {number.table for number in example.numbers} <= set(spec.tables)
    assert json.loads(catalogue.info(spec).model_dump_json())["name"] == spec.name
    assert all(version.image is None or version.image.containerfile.is_file() for version in spec.versions)
    assert all(program.is_file() for version in spec.versions for program in version.programs.values())


def test_reading_the_catalogue_does_not_load_heavy_packages():
    code = (
        "import sys; from simulators.catalogue import *; all_simulators(); print({'pyarrow', 'ray'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_an_unknown_simulator_gets_the_nearest_names():
    with pytest.raises(UnknownSimulator) as caught:
        catalogue.find("calculics")
    assert "Did you mean calculix?" in str(caught.value)


def test_a_folder_of_ones_own_is_a_catalogue_too(tmp_path: Path):
    root = make(tmp_path / "it's\nmine é", "alpha")
    (root / "notes").mkdir()
    assert [spec.name for spec in catalogue.all_simulators(root)] == ["alpha"]
    assert catalogue.find("alpha", root).versions[0].version == "2"


@pytest.mark.parametrize(
    "text",
    [
        "import nothing_of_that_name",
        "SPEC = 3",
        "",
        "def",
        SPEC.format(name="other", versions=""),
        SPEC.format(name="alpha", versions=""),
        SPEC.format(name="alpha", versions="VersionSpec(version='1'),"),
    ],
)
def test_a_broken_folder_is_named(tmp_path: Path, text: str):
    root = make(tmp_path, "alpha", text)
    with pytest.raises(BrokenCatalogue, match=r"alpha.spec\.py"):
        catalogue.all_simulators(root)


def test_the_newest_version_and_the_preferred_runtime_are_taken():
    version, runtime = catalogue.resolve(catalogue.find("swmm"), None, None)
    assert (version.version, runtime) == (catalogue.find("swmm").versions[0].version, RuntimeName.NATIVE)
    assert catalogue.resolve(catalogue.find("calculix"), "2.20", None)[1] is RuntimeName.PODMAN


def test_the_version_fits_the_runtime_that_was_asked_for(tmp_path: Path):
    spec = catalogue.find("alpha", make(tmp_path, "alpha"))
    assert catalogue.resolve(spec, None, RuntimeName.NATIVE)[0].version == "2"
    with pytest.raises(UnsuitableRuntime, match=r"alpha 2 does not run in the runtime podman.*native"):
        catalogue.resolve(spec, "2", RuntimeName.PODMAN)


def test_an_unknown_version_gets_the_known_ones():
    with pytest.raises(UnknownVersion) as caught:
        catalogue.resolve(catalogue.find("calculix"), "2.2", None)
    assert caught.value.field == "version"
    assert "2.20" in str(caught.value.fix)


def test_the_users_commands_replace_the_built_ones_and_parameters_are_still_checked():
    spec = catalogue.find("swmm")
    own = (Command(argv=("python", "prepare.py")), Command(argv=("runswmm", "a.inp")))
    assert catalogue.commands(spec, spec.versions[0], {}, own, {"a.inp"}) == own
    with pytest.raises(InvalidInput):
        catalogue.commands(spec, spec.versions[0], {"input": "a.inp"}, own, {"a.inp"})


@pytest.mark.parametrize("job", ["beam", "beam.inp"])
def test_calculix_takes_a_job_with_and_without_its_suffix(job: str):
    spec = catalogue.find("calculix")
    commands = catalogue.commands(spec, spec.versions[0], {"job": job}, (), {"beam.inp"})
    assert commands == (Command(argv=("ccx", "-i", "beam")),)


@pytest.mark.parametrize("job", ["bean", "two words", "b" * 200, "../beam", "beam.inp.inp"])
def test_calculix_refuses_jobs_that_it_could_not_read(job: str):
    spec = catalogue.find("calculix")
    with pytest.raises(InvalidInput) as caught:
        catalogue.commands(spec, spec.versions[0], {"job": job}, (), {"beam.inp", "two words.inp", "b" * 200 + ".inp"})
    assert caught.value.field == "parameters.job"
    assert caught.value.fix


def test_a_parser_that_fails_gives_a_warning_and_the_other_tables(tmp_path: Path):
    spec = catalogue.find("alpha", make(tmp_path / "root", "alpha"))
    (tmp_path / "work").mkdir()
    tables, warnings = catalogue.tables(spec, tmp_path / "work", {})
    assert list(tables) == ["good"]
    assert warnings == ["table bad could not be read: KeyError: 'no such column'"]


@pytest.mark.parametrize("spec", catalogue.all_simulators(), ids=lambda spec: spec.name)
def test_outputs_of_a_run_that_left_nothing_or_rubbish_give_no_table_and_no_error(spec, tmp_path: Path):
    assert catalogue.tables(spec, tmp_path, load_example(spec).parameters) == ({}, [])
    for name in ("model.rpt", "model.out", "cantilever.dat", "x.csv", "x.out"):
        (tmp_path / name).write_bytes(b"\xff\0rubbish (a) for set \n" * 10)
    tables, _ = catalogue.tables(spec, tmp_path, load_example(spec).parameters)
    assert all(table.num_rows <= 1 for table in tables.values())
