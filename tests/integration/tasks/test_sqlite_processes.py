from __future__ import annotations

import random
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from simyard.event import EventKind
from simyard.status import Status
from tasks.record import TaskQuery
from tasks.sqlite.store import SqliteStore
from tests.unit.tasks.samples import INPUTS

# Submits batches for ever; prints the ids of a batch only after submit() has returned.
_SUBMIT = """
import sys
from pathlib import Path
from tasks.sqlite.store import SqliteStore
from tests.unit.tasks.samples import NOW, draft
store = SqliteStore(Path(sys.argv[1]))
size = 1
while True:
    answers = store.submit([draft(key=None) for _ in range(size)], NOW)
    print(*[answer.record.id for answer in answers], flush=True)
    size = size % 7 + 1
"""

# Submits and dispatches as many tasks as it is told, and whatever else it finds queued.
_WORK = """
import sys
from pathlib import Path
from tasks.errors import Refused
from tasks.sqlite.store import SqliteStore
from tests.unit.tasks.samples import NOW, dispatch, draft
store, name = SqliteStore(Path(sys.argv[1]), busy_seconds=60), sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
for i in range(int(sys.argv[3])):
    store.submit([draft(user=name, key=f"own-{i}"), draft(user="both", key=f"shared-{i}")], NOW)
    for record in store.queue(NOW, 3):
        try:
            store.apply(record.id, dispatch(holder=name), NOW)
        except Refused:
            continue
        print(record.id, flush=True)
store.close()
"""


def start(code: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env={"PYTHONPATH": ":".join(sys.path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("round_", range(3))
def test_a_killed_process_loses_nothing_that_it_had_accepted(tmp_path: Path, round_: int) -> None:
    file = tmp_path / "simyard.db"
    with start(_SUBMIT, str(file)) as process:
        assert process.stdout is not None
        printed = [process.stdout.readline() for _ in range(20 + random.Random(round_).randrange(60))]
        process.kill()
        printed += process.stdout.readlines()
    accepted = [task for line in printed if line.endswith("\n") for task in line.split()]
    with closing(SqliteStore(file)) as store:
        found = store.list(TaskQuery(limit=10**6))
        assert {record.id for record in found} >= set(accepted)
        assert len(found) - len(accepted) <= 7, "at most the batch that was under way may be there unannounced"
        for record in found:
            assert record.status is Status.QUEUED
            assert store.inputs(record.id) == INPUTS
            assert [event.kind for event in store.events(task=record.id)] == [EventKind.SUBMITTED]
        assert len(found) in _ends_of_batches(), "no batch is there in part"


def _ends_of_batches() -> set[int]:
    ends, total = set(), 0
    for i in range(2000):
        total += i % 7 + 1
        ends.add(total)
    return ends


def test_two_processes_that_write_at_once_lose_nothing_and_double_nothing(tmp_path: Path) -> None:
    file, rounds = tmp_path / "simyard.db", 60
    SqliteStore(file).close()
    with start(_WORK, str(file), "one", str(rounds)) as one, start(_WORK, str(file), "two", str(rounds)) as two:
        for process in (one, two):
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in (one, two):
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        won = {name: process.communicate(timeout=120)[0].split() for name, process in (("one", one), ("two", two))}
    assert (one.returncode, two.returncode) == (0, 0)
    assert not set(won["one"]) & set(won["two"]), "one attempt has one holder"
    with closing(SqliteStore(file)) as store:
        assert sum(store.counts().values()) == 3 * rounds
        for name in ("one", "two"):
            assert len(store.list(TaskQuery(user=name, limit=1000))) == rounds
            assert sorted(r.id for r in store.active() if r.holder == name) == sorted(won[name])
        assert all(record.attempt <= 1 for record in store.list(TaskQuery(limit=1000)))
        seqs = [event.seq for event in store.events(limit=10**6)]
        assert seqs == sorted(set(seqs))
