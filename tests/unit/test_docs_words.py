"""The reference pages say of statuses, reasons, errors and settings just what the code says."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path

import pytest

import simyard
from simyard.event import EventKind
from simyard.reason import ReasonCode
from simyard.status import MOVES, Status
from storage.manifest import _schema
from storage.settings import PREFIX, Settings
from tests.unit.serve.face import Face

PAGES = Path(__file__).parents[2] / "docs" / "reference"


def rows(page: str) -> list[list[str]]:
    """Return the cells of all table rows of a page, without back-ticks."""
    lines = (PAGES / page).read_text().splitlines()
    return [
        [cell.strip().replace("`", "") for cell in line.strip("|").split(" | ")] for line in lines if line[:1] == "|"
    ]


def sentences(owner: type) -> dict[str, str]:
    """Return the text below each member of a class."""
    (body,) = ast.parse(inspect.getsource(owner)).body
    assert isinstance(body, ast.ClassDef)
    found: dict[str, str] = {}
    for before, after in zip(body.body, body.body[1:], strict=False):
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            target = before.targets[0] if isinstance(before, ast.Assign) else getattr(before, "target", None)
            if isinstance(target, ast.Name):
                found[target.id] = inspect.cleandoc(str(after.value.value)).replace("`", "")
    return found


def members(words: Iterable[StrEnum], owner: type) -> list[list[str]]:
    said = sentences(owner)
    return [[word.value, said.get(word.name, "")] for word in words]


@pytest.mark.parametrize("words", [Status, ReasonCode, EventKind])
def test_every_word_stands_on_the_page_as_the_code_explains_it(words: type[StrEnum]) -> None:
    page = [row[:2] for row in rows("statuses-and-reasons.md")]
    for value, sentence in members(words, words):
        assert [found[1] for found in page if found[0] == value and (not sentence or found[1] == sentence)], value


def test_the_moves_on_the_page_are_those_that_are_allowed() -> None:
    text = (PAGES / "statuses-and-reasons.md").read_text()
    drawn = {
        source: set(targets.replace("`", "").split(", ")) - {"none"}
        for source, targets in re.findall(r"^\| `([a-z-]+)` \| ((?:`[a-z-]+`(?:, )?)+|none) \|$", text, re.MULTILINE)
    }
    assert drawn == {status.value: {after.value for after in moves} for status, moves in MOVES.items()}


def test_every_setting_stands_on_the_page_with_its_default() -> None:
    page = {row[0]: row for row in rows("settings.md") if row[0].startswith(PREFIX)}
    said = sentences(Settings)
    for name, setting in Settings.model_fields.items():
        row = page[PREFIX + name.upper()]
        assert row[2] == said[name]
        if isinstance(setting.default, float):
            assert row[1] == f"{setting.default:g}"
    assert set(page) == {PREFIX + name.upper() for name in Settings.model_fields} | {
        "SIMYARD_URL",
        "SIMYARD_KEY",
        "SIMYARD_CONFIG",
    }


def test_every_endpoint_stands_on_the_page() -> None:
    page = {row[0] for row in rows("http-api.md")}
    face = Face()
    paths = face.get("/openapi.json").json()["paths"]
    face.close()
    described = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}
    assert {row for row in page if row.split(" ")[0] in {"GET", "POST", "PUT", "PATCH", "DELETE"}} == described


def test_the_columns_of_the_manifest_stand_on_the_page() -> None:
    page = [(row[0], row[1]) for row in rows("storage-layout.md") if len(row) == 3]
    columns = [(f.name, str(f.type) + (", null" if f.nullable else "")) for f in _schema()]
    assert [row for row in page if row[0] in {name for name, _ in columns}] == columns


def test_every_name_of_the_client_stands_on_the_page() -> None:
    text = (PAGES / "python.md").read_text()
    assert [name for name in simyard.__all__ if f"`{name}" not in text and f".{name}`" not in text] == []
