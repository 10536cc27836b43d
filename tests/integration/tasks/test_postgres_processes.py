from __future__ import annotations

import random
import subprocess
import sys
from contextlib import closing

import pytest

from simyard.event import EventKind
from simyard.status import Status
from tasks.postgres.store import PostgresStore
from tasks.record import TaskQuery
from tests.services.postgres import PostgresServer
from tests.unit.tasks.samples import INPUTS, NOW, dispatch, draft

LONG = 60.0

# Submits batches for ever; prints the ids of a batch only after submit() has returned.
_SUBMIT = """
import sys
from tasks.postgres.store import PostgresStore
from tests.unit.tasks.samples import NOW, draft
store = PostgresStore(sys.stdin.readline().strip())
size = 1
while True:
    answers = store.submit([draft(key=None) for _ in range(size)], NOW)
    print(*[answer.record.id for answer in answers], flush=True)
    size = size % 7 + 1
"""

# Submits and dispatches as many tasks as it is told, and whatever else it finds queued.
_WORK = """
import sys
from tasks.errors import Refused
from tasks.postgres.store import PostgresStore
from tests.unit.tasks.samples import NOW, dispatch, draft
store, name = PostgresStore(sys.stdin.readline().strip(), busy_seconds=60), sys.argv[1]
print("ready", flush=True)
sys.stdin.readline()
for i in range(int(sys.argv[2])):
    store.submit([draft(user=name, key=f"own-{i}"), draft(user="both", key=f"shared-{i}")], NOW)
    for record in store.queue(NOW, 3):
        try:
            store.apply(record.id, dispatch(holder=name), NOW)
        except Refused:
            continue
        print(record.id, flush=True)
store.close()
"""

# Leads for ever and dispatches what is queued; prints each attempt that was taken.
_LEAD = """
import sys
from tasks.errors import Deposed, Refused
from tasks.postgres.store import PostgresStore
from tests.unit.tasks.samples import NOW, dispatch
store, name, seconds = PostgresStore(sys.stdin.readline().strip()), sys.argv[1], float(sys.argv[2])
print("ready", flush=True)
while True:
    if not store.lead(name, seconds):
        continue
    print("leads", flush=True)
    for record in store.queue(NOW, 3):
        try:
            store.apply(record.id, dispatch(holder=name), NOW)
        except (Deposed, Refused):
            continue
        print(record.id, flush=True)
"""


def start(code: str, url: str, *arguments: str) -> subprocess.Popen[str]:
    """Start a program that reads the URL from its standard input: it holds a password."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env={"PYTHONPATH": ":".join(sys.path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    say(process, url)
    return process


def say(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()


def hear(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.parametrize("round_", range(3))
def test_a_killed_process_loses_nothing_that_it_had_accepted(postgres_server: PostgresServer, round_: int) -> None:
    with postgres_server.database() as name:
        url = postgres_server.url(name)
        with start(_SUBMIT, url) as process:
            assert process.stdout is not None
            printed = [process.stdout.readline() for _ in range(20 + random.Random(round_).randrange(60))]
            process.kill()
            printed += process.stdout.readlines()
        # What the killed one had sent is decided once the server has seen that it is gone.
        postgres_server.kill_backends(name)
        accepted = [task for line in printed if line.endswith("\n") for task in line.split()]
        with closing(PostgresStore(url)) as store:
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


def test_two_processes_that_write_at_once_lose_nothing_and_double_nothing(postgres_server: PostgresServer) -> None:
    rounds = 40
    with postgres_server.database() as database:
        url = postgres_server.url(database)
        with start(_WORK, url, "one", str(rounds)) as one, start(_WORK, url, "two", str(rounds)) as two:
            for process in (one, two):
                assert hear(process) == "ready"
            for process in (one, two):
                say(process, "go")
            won = {name: process.communicate(timeout=120)[0].split() for name, process in (("one", one), ("two", two))}
        assert (one.returncode, two.returncode) == (0, 0)
        assert not set(won["one"]) & set(won["two"]), "one attempt has one holder"
        with closing(PostgresStore(url)) as store:
            assert sum(store.counts().values()) == 3 * rounds
            for name in ("one", "two"):
                assert len(store.list(TaskQuery(user=name, limit=1000))) == rounds
                assert sorted(r.id for r in store.active() if r.holder == name) == sorted(won[name])
            assert all(record.attempt <= 1 for record in store.list(TaskQuery(limit=1000)))
            seqs = [event.seq for event in store.events(limit=10**6)]
            assert seqs == sorted(set(seqs))


def test_the_standby_takes_over_when_the_leader_is_killed(postgres_server: PostgresServer) -> None:
    with postgres_server.database() as database, closing(PostgresStore(postgres_server.url(database))) as store:
        url = postgres_server.url(database)
        with start(_LEAD, url, "one", "3") as one:
            assert (hear(one), hear(one)) == ("ready", "leads")
            with start(_LEAD, url, "two", "3") as two:
                assert hear(two) == "ready"
                [first] = [answer.record for answer in store.submit([draft()], NOW)]
                assert first is not None
                while hear(one) != first.id:
                    pass
                one.kill()
                one.wait(LONG)
                [second] = [answer.record for answer in store.submit([draft()], NOW)]
                assert second is not None
                assert hear(two) == "leads"
                while hear(two) != second.id:
                    pass
                two.kill()
        assert [store.get(record.id).holder for record in (first, second)] == ["one", "two"]


def test_a_leader_that_was_frozen_is_refused_when_it_wakes_up(postgres_server: PostgresServer) -> None:
    with postgres_server.database() as database:
        url = postgres_server.url(database)
        with closing(PostgresStore(url)) as frozen, closing(PostgresStore(url)) as other:
            [task] = [answer.record for answer in frozen.submit([draft()], NOW)]
            assert task is not None
            assert frozen.lead("one", 0.05)
            while not other.lead("two", LONG):
                pass
            with pytest.raises(Exception, match="leads now"):
                frozen.apply(task.id, dispatch(), NOW)
            assert store_is_untouched(other, task.id)


def store_is_untouched(store: PostgresStore, task: str) -> bool:
    return store.get(task).status is Status.QUEUED and len(store.events(task=task)) == 1
