"""Does the store stay as fast with five million ended tasks as with a thousand?

    .venv/bin/python -m benchmarks.ended_tasks [--ended 5000000] [--rounds 20] [--only TEXT ...] [--folder DIR]

Two SQLite stores, and everything that users, the server and the dispatcher ask of them. In the small one 1,000 tasks
were carried to their ends by the store itself: ten users, five projects, four sweeps, dependencies, four or five events
each; twenty of them, the oldest, are the only ones of their project, name, simulator, group, status or user. In the
large one all but those twenty are copied inside of SQLite. In both a hundred tasks are queued and twenty active.

One JSON line a question: the medians of microseconds of CPU and wall time in both, in turns, and the ratio of the large
store to the small one. `--only` takes the questions whose names contain a text. Five million tasks need 15 GB in
the folder, by default that of temporary files, and minutes to make; the file is deleted at the end.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from simulators.outcome import Outcome
from simyard.dependency import Dependency, DependencyEnd
from simyard.files import InputFile
from simyard.reason import Reason, ReasonCode
from simyard.resources import Limits
from simyard.simulator import Command, RuntimeName
from simyard.status import Status
from simyard.task import Case, TaskSpec
from simyard.words import new_sweep_id, new_task_id
from tasks.keys import StoredKey
from tasks.record import Draft, SweepDraft, SweepQuery, TaskQuery, TaskRecord
from tasks.sqlite.store import SqliteStore
from tasks.sqlite.upkeep import check
from tasks.stimulus import Cancel, Dispatch, End, Hold, Progress, Release, Renew

SMALL = 1000
RARE = 20
"""The first tasks of the small store, which are not copied."""
SWEEPS, CASES = 4, 50
QUEUED, ACTIVE = 100, 20
BATCH = 1000
PAGE = 20
"""So short that both stores have a full one wherever the large one has."""
PATIENCE = 5.0
"""Seconds after which a slow question is not asked again."""
USERS = ("ada", "ada", "ada", "ada", "bob", "bob", "bob", "cem", "dora", "fay", "gus", "hal", "ida", "jon")
START = datetime(2026, 1, 1, tzinfo=UTC)
LONG_AFTER = datetime(2999, 1, 1, tzinfo=UTC)
Act = Callable[[], object]


@dataclass(frozen=True)
class Subject:
    """A store, and what of it is asked for."""

    path: Path
    store: SqliteStore
    old: str
    """The id of a task that has ended long ago."""
    sweep: str


Question = Callable[[Subject], Act]
"""Prepares, without being measured, what is to be measured."""


def draft(user: str = "ada", case: Case | None = None, **spec: Any) -> Draft:
    """Return a task to submit, with a key of its own."""
    known = {
        "simulator": "swmm",
        "version": "5.2.4",
        "runtime": RuntimeName.NATIVE,
        "inputs": (InputFile(path="town.inp", sha256="0" * 64, size=4),),
        "commands": (Command(argv=("runswmm", "town.inp", "town.rpt", "town.out")),),
        "metadata": {"case": 1, "site": "north"},
    }
    task = new_task_id()
    return Draft(
        id=task,
        spec=TaskSpec(**(known | spec)),
        user=user,
        key=f"key of {task}",
        digest="0" * 64,
        fingerprint=task,
        case=case,
    )


def carry(store: SqliteStore, task: str, end: Status, now: datetime) -> None:
    """Carry a queued task to its end."""
    if end is Status.CANCELLED:
        store.apply(task, Cancel(), now)
        return
    store.apply(task, Dispatch("machine-1", f"holder of {task}", RuntimeName.NATIVE, now), now)
    store.apply(task, Progress(1, Status.RUNNING), now)
    store.apply(task, Progress(1, Status.FINALIZING), now)
    reason = None if end is Status.SUCCEEDED else Reason(code=ReasonCode.EXIT_CODE, message="It ended with code 1.")
    store.apply(task, End(1, Outcome(status=end, exit_code=0, stored=True, reason=reason, cpu_seconds=1.5)), now)


def rare(number: int) -> Draft:
    """Return one of the oldest tasks: half are those of a user who has no others, half the first tries of another."""
    if number % 2:
        return draft("eve")
    return draft("ada", simulator="openfoam", project="pilot", name="first try", group="gpu")


def common(number: int, earlier: list[str]) -> Draft:
    """Return a task as they are submitted all day; every fiftieth waits for an earlier one."""
    return draft(
        USERS[number % len(USERS)],
        project=("roofs", "rivers", "nightly", "tests", "default")[number % 5],
        name=None if number % 10 else f"run of site {number % 7}",
        after=() if number % 50 else (Dependency(task=earlier[-len(USERS)], end=DependencyEnd.ANY),),
    )


def end_of(one: Draft, number: int) -> Status:
    """Return how a task ends: nine of ten succeed, all of project `nightly`, and only rare ones of ada time out."""
    if number < RARE or (one.user == "bob" and number % 40 == 9):
        return Status.TIMED_OUT
    if one.spec.project == "nightly":
        return Status.SUCCEEDED
    return Status.FAILED if number % 20 == 0 else Status.CANCELLED if number % 33 == 0 else Status.SUCCEEDED


def fill(path: Path) -> str:
    """Make the small store, and return one of its sweeps."""
    with closing(SqliteStore(path)) as store:
        ids: list[str] = []
        for number in range(SMALL - SWEEPS * CASES):
            now = START + timedelta(seconds=number)
            one = rare(number) if number < RARE else common(number, ids)
            store.submit([one], now)
            carry(store, one.id, end_of(one, number), now)
            ids.append(one.id)
        for number in range(SWEEPS):
            now = START + timedelta(seconds=len(ids) + number)
            sweep = SweepDraft(
                id=new_sweep_id(),
                user=("ada", "bob")[number % 2],
                key=f"sweep {number}",
                digest="0" * 64,
                name="storms",
                project="roofs",
                simulator="swmm",
                version="5.2.4",
                columns=("rain",),
            )
            cases = [
                draft(sweep.user, Case(sweep=sweep.id, number=i, values={"rain": i}), project="roofs", name="storms")
                for i in range(1, CASES + 1)
            ]
            store.submit_sweep(sweep, cases, now)
            for i, case in enumerate(cases):
                carry(store, case.id, Status.SUCCEEDED if i % 10 else Status.FAILED, now)
        return sweep.id


def grow(path: Path, count: int) -> None:
    """Copy the ended tasks until there are `count`; carrying millions to their ends would take days."""
    statements = Path(__file__).with_name("grow_ended.sql").read_text().split(";\n\n")
    blocks = -(-count // SMALL) - 1
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = OFF")
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA cache_size = -1000000")
        indexes = connection.execute(
            "SELECT name, sql FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL"
        ).fetchall()
        for name, _ in indexes:
            connection.execute(f"DROP INDEX {name}")
        [events] = connection.execute("SELECT max(seq) FROM events").fetchone()
        own = {"size": SMALL, "common": RARE + 1, "sweeps": SWEEPS, "events": events}
        for first in range(1, blocks + 1, 100):
            connection.execute("BEGIN IMMEDIATE")
            for statement in statements:
                connection.execute(statement, own | {"first": first, "last": min(first + 99, blocks)})
            connection.execute("COMMIT")
        for _, sql in indexes:
            connection.execute(sql)
        connection.execute("PRAGMA journal_mode = WAL")


def enliven(path: Path, sweep: str) -> Subject:
    """Open a store, queue tasks in it and start some."""
    store = SqliteStore(path)
    now = datetime.now(UTC)
    drafts = [draft(user, limits=Limits(queue=3600)) for user, _ in zip(itertools.cycle(USERS), range(QUEUED))]
    running = [draft(user) for user, _ in zip(itertools.cycle(USERS), range(ACTIVE))]
    store.submit(drafts + running, now)
    for one in running:
        store.apply(one.id, Dispatch("machine-1", f"holder of {one.id}", RuntimeName.NATIVE, LONG_AFTER), now)
    if not store.list_keys():
        store.add_key(StoredKey(id="k1", hash="0" * 64, user="ada", created_at=START))
    [old] = store.ended(LONG_AFTER, 1)
    return Subject(path, store, old.id, sweep)


def asks(act: Callable[[SqliteStore], object]) -> Question:
    """Return a question that needs no more than the store."""
    return lambda subject: lambda: act(subject.store)


def lists(**filters: Any) -> Question:
    """Return a question for the newest tasks that fit."""
    query = TaskQuery(limit=PAGE, **filters)
    return asks(lambda store: store.list(query))


def submits(count: int) -> Question:
    """Return a submission of so many tasks."""

    def prepare(subject: Subject) -> Act:
        drafts = [draft() for _ in range(count)]
        return lambda: subject.store.submit(drafts, datetime.now(UTC))

    return prepare


def applies(place: int) -> Question:
    """Return the stimulus at a place of a task's life."""
    now = datetime.now(UTC)
    life = (
        Dispatch("machine-1", "holder", RuntimeName.NATIVE, now),
        Renew(1, LONG_AFTER),
        Progress(1, Status.RUNNING),
        Progress(1, Status.FINALIZING),
        End(1, Outcome(status=Status.SUCCEEDED, exit_code=0, stored=True)),
    )

    def prepare(subject: Subject) -> Act:
        one = draft()
        subject.store.submit([one], now)
        for earlier in life[:place]:
            subject.store.apply(one.id, earlier, now)
        return lambda: subject.store.apply(one.id, life[place], now)

    return prepare


