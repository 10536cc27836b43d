from __future__ import annotations

import ast
import csv
import itertools
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from simulators import supervisor
from simulators.runtimes import Box, Prepared, Runtime, docker, podman, runtime_of
from simulators.runtimes.oci import mount
from simulators.span import Span
from simyard.errors import InvalidInput
from simyard.resources import Limits, Resources
from simyard.simulator import Command, RuntimeName

IMAGE = "sha256:" + "4b" * 32


@pytest.fixture(autouse=True)
def _no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (podman, docker):
        dialect = replace(module._DIALECT, environment=lambda: {"PATH": "/bin"})
        monkeypatch.setattr(module, "_DIALECT", dialect)


def make_box(folder: Path, *commands: Command, gpu_ids: tuple[str, ...] = (), cpus: float = 2.5) -> Box:
    return Box(
        name="simyard-t1-1",
        folder=folder / "work",
        control=folder / "control",
        commands=commands,
        resources=Resources(cpus=cpus, memory="512MiB", disk="1GiB"),
        limits=Limits(run=60),
        gpu_ids=gpu_ids,
    )


@pytest.mark.parametrize("runtime", [RuntimeName.PODMAN, RuntimeName.DOCKER])
def test_containers_over_several_machines_have_the_hosts_network_and_know_each_other(
    tmp_path: Path, runtime: RuntimeName
) -> None:
    box = make_box(tmp_path, Command(argv=("mpirun", "x"), environment={"SIMYARD_LAUNCH": "mine"}))
    [alone] = runtime_of(runtime).plan(Prepared(image=IMAGE), box).steps
    span = Span(folder=tmp_path / "span", addresses={"machine-0": "10.0.0.1", "machine-1": "10.0.0.2"})
    [step] = runtime_of(runtime).plan(Prepared(image=IMAGE), replace(box, span=span)).steps
    pairs = list(itertools.pairwise(step.argv))
    assert ("--network", "none") in itertools.pairwise(alone.argv)
    assert not [word for word in alone.argv if "MCA" in word or "/simyard" in word]
    assert ("--network", "host") in pairs
    assert [value for name, value in pairs if name == "--add-host"] == ["machine-0:10.0.0.1", "machine-1:10.0.0.2"]
    assert ("--mount", mount(tmp_path / "span", "/simyard")) in pairs
    variables = [value for name, value in pairs if name == "--env"]
    assert "OMPI_MCA_plm_rsh_agent=/simyard/launch" in variables
    assert "HYDRA_HOST_FILE=/simyard/hostfile.mpich" in variables
    assert "SIMYARD_LAUNCH=mine" in variables, "the command's own wins"
    assert ("--cap-drop", "all") in pairs


@pytest.mark.parametrize("name", list(RuntimeName))
def test_every_runtime_is_registered_under_its_name(name: RuntimeName) -> None:
    assert runtime_of(name).name is name


class TestNative:
    runtime: Runtime = runtime_of(RuntimeName.NATIVE)

    def test_python_means_the_environments_interpreter(self, tmp_path: Path) -> None:
        prepared = Prepared(python=Path("/env/bin/python"), programs=Path("/env/bin"))
        box = make_box(tmp_path, Command(argv=("python", "x.py")), Command(argv=("swmm", "a.inp")))
        first, second = self.runtime.plan(prepared, box).steps
        assert first.argv == ("/env/bin/python", "x.py")
        assert first.program == "python"
        assert second.argv == ("swmm", "a.inp")
        assert second.environment["PATH"].startswith("/env/bin:/usr/")

    def test_a_shell_is_refused_with_field_and_fix(self, tmp_path: Path) -> None:
        box = make_box(tmp_path, Command(argv=("true",)), Command(argv=("ls | wc",), shell=True))
        with pytest.raises(InvalidInput) as caught:
            self.runtime.plan(Prepared(), box)
        assert caught.value.field == "commands.1.shell"
        assert "podman" in (caught.value.fix or "")

    def test_the_environment_is_ours_and_the_commands_own_wins(self, tmp_path: Path) -> None:
        command = Command(argv=("x",), environment={"LANG": "C", "SIMYARD_BOX": "forged"})
        (step,) = self.runtime.plan(Prepared(), make_box(tmp_path, command, gpu_ids=("1", "GPU-7"))).steps
        assert step.environment == {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(tmp_path / "work"),
            "TMPDIR": str(tmp_path / "control" / "tmp"),
            "LANG": "C",
            "OMP_NUM_THREADS": "2",
            "CUDA_VISIBLE_DEVICES": "1,GPU-7",
            "SIMYARD_BOX": "simyard-t1-1",
        }

    def test_less_than_a_core_is_still_one_thread(self, tmp_path: Path) -> None:
        (step,) = self.runtime.plan(Prepared(), make_box(tmp_path, Command(argv=("x",)), cpus=0.25)).steps
        assert step.environment["OMP_NUM_THREADS"] == "1"

    def test_limits_stand_in_the_plan_that_the_supervisor_reads(self, tmp_path: Path) -> None:
        plan = json.loads(self.runtime.plan(Prepared(), make_box(tmp_path, Command(argv=("x",)))).to_json())
        assert (plan["memory"], plan["disk"], plan["run_seconds"]) == (512 * 2**20, 2**30, 60.0)
        assert plan["engine"] is None
        assert plan["folder"] == str(tmp_path / "work")


