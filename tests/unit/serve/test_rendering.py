"""These start the program that renders; they need no other part of the server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psutil
import pytest

from serve import rendering
from serve.rendering import Renderer, Template
from simyard.errors import InvalidInput


def file(source: str | bytes, name: str = "model.inp.jinja", *, part: bool = False) -> Template:
    data = source.encode() if isinstance(source, str) else source
    return Template(name=name, field=f"task.inputs.{name}", source=data, is_part=part)


def render(*templates: Template, **values: Any) -> list[bytes]:
    with Renderer(templates, tuple(values), seconds=2) as renderer:
        return renderer.render(1, values)


def refused(*templates: Template, **values: Any) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        render(*templates, **values)
    return caught.value


def test_files_are_rendered_with_the_values_and_the_number_of_the_case() -> None:
    source = "v {{ v }} {{ '%.3f' | format(v) }}\n{% if on %}on{% endif %} {{ name | upper }} {{ case }}\n"
    assert render(file(source), v=2.5, on=True, name="ä") == ["v 2.5 2.500\non Ä 1\n".encode()]


def test_what_is_not_of_a_template_stays_byte_for_byte() -> None:
    assert render(file(b"\xff\xfe {{ n }}\r\n\tend\r\n"), n=3) == [b"\xff\xfe 3\r\n\tend\r\n"]
    assert render(file(b"no newline at the end {{ n }}"), n=3) == [b"no newline at the end 3"]


def test_cases_follow_each_other() -> None:
    with Renderer([file("{{ n }} {{ case }}")], ["n"]) as renderer:
        found = [renderer.render(i, {"n": i * i}) for i in range(1, 50)]
    assert found == [[f"{i * i} {i}".encode()] for i in range(1, 50)]


def test_parts_are_taken_in_and_give_no_file_of_their_own() -> None:
    part = file("{{ p }};", "parts/_pipe.jinja", part=True)
    macros = file("{% macro twice(x) %}{{ x * 2 }}{% endmacro %}", "_m.jinja", part=True)
    source = "{% import '_m.jinja' as m %}{% for p in range(n) %}{% include 'parts/_pipe.jinja' %}{% endfor %}"
    source += "{{ m.twice(n) }}"
    assert render(part, macros, file(source), n=3) == [b"0;1;2;6"]


def test_a_text_that_is_only_a_name_gives_the_value_itself() -> None:
    def text(source: str) -> Template:
        return Template(name=f"task.parameters.{source}", field="task.parameters.x", source=source.encode())

    assert render(text("{{ n }}"), text("{{n}}"), text("n {{ n }}"), text("{{ n + 1 }}"), n=3) == [
        b"3",
        b"3",
        b'"n 3"',
        b'"4"',
    ]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("a\n\n{{ velo }}", "line 3: it uses 'velo', which no parameter gives"),
        ("{% if false %}\n{{ other }}{% endif %}", "line 2: it uses 'other'"),
        ("a\n{% if %}", "line 2"),
        ("a\n{% for x in [1] %}\n", "Unexpected end of template"),
        ("{{ velocity | nofilter }}", "No filter named"),
        ("a\n{{ velocity.x.y }}", "line 2, case 1: 'int object' has no attribute 'x'"),
        ("a\n{{ 1 / 0 }}", "line 2, case 1: ZeroDivisionError"),
        ("\n\n{% include '/etc/passwd' %}", "line 3, case 1: it reads '/etc/passwd'"),
        ("{% include '../secret.jinja' %}", "it reads '../secret.jinja'"),
        ("{% extends 'base.html' %}", "it reads 'base.html'"),
        ("\n{% import 'os' as x %}", "line 2, case 1: it reads 'os'"),
        ("{% include 'model.inp.jinja' %}", "takes itself in without end"),
        ("{{ velocity.__class__.__mro__ }}", "it is not allowed"),
        ("{{ ''.__class__ }}", "it is not allowed"),
        ("{{ range.__globals__ }}", "it is not allowed"),
        ("{{ range(10 ** 9) }}", "Range too big"),
        ("{{ lipsum() }}", "'lipsum', which no parameter gives"),
        ("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", "takes more than 2 s"),
        ("{{ 9 ** (9 ** 9) }}", "takes more than 2 s"),
        ("{% for i in range(99999) %}{{ 'x' * 1000 }}{% endfor %}", "larger than 16 MiB"),
        ("{{ ('x' * 10 ** 10) | length }}", "too much memory"),
        ("{{" + "(" * 100_000, "model.inp.jinja"),
    ],
)
def test_what_cannot_be_rendered_is_refused_with_file_line_and_case(source: str, said: str) -> None:
    error = refused(file(source), velocity=3)
    assert said in error.reason, error
    assert error.reason.startswith("model.inp.jinja")
    assert error.field == "task.inputs.model.inp.jinja"


def test_the_nearest_parameters_are_named() -> None:
    error = refused(file("{{ velocty }}"), velocity=3, angle=1)
    assert error.fix == "Did you mean velocity? It can use: velocity, angle, case."


def test_an_error_in_a_part_names_the_part() -> None:
    error = refused(file("\n\n{{ q }}", "_p.jinja", part=True), file("{% include '_p.jinja' %}"), n=1)
    assert error.reason == "_p.jinja, line 3, case 1: 'q' is undefined."


def test_nothing_is_left_of_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    with Renderer([file("{{ n }}")], ["n"]) as renderer:
        [child] = [p for p in psutil.Process().children() if "renderer.py" in " ".join(p.cmdline())]
        assert renderer.render(1, {"n": 1}) == [b"1"]
        assert set(child.environ()) <= {"LC_CTYPE"}
    assert not child.is_running()


def test_a_program_that_was_killed_is_a_refusal_and_no_hang() -> None:
    with Renderer([file("{{ n }}")], ["n"]) as renderer:
        [child] = [p for p in psutil.Process().children() if "renderer.py" in " ".join(p.cmdline())]
        child.kill()
        child.wait(10)
        with pytest.raises(InvalidInput, match="cannot be rendered"):
            renderer.render(1, {"n": 1})


def test_the_program_imports_nothing_of_ours() -> None:
    text = Path(rendering.__file__).with_name("renderer.py").read_text()
    imported = [line.split()[1].split(".")[0] for line in text.splitlines() if line.startswith(("import ", "from "))]
    assert set(imported) <= {"__future__", "json", "re", "resource", "signal", "sys", "traceback", "collections"} | {
        "typing",
        "jinja2",
    }