def holds(subject: Subject) -> Act:
    """Return the hold and the release of a queued task."""
    now = datetime.now(UTC)
    one = draft()
    subject.store.submit([one], now)
    return lambda: (subject.store.apply(one.id, Hold(), now), subject.store.apply(one.id, Release(), now))


def settles(subject: Subject) -> Act:
    """Return what follows from the end of a task for which another one waits."""
    now = datetime.now(UTC)
    parent = draft()
    subject.store.submit([parent, draft(after=(Dependency(task=parent.id),))], now)
    subject.store.apply(parent.id, Cancel(), now)
    return lambda: subject.store.settle(now, SMALL)


def oldest(store: SqliteStore) -> TaskRecord:
    """Return the task that retention removes next."""
    [record] = store.ended(LONG_AFTER, 1)
    return record


def withdraws(subject: Subject) -> Act:
    """Return the first of the two steps in which retention removes a task."""
    task = oldest(subject.store).id
    return lambda: subject.store.withdraw(task)


def forgets(subject: Subject) -> Act:
    """Return the second step."""
    task = oldest(subject.store).id
    return lambda: subject.store.forget(task)


def pages(subject: Subject) -> Act:
    """Return the second page of what retention may remove."""
    *_, last = subject.store.ended(LONG_AFTER, 100)
    return lambda: subject.store.ended(LONG_AFTER, 100, last)


