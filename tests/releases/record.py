"""Records what a release leaves behind and sends, for the tests of the next one; run in a checkout of that release.

    git archive RELEASE | tar -x -C /some/folder
    cd /some/folder && PYTHONPATH=.:client python -m tests.releases.record FOLDER

where `tests/releases/record.py` is this file. Written are `store.sql` (a SQLite store with a task in each status that
there is), `tasks.json` (what the release said of these tasks), and `reports.json` (what its actors and its dispatcher
say to each other, pickled as Ray does it). The release's client is a wheel: `uv build --wheel client`.
"""

from __future__ import annotations

import base64
import dataclasses
import inspect
import json
import pickle
import sqlite3
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

from simulators import actor
from simulators.actor import ActorState, SimulatorActor
from simulators.work import Report, Stall, Work
from simyard.event import LogStream, Sample
from simyard.reason import ReasonCode
from simyard.simulator import RuntimeName
from simyard.status import Status
from tasks.dispatcher import DispatcherActor
from tasks.keys import new_key
from tasks.lifecycle import Cancel, End, Lost, Progress
from tasks.record import TaskQuery
from tasks.reporting import DispatcherReporter
from tasks.sqlite.store import SqliteStore
from tests.unit.tasks.samples import NOW, case, dispatch, draft, failed, later, reason, succeeded, sweep

WORDS = (Status.QUEUED, Status.PREPARING, Status.RUNNING, Status.FINALIZING)


def _fill(store: SqliteStore) -> None:
    def make(**fields: Any) -> str:
        [answer] = store.submit([draft(**fields)], NOW)
        assert answer.record is not None
        return str(answer.record.id)

    def bring(task: str, status: Status) -> str:
        steps = WORDS[1 : WORDS.index(status) + 1]
        for step in steps:
            attempt = store.get(task).attempt
            store.apply(
                task, dispatch(holder=f"sim-{task}") if step is Status.PREPARING else Progress(attempt, step), NOW
            )
        return task

    for status in WORDS:
        bring(make(name=status.value, key=status.value), status)
    store.apply(bring(make(name="succeeded"), Status.FINALIZING), End(1, succeeded()), later(5))
    store.apply(bring(make(name="failed"), Status.RUNNING), End(1, failed()), later(5))
    store.apply(make(name="cancelled"), Cancel(), later(5))
    lost = bring(make(name="lost"), Status.RUNNING)
    store.apply(lost, Lost(1, reason(ReasonCode.MACHINE_LOST)), later(5))
    sent = sweep(key="sweep")
    store.submit_sweep(sent, [draft(case=case(sent, n), name=f"case-{n}") for n in (1, 2)], NOW)
    store.add_key(new_key("ada", NOW)[1])


def _pickled(value: object) -> str:
    return base64.b64encode(pickle.dumps(value, protocol=4)).decode()


def _methods(of: type) -> dict[str, list[str]]:
    found = inspect.getmembers(of, inspect.isfunction)
    return {name: list(inspect.signature(method).parameters)[1:] for name, method in found if name[0] != "_"}


def main(folder: Path) -> None:
    """Write the records into a folder."""
    with tempfile.TemporaryDirectory() as place:
        database = Path(place) / "tasks.db"
        with closing(SqliteStore(database)) as store:
            _fill(store)
            tasks = store.list(TaskQuery(limit=1000))
            said = {record.id: json.loads(record.task.model_dump_json()) for record in tasks}
        with closing(sqlite3.connect(database)) as connection:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            application = connection.execute("PRAGMA application_id").fetchone()[0]
            # `sqlite_sequence` makes itself.
            lines = [line for line in connection.iterdump() if "CREATE TABLE sqlite_sequence" not in line]
        pragmas = [f"PRAGMA user_version = {version};", f"PRAGMA application_id = {application};"]
        (folder / "store.sql").write_text("\n".join([*lines, *pragmas]) + "\n")
    (folder / "tasks.json").write_text(json.dumps(said, indent=1) + "\n")
    record = next(r for r in tasks if r.task.name == "running")
    spec = draft().spec
    work = Work(
        task=record.id,
        attempt=1,
        simulator=spec.simulator,
        version=spec.version or "",
        runtime=RuntimeName.NATIVE,
        parameters=dict(spec.parameters),
        commands=spec.commands,
        inputs=spec.inputs,
        resources=spec.resources,
        limits=spec.limits,
        project=spec.project,
        storage="memory://x",
    )
    state = ActorState(
        simulator="swmm",
        version="5.2.4",
        runtime=RuntimeName.NATIVE,
        resources=spec.resources,
        node="n",
        current=(record.id, 1),
    )
    reports: list[tuple[str, list[object]]] = [
        ("report", [record.id, 1, (Report(Stall(1), 0.01), Report(Status.FINALIZING))]),
        ("renew", [record.id, 1]),
        ("report", [record.id, 1, (Report(succeeded()),)]),
    ]
    document = {
        "task": record.id,
        "to_dispatcher": [{"method": name, "arguments": _pickled(arguments)} for name, arguments in reports],
        "failed": _pickled(failed()),
        "state": _pickled(state),
        "sample": _pickled(Sample(at=1.0, cpu_seconds=2.0, memory=3, disk=4)),
        "work_fields": [field.name for field in dataclasses.fields(Work)],
        "work": _pickled(work),
        "reporter": _pickled(DispatcherReporter()),
        "dispatcher": _methods(DispatcherActor),
        "actor": _methods(SimulatorActor),
        "groups": actor.Simulator._default_options.get("concurrency_groups", {}),
        "streams": [stream.value for stream in LogStream],
    }
    (folder / "reports.json").write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