@pytest.mark.parametrize("name", list(RuntimeName))
@pytest.mark.parametrize(
    ("command", "field"),
    [
        (Command(argv=("a\0b",)), "commands.0.argv"),
        (Command(argv=("a",), environment={"": "x"}), "commands.0.environment"),
        (Command(argv=("a",), environment={"A=B": "x"}), "commands.0.environment"),
        (Command(argv=("a",), environment={"A": "x\0"}), "commands.0.environment"),
        (Command(argv=("a", "b"), shell=True), "commands.0."),
    ],
)
def test_what_no_system_can_start_is_refused_with_its_field(
    tmp_path: Path, name: RuntimeName, command: Command, field: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        runtime_of(name).plan(Prepared(image=IMAGE), make_box(tmp_path, command))
    assert (caught.value.field or "").startswith(field)


@pytest.mark.parametrize("name", [RuntimeName.PODMAN, RuntimeName.DOCKER])
class TestContainers:
    def words(self, name: RuntimeName, folder: Path, command: Command, **more: tuple[str, ...]) -> list[str]:
        plan = runtime_of(name).plan(Prepared(image=IMAGE), make_box(folder, command, **more))
        assert plan.engine is not None
        assert plan.engine.label == "simyard=simyard-t1-1"
        assert plan.steps[0].container == "simyard-t1-1-0"
        return list(plan.steps[0].argv)

    def test_the_command_follows_the_image_word_by_word(self, name: RuntimeName, tmp_path: Path) -> None:
        words = self.words(name, tmp_path, Command(argv=("ccx", "-i", "a b")))
        assert words[words.index(IMAGE) :] == [IMAGE, "ccx", "-i", "a b"]
        assert words[words.index("--entrypoint") + 1] == ""
        assert "--interactive" not in words

    def test_a_shell_runs_inside(self, name: RuntimeName, tmp_path: Path) -> None:
        words = self.words(name, tmp_path, Command(argv=("ls | wc > $HOME/x",), shell=True, stdin="y"))
        assert words[words.index(IMAGE) :] == [IMAGE, "sh", "-c", "ls | wc > $HOME/x"]
        assert "--interactive" in words

    def test_the_container_gets_no_more_than_it_needs(self, name: RuntimeName, tmp_path: Path) -> None:
        words = self.words(name, tmp_path, Command(argv=("x",)))
        pairs = dict(itertools.pairwise(words))
        assert pairs["--network"] == "none"
        assert pairs["--cap-drop"] == "all"
        assert pairs["--security-opt"] == "no-new-privileges"
        assert "--read-only" in words
        assert pairs["--memory"] == pairs["--memory-swap"] == str(512 * 2**20)
        assert pairs["--pids-limit"] == "1024"
        assert float(pairs["--cpus"]) <= 2.5
        assert pairs["--pull"] == "never"
        assert pairs["--log-driver"] == "none"
        assert not [word for word in words if word.startswith(("--gpus", "--device", "--privileged", "--env-host"))]
        assert "NVIDIA_VISIBLE_DEVICES=void" in words

    def test_only_the_given_gpus_are_handed_over(self, name: RuntimeName, tmp_path: Path) -> None:
        words = self.words(name, tmp_path, Command(argv=("x",)), gpu_ids=("2", "5"))
        pairs = [list(pair) for pair in itertools.pairwise(words)]
        if name is RuntimeName.PODMAN:
            assert ["--device", "nvidia.com/gpu=2"] in pairs
            assert ["--device", "nvidia.com/gpu=5"] in pairs
        else:
            assert ["--gpus", '"device=2,5"'] in pairs
        assert "CUDA_VISIBLE_DEVICES=0,1" in words

    def test_the_supervisors_own_call_carries_the_mark(self, name: RuntimeName, tmp_path: Path) -> None:
        plan = runtime_of(name).plan(Prepared(image=IMAGE), make_box(tmp_path, Command(argv=("x",))))
        assert plan.steps[0].environment == {"PATH": "/bin", "SIMYARD_BOX": "simyard-t1-1"}


@pytest.mark.parametrize("folder", ["/plain", "/with,comma", '/with "quotes"', "/with:colon", "/spa ce/é"])
def test_a_folder_of_any_name_survives_the_engines_csv(folder: str) -> None:
    assert next(csv.reader([mount(Path(folder), "/workdir")])) == ["type=bind", f"source={folder}", "target=/workdir"]


def test_the_supervisor_needs_the_standard_library_only() -> None:
    trees = [ast.parse(file.read_text()) for file in Path(supervisor.__file__).parent.glob("*.py")]
    names = {
        alias.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
    }
    names |= {node.module or "" for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert len(trees) > 10
    foreign = {name for name in names if name.split(".")[0] not in sys.stdlib_module_names}
    assert all(name.startswith("simulators.supervisor.") for name in foreign)
