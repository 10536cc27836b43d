"""The API's own description: OpenAPI with the bodies that are read away from the framework."""

from __future__ import annotations

import json
from typing import Any, Literal

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from serve.batches import Batch
from serve.inputs import Negotiation
from serve.membership import Joining
from serve.uploads import Completion
from simyard.group import GroupChange, GroupEnd, GroupSpec
from simyard.sweep import SweepSpec
from simyard.task import TaskSpec

BODIES: tuple[type[BaseModel], ...] = (
    TaskSpec,
    Batch,
    SweepSpec,
    Negotiation,
    Completion,
    GroupSpec,
    GroupChange,
    GroupEnd,
    Joining,
)
"""The types of the JSON bodies."""

TAGS = {
    "tasks": "Submit, list, look at, cancel and explain tasks.",
    "sweeps": "Many tasks of one template and a table of parameters.",
    "projects": "Named sets of tasks, and what keeps them from starting.",
    "events and logs": "What happens to a task, and what its commands print.",
    "outputs": "Files and tables that tasks make.",
    "inputs": "Files that tasks take, sent once each by the hash of their content.",
    "simulators": "What can be run.",
    "machines": "Where it can be run.",
    "health": "Whether the server works.",
}
_TEXT = """Simulations from a folder, over HTTP.

Send the input files, submit a task that names them by hash, follow its events and its log, and get its outputs.
Every refusal is `application/problem+json` and says which field, why, and what to do about it.
"""


def describe(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI document of the application."""
    document = get_openapi(
        title=app.title,
        version=app.version,
        description=_TEXT,
        routes=app.routes,
        tags=[{"name": name, "description": text} for name, text in TAGS.items()],
    )
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    modes: list[tuple[type[BaseModel], Literal["validation"]]] = [(model, "validation") for model in BODIES]
    _, found = models_json_schema(modes, ref_template="#/components/schemas/{model}")
    mine = found["$defs"]
    # An answer may have the same type in the form in which it is written: then the body's form gets a name of its own.
    differing = [name for name, schema in mine.items() if schemas.get(name, schema) != schema]
    text = json.dumps(mine)
    for name in differing:
        text = text.replace(f'"#/components/schemas/{name}"', f'"#/components/schemas/{name}-Input"')
    for name, schema in json.loads(text).items():
        schemas[f"{name}-Input" if name in differing else name] = schema
    return document
