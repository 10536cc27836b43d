from __future__ import annotations

import math

import pytest

from simulators.parameters import check_commands, check_parameters
from simyard.errors import InvalidInput
from simyard.simulator import Command, Parameter, ParameterType, RuntimeName
from simyard.task import Value

DEFINITIONS = (
    Parameter(name="mesh", type=ParameterType.FILE, required=True, description="The mesh."),
    Parameter(name="title", type=ParameterType.TEXT, description="The title."),
    Parameter(name="steps", type=ParameterType.INTEGER, default=10, minimum=1, maximum=100, description="Steps."),
    Parameter(name="size", type=ParameterType.NUMBER, minimum=0, description="The size."),
    Parameter(name="fast", type=ParameterType.BOOLEAN, default=False, description="Whether to hurry."),
    Parameter(name="solver", type=ParameterType.CHOICE, choices=("direct", "iterative"), description="The solver."),
)
FILES = ("mesh.inp", "deep/mesh two.inp", "naïve\n'file'.inp")


def check(**given: Value) -> dict[str, Value]:
    return check_parameters(DEFINITIONS, {"mesh": "mesh.inp", **given}, FILES, "solver 1.0")


def refusal(**given: Value) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        check(**given)
    assert caught.value.field == f"parameters.{next(iter(given))}"
    assert caught.value.reason and caught.value.fix
    return caught.value


def test_defaults_are_filled_in():
    assert check() == {"mesh": "mesh.inp", "steps": 10, "fast": False}


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ({"steps": 7}, 7),
        ({"steps": "7"}, 7),
        ({"steps": 7.0}, 7),
        ({"size": "1e-3"}, 0.001),
        ({"size": 3}, 3.0),
        ({"fast": "True"}, True),
        ({"fast": False}, False),
        ({"solver": "direct"}, "direct"),
        ({"title": "; rm -rf '$HOME'\n`id`"}, "; rm -rf '$HOME'\n`id`"),
        ({"mesh": "naïve\n'file'.inp"}, "naïve\n'file'.inp"),
    ],
)
def test_values_and_the_texts_of_a_command_line_are_taken(given: dict[str, Value], taken: Value):
    name = next(iter(given))
    assert check(**given)[name] == taken
    assert type(check(**given)[name]) is type(taken)


@pytest.mark.parametrize(
    "given",
    [
        {"steps": 7.5},
        {"steps": "7.0"},
        {"steps": "many"},
        {"steps": True},
        {"steps": math.nan},
        {"steps": math.inf},
        {"size": "inf"},
        {"size": "nan"},
        {"size": ""},
        {"size": True},
        {"size": 10**400},
        {"steps": 10**400},
        {"steps": "9" * 5000},
        {"fast": 1},
        {"fast": "yes"},
        {"solver": "magic"},
        {"solver": 1},
        {"title": 5},
        {"title": ""},
        {"title": "a\0b"},
        {"mesh": 3},
        {"mesh": ""},
    ],
)
def test_values_of_the_wrong_kind_are_refused(given: dict[str, Value]):
    refusal(**given)


@pytest.mark.parametrize("given", [{"steps": 0}, {"steps": 101}, {"size": -0.1}])
def test_values_out_of_range_are_refused_with_the_range(given: dict[str, Value]):
    assert "from 1 to 100" in str(error := refusal(**given)) or "at least 0" in str(error)


def test_an_unknown_parameter_is_refused_with_the_nearest_names():
    error = refusal(stepz=3)
    assert "solver 1.0 has no parameter 'stepz'" in error.reason
    assert "Did you mean steps?" in str(error.fix)


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../mesh.inp", "deep/../../x", "./mesh.inp", "deep//mesh two.inp", "."]
)
def test_a_file_outside_the_inputs_folder_is_refused(path: str):
    refusal(mesh=path)


def test_a_file_that_is_not_among_the_inputs_is_refused_with_the_nearest_ones():
    assert "mesh.inp" in str(refusal(mesh="mehs.inp").fix)


def test_a_missing_file_among_very_many_is_refused_quickly_and_briefly():
    with pytest.raises(InvalidInput) as caught:
        check_parameters(DEFINITIONS, {"mesh": "x" * 200}, {f"{i:0200}" for i in range(100_000)}, "s")
    assert len(str(caught.value)) < 10_000


def test_a_missing_required_parameter_is_refused():
    with pytest.raises(InvalidInput) as caught:
        check_parameters(DEFINITIONS, {}, FILES, "solver 1.0")
    assert caught.value.field == "parameters.mesh"


def test_a_required_parameter_may_be_missing_when_the_user_wrote_the_commands():
    assert "mesh" not in check_parameters(DEFINITIONS, {}, FILES, "solver 1.0", complete=False)


def test_an_argument_vector_is_taken_as_it_is():
    check_commands([Command(argv=("tool", "a b", "$(id)", "\n"))], RuntimeName.NATIVE)


@pytest.mark.parametrize(
    ("command", "field"),
    [
        (Command(argv=(" ", "x")), "commands.0.argv"),
        (Command(argv=("tool", "a\0b")), "commands.0"),
        (Command(argv=("tool",), environment={"A=B": "c"}), "commands.0.environment"),
        (Command(argv=("tool",), environment={"": "c"}), "commands.0.environment"),
        (Command(argv=("echo a",), shell=True), "commands.0.shell"),
    ],
)
def test_a_command_that_cannot_run_is_refused(command: Command, field: str):
    with pytest.raises(InvalidInput) as caught:
        check_commands([command], RuntimeName.NATIVE)
    assert caught.value.field == field


def test_a_shell_is_for_containers_and_takes_one_text():
    check_commands([Command(argv=("echo a | wc",), shell=True)], RuntimeName.PODMAN)
    with pytest.raises(InvalidInput):
        check_commands([Command(argv=("echo a", "b"), shell=True)], RuntimeName.PODMAN)
