"""Many tasks in few requests, each with an idempotency key of its own, so that a repeated request doubles nothing."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator

from pydantic import BaseModel, ValidationError

from simyard.connection import Connection
from simyard.errors import SimyardError
from simyard.handle import Task
from simyard.problem import Problem, error_of
from simyard.resources import MIB
from simyard.task import Task as TaskInfo
from simyard.task import TaskSpec

MOST = 10_000
"""Tasks of one request: the most that a server takes."""
_BYTES = 16 * MIB
"""Where a request is closed that is long in bytes; servers take some more."""
_LINES = "application/x-ndjson"


class _Result(BaseModel):
    task: TaskInfo | None = None
    problem: Problem | None = None


def submit_many(connection: Connection, specs: Iterable[TaskSpec], key: str) -> list[Task | SimyardError]:
    """Return, for each spec in its order, its task or why it was refused; task number i gets the key `key-i`.

    Raises:
        SimyardError: a request was refused as a whole, or the server cannot be reached; what was accepted stays, and
            the same call again gives the same tasks.
    """
    found: list[Task | SimyardError] = []
    for lines in _requests(specs, key):
        answer = connection.request(
            "POST",
            "/v1/tasks:batch",
            body=gzip.compress(b"\n".join(lines), 1),
            headers={"Content-Type": _LINES, "Content-Encoding": "gzip", "Accept": _LINES},
            repeatable=True,
            timeout=300,
        )
        results = [_result(connection, line) for line in answer.content.splitlines()]
        if len(results) != len(lines):
            raise _strange(connection)
        found += results
    return found


def _requests(specs: Iterable[TaskSpec], key: str) -> Iterator[list[bytes]]:
    lines: list[bytes] = []
    size = 0
    for i, spec in enumerate(specs):
        # Defaults are left out, so that an older server is not told of fields that it does not know.
        text = spec.model_dump_json(exclude_defaults=True)
        line = f'{{"spec":{text},"idempotency_key":{json.dumps(f"{key}-{i}")}}}'.encode()
        if lines and (len(lines) == MOST or size + len(line) > _BYTES):
            yield lines
            lines, size = [], 0
        lines.append(line)
        size += len(line) + 1
    if lines:
        yield lines


def _result(connection: Connection, line: bytes) -> Task | SimyardError:
    try:
        result = _Result.model_validate_json(line, extra="ignore")
    except ValidationError as error:
        raise _strange(connection) from error
    if result.problem is not None:
        return error_of(result.problem)
    if result.task is None:
        raise _strange(connection)
    return Task(connection, result.task)


def _strange(connection: Connection) -> SimyardError:
    return SimyardError(
        f"{connection.url} answered with something that this client does not understand.",
        fix="Check that it is the address of a Simyard server, and that its version fits this client's.",
    )
