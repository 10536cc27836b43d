from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from simyard.files import InputFile
from simyard.simulator import Command, RuntimeName
from simyard.task import Case, TaskSpec
from simyard.words import new_sweep_id, new_task_id
from tasks import rows
from tasks.lifecycle import new_record
from tasks.newcomers import OWN_COLUMNS, Newcomers
from tasks.record import Draft
from tests.unit.tasks.samples import like

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
FIRST = Draft(
    id=new_task_id(),
    user="ada",
    digest="d0",
    spec=TaskSpec(
        simulator="swmm",
        version="5.2.4",
        runtime=RuntimeName.NATIVE,
        parameters={"title": '100 % of "it"\n%s'},
        commands=(Command(argv=("runswmm", "größe.inp")),),
        inputs=(InputFile(path="größe.inp", sha256="0" * 64, size=4),),
        retries=3,
    ),
)


def columns(newcomers: Newcomers, draft: Draft, seq: int, inputs: bytes) -> dict[str, Any]:
    pattern = newcomers.pattern(draft)
    return {**pattern.columns, **dict(zip(OWN_COLUMNS, pattern.own(draft, seq, inputs), strict=True))}


def test_tasks_that_are_alike_become_what_each_would_become_by_itself() -> None:
    case = Case(sweep=new_sweep_id(), number=7, values={"width": 1.5, "%d": "%"})
    drafts = [
        FIRST,
        like(FIRST, name='a "name"\\\n%', key="k", digest="d1", fingerprint="f"),
        like(FIRST, metadata={"a": 1, "b": True, "c": 1e-7, "%s": "größe\u2028"}),
        like(FIRST, case=case),
        like(FIRST, user="grace"),
        like(FIRST, parameters={"title": "another"}),
        FIRST,
    ]
    newcomers = Newcomers(NOW)
    for seq, draft in enumerate(drafts, 1):
        alone = new_record(draft, seq, NOW).record
        assert columns(newcomers, draft, seq, b"inputs") == rows.task_columns(alone, draft, b"inputs")


def test_what_only_equals_in_python_is_no_pattern() -> None:
    newcomers = Newcomers(NOW)
    for seq, value in enumerate((1, True, 1.0), 1):
        draft = like(FIRST, parameters={"n": value})
        made = columns(newcomers, draft, seq, b"")
        assert made["body"] == new_record(draft, seq, NOW).record.task.model_dump_json()
