from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from simyard.checkpoint import Checkpoint
from simyard.errors import InvalidInput
from simyard.files import InputFile
from simyard.resources import GIB, Limits, Resources
from simyard.simulator import Command
from simyard.submission import describe
from simyard.task import TaskSpec

FILE = InputFile(path="a", sha256="0" * 64, size=1)


def _spec(**changes: Any) -> TaskSpec:
    return describe("swmm", [FILE], **changes)


def test_texts_and_single_values_become_resources_and_limits() -> None:
    spec = _spec(cpus=2, memory="2GiB", time_limit="2h", parameters={"input_file": Path("a")})
    assert (spec.resources.cpus, spec.resources.memory, spec.limits.run) == (2, 2 * GIB, 7200)
    assert spec.parameters == {"input_file": "a"}


def test_single_values_go_before_a_whole_set() -> None:
    spec = _spec(resources=Resources(cpus=4, gpus=1), cpus=2, limits=Limits(run=5))
    assert spec.resources == Resources(cpus=2, gpus=1)
    assert spec.limits == Limits(run=5)


def test_limits_may_be_a_mapping_of_texts() -> None:
    spec = _spec(limits={"queue": "1h", "run": "2h", "stall": "10m", "end_stalled": True}, time_limit="3h")
    assert spec.limits == Limits(queue=3600, run=3 * 3600, stall=600, end_stalled=True)


def test_what_is_kept_for_a_next_attempt_may_be_a_mapping_of_texts() -> None:
    kept = _spec(checkpoint={"files": "restart/**", "every": "10m", "resume": "go --on"}).checkpoint
    resume = (Command(argv=("go", "--on")),)
    assert kept == Checkpoint(files=("restart/**",), every=600, resume=resume)
    assert _spec().checkpoint is None
    assert _spec(checkpoint=kept).checkpoint == kept


def test_one_line_is_one_command() -> None:
    assert [command.argv for command in _spec(commands="a b").commands] == [("a", "b")]
    assert [command.argv for command in _spec(commands=["a b", ["c", "d e"]]).commands] == [("a", "b"), ("c", "d e")]


@pytest.mark.parametrize(
    ("changes", "field", "says"),
    [
        ({"memory": "2 apples"}, "resources.memory", "2GiB"),
        ({"memory": "1"}, "resources.memory", "16777216"),
        ({"cpus": 0}, "resources.cpus", "0.01"),
        ({"gpus": -1}, "resources.gpus", "Given: -1"),
        ({"time_limit": "soon"}, "limits.run", "30s"),
        ({"runtime": "vmware"}, "runtime", "podman"),
        ({"group": "no such/group"}, "group", "pattern"),
        ({"priority": 1000}, "priority", "100"),
        ({"commands": ["ok", "a | b"]}, "commands.1", "shell"),
        ({"metadata": {"a b": 1}}, "metadata.a b", ""),
        ({"name": ""}, "name", "at least 1"),
        ({"limits": {"queue": "-1"}}, "limits.queue", "30s"),
        ({"limits": {"staging": 0}}, "limits.staging", "greater than 0"),
        ({"checkpoint": {"files": ["../up"]}}, "checkpoint.files.0", "plain relative"),
        ({"checkpoint": {"files": ["/etc/*"]}}, "checkpoint.files.0", "plain relative"),
        ({"checkpoint": {"files": [".simyard/*"]}}, "checkpoint.files.0", "Simyard's own"),
        ({"checkpoint": {"files": [""]}}, "checkpoint.files.0", "1 to 4096 bytes"),
        ({"checkpoint": {"files": ["a"], "every": "1s"}}, "checkpoint.every", "10"),
        ({"checkpoint": {"files": ["a"], "every": "often"}}, "checkpoint.every", "30s"),
        ({"checkpoint": {"files": ["a"], "resume": ["a | b"]}}, "checkpoint.resume.0", "shell"),
        ({"checkpoint": {"globs": ["a"]}}, "checkpoint.globs", ""),
        ({"limits": {"upload": -3}}, "limits.upload", "Given: -3"),
        ({"limits": {"stall": "1e400"}}, "limits.stall", "30s"),
        ({"limits": {"run": 10**12}}, "limits.run", "less than"),
        ({"limits": {"end_stalled": True}}, "limits", "give `stall`"),
        ({"limits": {"stahl": 1}}, "limits.stahl", "not permitted"),
        ({"retries": 1, "retry": {"on": ["signl"]}}, "retry.on.0", "signal"),
    ],
)
def test_bad_values_are_refused_by_field(changes: dict[str, Any], field: str, says: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        _spec(**changes)
    assert (caught.value.field or "").startswith(field)
    assert says in str(caught.value)
    assert "pydantic" not in str(caught.value)
