"""The simulators that have a Python environment, run in it as they are in service."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from simulators import catalogue
from simulators.expectation import deviations, load_example
from simulators.spec import SimulatorSpec
from simulators.swmm import tables
from simyard.simulator import Command, RuntimeName

from .conftest import Runner

NATIVE = [spec for spec in catalogue.all_simulators() if RuntimeName.NATIVE in spec.versions[0].runtimes]
PAGE = Path(catalogue.__file__).parent / "README.md"
# Reads a results file with the engine's own reader, as EPA's library gives it.
OFFICIAL = """
import json, sys
from swmm.toolkit import output, shared_enum as names
handle = output.init()
output.open(handle, sys.argv[1])
sizes = output.get_proj_size(handle)
periods = output.get_times(handle, names.Time.NUM_PERIODS)
found = {"nodes": {}, "links": {}, "sizes": sizes[:3]}
for i in range(sizes[1]):
    name = output.get_elem_name(handle, names.ElementType.NODE, i)
    found["nodes"][name] = output.get_node_series(handle, i, names.NodeAttribute.TOTAL_INFLOW, 0, periods - 1)
for i in range(sizes[2]):
    name = output.get_elem_name(handle, names.ElementType.LINK, i)
    found["links"][name] = output.get_link_series(handle, i, names.LinkAttribute.FLOW_VELOCITY, 0, periods - 1)
