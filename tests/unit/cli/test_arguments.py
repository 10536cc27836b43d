from __future__ import annotations

import pytest

from simyard.cli.arguments import parse_pairs, parse_parameters
from simyard.errors import InvalidInput
from simyard.simulator import Parameter, ParameterType, SimulatorInfo

INFO = SimulatorInfo(
    name="toy",
    title="Toy",
    description="A toy.",
    homepage="https://toy.test",
    versions=(),
    parameters=tuple(
        Parameter(name=name, type=kind, description="")
        for name, kind in {
            "job": ParameterType.TEXT,
            "steps": ParameterType.INTEGER,
            "dt": ParameterType.NUMBER,
            "verbose": ParameterType.BOOLEAN,
            "input_file": ParameterType.FILE,
            "scheme": ParameterType.CHOICE,
        }.items()
    ),
    tables={},
)


def test_values_get_the_types_of_their_parameters() -> None:
    texts = ["job=1", "steps=-3", "dt=1e-6", "verbose=Yes", "input_file=a=b c.inp", "scheme="]
    values = parse_parameters(texts, INFO)
    assert values == {"job": "1", "steps": -3, "dt": 1e-6, "verbose": True, "input_file": "a=b c.inp", "scheme": ""}
    assert [type(value) for value in values.values()] == [str, int, float, bool, str, str]


@pytest.mark.parametrize(
    ("text", "field", "says"),
    [
        ("steps=3.5", "parameters.steps", "whole number"),
        ("steps=1_000", "parameters.steps", "whole number"),
        ("dt=nan", "parameters.dt", "not a number"),
        ("dt=fast", "parameters.dt", "not a number"),
        ("verbose=maybe", "parameters.verbose", "true or false"),
        ("jab=1", "parameters.jab", "Did you mean job?"),
        ("xyzzy=1", "parameters.xyzzy", "It has job, steps"),
        ("job", "parameters", "-p name=value"),
        ("=1", "parameters", "-p name=value"),
    ],
)
def test_what_does_not_fit_is_refused(text: str, field: str, says: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_parameters([text], INFO)
    assert caught.value.field == field
    assert says in str(caught.value)


def test_a_name_comes_once() -> None:
    with pytest.raises(InvalidInput, match="twice"):
        parse_pairs(["a=1", "a=2"], "metadata", "--meta")
