"""Options that name other tasks."""

from __future__ import annotations

import pytest

from simyard.cli.chaining import dependencies, taken
from simyard.dependency import Dependency, DependencyEnd, InputFrom
from simyard.errors import InvalidInput

TASK = "t3k9x0m2v7q4a"


def test_ids_become_dependencies() -> None:
    found = dependencies([TASK], ["t00000000000a"])
    assert found == [Dependency(task=TASK), Dependency(task="t00000000000a", end=DependencyEnd.ANY)]


def test_globs_become_inputs() -> None:
    assert taken([f"{TASK}:mesh/**", f"{TASK}:a.rpt:in"]) == [
        InputFrom(task=TASK, path="mesh/**"),
        InputFrom(task=TASK, path="a.rpt", into="in"),
    ]


@pytest.mark.parametrize("text", ["", TASK, f"{TASK}:", "mesh:*", f"{TASK}:*:../up"])
def test_other_forms_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        taken([text])
    assert caught.value.field == "--input-from"


def test_what_is_no_id_is_refused_with_its_option() -> None:
    with pytest.raises(InvalidInput) as caught:
        dependencies([], ["mesh"])
    assert caught.value.field == "--after-any"