def places(subject: Subject) -> Act:
    """Return the question how many tasks start before the last queued one."""
    last = subject.store.list(TaskQuery(status=Status.QUEUED, limit=1))[0].id
    return lambda: subject.store.position(last)


def news(subject: Subject) -> Act:
    """Return the question what the last thousand events were."""
    after = subject.store.latest() - 1000
    return lambda: subject.store.events(after=after)


def earlier(subject: Subject) -> Act:
    """Return the question which of a page of queued tasks have earlier results."""
    ids = [record.id for record in subject.store.queue(LONG_AFTER, QUEUED)]
    return lambda: subject.store.earlier_results(ids)


def opens(subject: Subject) -> Act:
    """Return the opening of the store by another process."""
    return lambda: SqliteStore(subject.path).close()


NOW = datetime.now(UTC)
QUESTIONS: dict[str, Question] = {
    "opening the store": opens,
    "submit one": submits(1),
    "apply Dispatch": applies(0),
    "apply Renew": applies(1),
    "apply Running": applies(2),
    "apply Finalizing": applies(3),
    "apply End": applies(4),
    "apply Hold and Release": holds,
    "settle nothing": asks(lambda store: store.settle(NOW, SMALL)),
    "settle one": settles,
    "queue": asks(lambda store: store.queue(LONG_AFTER, 50)),
    "active": asks(lambda store: store.active()),
    "overdue": asks(lambda store: store.overdue(NOW, SMALL)),
    "next_ready": asks(lambda store: store.next_ready(NOW)),
    "lanes": asks(lambda store: store.lanes()),
    "position": places,
    "rules": asks(lambda store: store.rules(NOW)),
    "runs": asks(lambda store: store.runs("swmm", 20)),
    "runs, of a rare simulator": asks(lambda store: store.runs("openfoam", 20)),
    "earlier_results": earlier,
    "get": lambda subject: lambda: subject.store.get(subject.old),
    "inputs": lambda subject: lambda: subject.store.inputs(subject.old),
    "named": lambda subject: lambda: subject.store.named("ada", [Dependency(task=subject.old)]),
    "events of a task": lambda subject: lambda: subject.store.events(task=subject.old),
    "events of a sweep": lambda subject: lambda: subject.store.events(sweep=subject.sweep),
    "events of all, the last 1,000": news,
    "latest": asks(lambda store: store.latest()),
    "counts": asks(lambda store: store.counts()),
    "counts of a sweep": lambda subject: lambda: subject.store.counts(sweep=subject.sweep),
    "find_key": asks(lambda store: store.find_key("0" * 64)),
    "list sweeps": asks(lambda store: store.list_sweeps(SweepQuery(user="ada", limit=SWEEPS // 2))),
    "list sweeps, none of the user": asks(lambda store: store.list_sweeps(SweepQuery(user="eve"))),
    "list": lists(user="ada"),
    "list, few tasks of the user": lists(user="eve"),
    "list, no task of the user": lists(user="nobody"),
    "list of a sweep": lambda subject: lists(user="bob", sweep=subject.sweep)(subject),
    "list of a sweep, by status": lambda subject: lists(user="bob", sweep=subject.sweep, status=Status.FAILED)(subject),
    "list by status": lists(user="ada", status=Status.SUCCEEDED),
    "list by status, queued": lists(user="ada", status=Status.QUEUED),
    "list by status, rare": lists(user="ada", status=Status.TIMED_OUT),
    "list by status, few tasks of the user": lists(user="eve", status=Status.SUCCEEDED),
    "list by project": lists(user="ada", project="nightly"),
    "list by project, rare": lists(user="ada", project="pilot"),
    "list by project, of others": lists(user="eve", project="nightly"),
    "list by project and status": lists(user="ada", project="nightly", status=Status.SUCCEEDED),
    "list by project and status, rare": lists(user="ada", project="pilot", status=Status.TIMED_OUT),
    "list by project and status, none": lists(user="ada", project="nightly", status=Status.FAILED),
    "list by name": lists(user="ada", name="storms"),
    "list by name, rare": lists(user="ada", name="first try"),
    "list by name and project": lists(user="ada", name="storms", project="roofs"),
    "list by name and project, none": lists(user="ada", name="storms", project="nightly"),
    "list by simulator": lists(user="ada", simulator="swmm"),
    "list by simulator, rare": lists(user="ada", simulator="openfoam"),
    "list by simulator and status": lists(user="ada", simulator="swmm", status=Status.FAILED),
    "list by simulator and status, rare": lists(user="ada", simulator="openfoam", status=Status.TIMED_OUT),
    "list by simulator and status, none": lists(user="ada", simulator="openfoam", status=Status.SUCCEEDED),
    "list by simulator and project, none": lists(user="ada", simulator="openfoam", project="nightly"),
    "list by group": lists(user="ada", group="local"),
    "list by group, rare": lists(user="ada", group="gpu"),
    "list by group and status, none": lists(user="ada", group="gpu", status=Status.SUCCEEDED),
    "list who took a result": lambda subject: lists(reused_from=subject.old)(subject),
    "ended": asks(lambda store: store.ended(LONG_AFTER, 100)),
    "ended, the next page": pages,
    "withdraw": withdraws,
    "forget": forgets,
    f"submit {BATCH:,}": submits(BATCH),
    "admin check": lambda subject: lambda: list(check(subject.path)),
}


def timed(act: Act) -> tuple[float, float]:
    """Return microseconds of CPU and wall time."""
    cpu, wall = time.process_time(), time.perf_counter()
    act()
    return (time.process_time() - cpu) * 1e6, (time.perf_counter() - wall) * 1e6


def ask(question: Question, subjects: dict[str, Subject], rounds: int) -> dict[str, Any]:
    """Return the medians of a question in both stores, in turns; the first answer warms up where there are more."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in subjects}
    start = time.monotonic()
    for _ in range(rounds + 1):
        for name, subject in subjects.items():
            found[name].append(timed(question(subject)))
        if time.monotonic() - start > PATIENCE:
            break
    medians = {
        name: {
            figure: round(statistics.median(one[place] for one in several[1:] or several), 1)
            for place, figure in enumerate(("cpu_us", "wall_us"))
        }
        for name, several in found.items()
    }
    small, large = medians.values()
    return medians | {"ratio": {name: round(large[name] / max(small[name], 0.1), 2) for name in small}}


def cells(folder: Path, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Give what making the stores took, and each question with its figures."""
    paths = {"small": folder / "small.db", "large": folder / "large.db"}
    start = time.monotonic()
    sweep = fill(paths["small"])
    shutil.copy(paths["small"], paths["large"])
    grow(paths["large"], options.ended)
    took = {"ended": options.ended, "seconds": round(time.monotonic() - start)}
    size = round(paths["large"].stat().st_size / 2**20)
    yield {"what": "made", **took, "database_mib": size, "cores": os.cpu_count(), "load": os.getloadavg()[0]}
    subjects = {name: enliven(path, sweep) for name, path in paths.items()}
    for name, question in QUESTIONS.items():
        if not options.only or any(text in name for text in options.only):
            yield {"what": name, **ask(question, subjects, options.rounds)}
    for subject in subjects.values():
        subject.store.close()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ended", type=int, default=5_000_000)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--only", nargs="*", help="texts of which a question's name has one")
    parser.add_argument("--folder", type=Path, help="where the stores are made")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for cell in cells(Path(folder), options):
            print(json.dumps(cell), flush=True)


if __name__ == "__main__":
    main()