output.close(handle)
print(json.dumps(found))
"""


def staged(spec: SimulatorSpec, folder: Path, root: Path | None = None) -> Path:
    return Path(shutil.copytree(load_example(spec, root).folder, folder))


def example_commands(spec: SimulatorSpec, folder: Path, root: Path | None = None) -> tuple[Command, ...]:
    paths = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    version, runtime = catalogue.resolve(spec, None, RuntimeName.NATIVE)
    return catalogue.commands(spec, version, load_example(spec, root).parameters, (), paths, runtime)


@pytest.mark.parametrize("spec", NATIVE, ids=lambda spec: spec.name)
def test_the_example_gives_its_numbers(spec: SimulatorSpec, run: Runner, tmp_path: Path):
    folder = staged(spec, tmp_path / "work")
    ran = run(spec, RuntimeName.NATIVE, example_commands(spec, folder), folder)
    assert ran.succeeded, ran.stderr
    found, warnings = catalogue.tables(spec, folder, load_example(spec).parameters)
    assert warnings == []
    assert deviations(load_example(spec), found) == []


def test_swmm_says_how_far_it_is_and_how_well_it_balanced(run: Runner, tmp_path: Path):
    swmm = catalogue.find("swmm")
    folder = staged(swmm, tmp_path / "work")
    ran = run(swmm, RuntimeName.NATIVE, example_commands(swmm, folder), folder)
    assert re.findall(r"^ *(\d+) %", ran.stdout, re.MULTILINE) == [str(n) for n in range(5, 100, 5)]
    assert "continuity error: runoff -0.002 %" in ran.stdout


def test_our_reader_of_swmms_results_agrees_with_the_engines_own(run: Runner, tmp_path: Path):
    swmm = catalogue.find("swmm")
    folder = staged(swmm, tmp_path / "work")
    (folder / "official.py").write_text(OFFICIAL)
    commands = (*example_commands(swmm, folder), Command(argv=("python", "official.py", "model.out")))
    ran = run(swmm, RuntimeName.NATIVE, commands, folder)
    assert ran.succeeded, ran.stderr
    official = json.loads(ran.stdout.splitlines()[-1])
    assert official["sizes"] == [3, 5, 4]
    for name, variable, parse in (("nodes", "total_inflow", tables.nodes), ("links", "velocity", tables.links)):
        table = parse(folder, {"input_file": "model.inp"})
        assert table is not None
        ours: dict[str, list[float]] = {}
        for row in table.to_pylist():
            ours.setdefault(row[name.removesuffix("s")], []).append(row[variable])
        assert ours == official[name]


@pytest.mark.parametrize("name", ["two words é.inp", 'it\'s "quoted".inp', "-i.inp", "deep/er/a;b $(id).inp"])
def test_swmm_takes_files_of_any_name(name: str, run: Runner, tmp_path: Path):
    swmm = catalogue.find("swmm")
    path = tmp_path / "work" / name
    path.parent.mkdir(parents=True)
    shutil.copy(load_example(swmm).folder / "model.inp", path)
    version, runtime = catalogue.resolve(swmm)
    commands = catalogue.commands(swmm, version, {"input_file": name}, (), {name}, runtime)
    ran = run(swmm, RuntimeName.NATIVE, commands, tmp_path / "work")
    assert ran.succeeded, ran.stderr
    found, warnings = catalogue.tables(swmm, tmp_path / "work", {"input_file": name})
    assert (warnings, "summary" in found, "nodes" in found) == ([], True, True)


def test_a_swmm_model_with_an_error_fails_and_says_where(run: Runner, tmp_path: Path):
    swmm = catalogue.find("swmm")
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "bad.inp").write_text("[TITLE]\nbroken\n[JUNCTIONS]\nJ1 x\n")
    ran = run(swmm, RuntimeName.NATIVE, (Command(argv=("runswmm", "bad.inp")),), tmp_path / "work")
    assert ran.end.exit_code == 1
    assert "ERROR 211: invalid number x at line 4" in ran.stderr


@pytest.mark.parametrize("arguments", [(), ("none.inp",), ("a.inp", "a.inp")])
def test_swmm_without_a_model_fails(arguments: tuple[str, ...], run: Runner, tmp_path: Path):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "a.inp").write_text("")
    command = Command(argv=("runswmm", *arguments))
    assert run(catalogue.find("swmm"), RuntimeName.NATIVE, (command,), tmp_path / "work").end.exit_code == 2


def test_openseespy_passes_the_scripts_end_on(run: Runner, tmp_path: Path):
    opensees = catalogue.find("openseespy")
    (tmp_path / "work" / "deep").mkdir(parents=True)
    (tmp_path / "work" / "deep" / "part.py").write_text("value = 3\n")
    script = "import sys, part, openseespy.opensees\nprint(sys.argv, __name__)\nsys.exit(part.value)\n"
    (tmp_path / "work" / "deep" / "it's a é.py").write_text(script)
    command = Command(argv=("opensees", "deep/it's a é.py", "x y"))
    ran = run(opensees, RuntimeName.NATIVE, (command,), tmp_path / "work")
    assert ran.end.exit_code == 3
    assert ran.stdout.splitlines()[0] == repr(["deep/it's a é.py", "x y"]) + " __main__"


def test_openseespy_script_that_raises_fails_with_its_traceback(run: Runner, tmp_path: Path):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "a.py").write_text("raise ValueError('no such section')\n")
    command = Command(argv=("opensees", "a.py"))
    ran = run(catalogue.find("openseespy"), RuntimeName.NATIVE, (command,), tmp_path / "work")
    assert ran.end.exit_code == 1
    assert "no such section" in ran.stderr


def test_openseespy_is_there_for_the_processes_that_a_script_starts(run: Runner, tmp_path: Path):
    (tmp_path / "work").mkdir()
    code = "import subprocess, sys\nsubprocess.run([sys.executable, '-c', 'import openseespy.opensees'], check=True)\n"
    (tmp_path / "work" / "a.py").write_text(code)
    command = Command(argv=("opensees", "a.py"))
    ran = run(catalogue.find("openseespy"), RuntimeName.NATIVE, (command,), tmp_path / "work")
    assert ran.succeeded, ran.stderr


def test_the_example_of_the_readme_is_a_simulator_that_works(run: Runner, tmp_path: Path):
    root = tmp_path / "catalogue"
    blocks = re.findall(r"^`(\S+)`\n\n```\w*\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 7
    for path, text in blocks:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    (spec,) = catalogue.all_simulators(root)
    folder = staged(spec, tmp_path / "work", root)
    ran = run(spec, RuntimeName.NATIVE, example_commands(spec, folder, root), folder)
    assert ran.succeeded, ran.stderr
    found, warnings = catalogue.tables(spec, folder, load_example(spec, root).parameters)
    assert warnings == []
    assert deviations(load_example(spec, root), found) == []
