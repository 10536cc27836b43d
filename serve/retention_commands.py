"""`simyard admin retention`: how long what has ended is kept."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from serve.administration import answer, bar, task_store
from serve.retention import apply_rules
from simyard.cli.options import Json
from simyard.cli.show import say_table
from simyard.cli.text import size
from simyard.errors import InvalidInput, NotFound
from storage.objects import open_store as open_storage
from storage.settings import load_settings
from tasks.retention import Retention, check_retention

commands = typer.Typer(help="How long what has ended is kept.", no_args_is_help=True)
_AGE = re.compile(r"(\d{1,6})([dhw])")
_HOURS = {"h": 1, "d": 24, "w": 168}
ProjectOption = Annotated[
    str | None, typer.Option("--project", metavar="P", help="This project; by default all that have no own rule.")
]


@commands.command("set")
def set_rule(
    project: ProjectOption = None,
    outputs: Annotated[
        str | None, typer.Option(metavar="AGE", help="Outputs and logs go so long after a task's end: 30d, 12w or 36h.")
    ] = None,
    tasks: Annotated[str | None, typer.Option(metavar="AGE", help="The task goes as a whole.")] = None,
    json_: Json = False,
) -> None:
    """Say how long what has ended is kept; it takes the place of the rule before. The server applies it each hour."""
    rule = Retention(project=project, outputs=_age("--outputs", outputs), tasks=_age("--tasks", tasks))
    check_retention(rule)
    with task_store() as store:
        store.set_retention(rule)
    answer(json_, _document(rule), f"{_whose(rule)}: {_kept(rule)}.")


@commands.command("remove")
def remove_rule(project: ProjectOption = None, json_: Json = False) -> None:
    """Forget a rule: what it let go is then kept for ever, or as long as the rule for all projects says."""
    with task_store() as store:
        if all(rule.project != project for rule in store.retention()):
            raise NotFound("There is no such rule.", field="--project", fix="`simyard admin retention list` shows all.")
        store.set_retention(Retention(project=project))
    answer(json_, _document(Retention(project=project)), "The rule is gone.")


@commands.command("list")
def list_rules(json_: Json = False) -> None:
    """List the rules."""
    with task_store() as store:
        rules = store.retention()
    if json_:
        typer.echo(json.dumps({"rules": [_document(rule) for rule in rules]}))
        return
    rows = [(rule.project or "(all others)", _shown(rule.outputs), _shown(rule.tasks)) for rule in rules]
    say_table(("PROJECT", "OUTPUTS", "TASKS"), rows, fixed=(0, 1, 2), right=(1, 2))


@commands.command("run")
def run_rules(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would go.")] = False, json_: Json = False
) -> None:
    """Apply the rules now; the server may run meanwhile.

    With a task go its outputs, its rows of tables and its events. Input files stay, since other tasks may share them,
    and so does a task whose result a later one has, until that one goes.
    """
    objects = open_storage(load_settings().storage_uri)
    with task_store() as store, bar("looking" if dry_run else "removing", shown=not json_) as step:
        removed = apply_rules(store, objects, datetime.now(UTC), dry_run=dry_run, step=step)
    verb = "would go" if dry_run else "are gone"
    told = f"{removed.tasks} tasks, and the outputs of {removed.outputs} others {verb}"
    document = asdict(removed) | ({"bytes": None} if dry_run else {}) | {"dry_run": dry_run}
    answer(json_, document, f"{told}." if dry_run else f"{told}: {size(removed.bytes)}.")


def _age(field: str, text: str | None) -> timedelta | None:
    if text is None:
        return None
    match = _AGE.fullmatch(text)
    if match is None:
        raise InvalidInput(f"{text!r} is no age.", field=field, fix="Write 90d, 12w or 36h.")
    return timedelta(hours=int(match[1]) * _HOURS[match[2]])


def _shown(age: timedelta | None) -> str:
    if age is None:
        return "for ever"
    hours = round(age.total_seconds() / 3600)
    return f"{hours // 24}d" if hours % 24 == 0 else f"{hours}h"


def _kept(rule: Retention) -> str:
    outputs = [] if rule.outputs is None else [f"outputs are kept for {_shown(rule.outputs)}"]
    return " and ".join(outputs + ([] if rule.tasks is None else [f"tasks are known for {_shown(rule.tasks)}"]))


def _whose(rule: Retention) -> str:
    return "All projects without a rule of their own" if rule.project is None else f"Project {rule.project}"


def _document(rule: Retention) -> dict[str, object]:
    """Return a rule as JSON has it: ages in seconds."""
    ages = {"outputs": rule.outputs, "tasks": rule.tasks}
    return {"project": rule.project} | {k: None if age is None else age.total_seconds() for k, age in ages.items()}
