from __future__ import annotations

from simyard.resources import Resources
from simyard.task import TaskSpec
from simyard.words import Word


class Local(Word):
    size: int = 1
    """How large it is;
    in a text of two lines."""
    plain: int = 2
    other: Resources = Resources()
    """A field of another type."""


class Below(Local):
    more: int = 3
    """What it has more."""


def test_a_schema_describes_fields_by_the_texts_below_them() -> None:
    properties = Below.model_json_schema()["properties"]
    assert properties["size"]["description"] == "How large it is;\nin a text of two lines."
    assert properties["other"]["description"] == "A field of another type."
    assert properties["more"]["description"] == "What it has more."
    assert "description" not in properties["plain"]


def test_fields_of_types_inside_are_described_too() -> None:
    defs = TaskSpec.model_json_schema()["$defs"]
    assert defs["Resources"]["properties"]["gpus"]["description"] == "GPUs, whole ones."


def test_a_class_without_a_source_has_a_schema_all_the_same() -> None:
    scope: dict[str, object] = {"Word": Word, "__name__": "nowhere"}
    exec("class Made(Word):\n    size: int = 1\n    '''Not to be found.'''\n", scope)
    made = scope["Made"]
    assert isinstance(made, type)
    assert issubclass(made, Word)
    assert made.model_json_schema()["properties"]["size"]["default"] == 1
