"""What only the store in PostgreSQL must do: schema, lost connections, servers that go away, and names kept secret."""

from __future__ import annotations

import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from urllib.parse import unquote

import psycopg
import pytest

from simyard.errors import Conflict, InvalidInput, NotFound
from simyard.event import Event
from simyard.reason import ReasonCode
from simyard.status import Status
from tasks.errors import Deposed, Refused, StoreTooNew, StoreUnavailable
from tasks.keys import new_key
from tasks.lifecycle import Cancel, Lost, Progress, Renew
from tasks.postgres.connecting import Connection
from tasks.postgres.statements import migrations, statements
from tasks.postgres.store import PostgresStore
from tasks.record import TaskQuery
from tests.integration.tasks.wiretap import Cut, Wiretap
from tests.services.postgres import PASSWORD, PostgresServer, postgres
from tests.unit.tasks.samples import NOW, dispatch, draft, later, reason

LONG = 60.0


@pytest.fixture
def database(postgres_server: PostgresServer) -> Iterator[str]:
    with postgres_server.database() as name:
        yield name


@pytest.fixture
def url(postgres_server: PostgresServer, database: str) -> str:
    return postgres_server.url(database)


@pytest.fixture
def store(url: str) -> Iterator[PostgresStore]:
    with closing(PostgresStore(url, busy_seconds=LONG)) as store:
        yield store


@pytest.fixture(scope="module")
def own_server() -> Iterator[PostgresServer]:
    """A server that tests may stop; it runs before and after each."""
    with postgres() as server:
        yield server


def make(store: PostgresStore) -> str:
    [answer] = store.submit([draft()], NOW)
    assert answer.record is not None
    return answer.record.id


# The schema


def test_migrations_are_numbered_without_a_gap() -> None:
    assert [number for number, _ in migrations()] == list(range(1, len(migrations()) + 1))


def test_every_statement_can_be_run(store: PostgresStore, url: str) -> None:
    class Nothing(dict[str, object]):
        def __missing__(self, name: str) -> None:
            return None

    with psycopg.connect(url, options="-c search_path=simyard") as connection:
        for name, sql in statements().items():
            if not name.startswith("list."):
                connection.execute(f"EXPLAIN {sql}".encode(), Nothing())


def test_the_statements_are_those_of_the_other_store() -> None:
    from tasks.sqlite.statements import statements as theirs

    only_here = {"draw_seqs", "add_tasks", "find_known", "lock_task", "announce_events", "add_events"}
    only_here |= {"decided_events", "lead", "check_lead", "add_edges", "lanes", "lock_named", "lock_seqs"}
    only_there = {"next_seq", "add_task", "find_by_keys", "find_by_ids", "find_by_seq", "add_event", "add_edge"}
    only_there.add("add_submitted")
    # PostgreSQL has tools of its own for these.
    only_there |= {"check.status", "check.held", "check.story", "check.waiting", "drop_unused_inputs", "next_lanes"}
    assert set(statements()) - only_here == set(theirs()) - only_there


def test_a_migration_that_fails_leaves_nothing(
    url: str, database: str, postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = (*migrations(), (len(migrations()) + 1, "CREATE TABLE half (x INTEGER); INSERT INTO nowhere VALUES (1)"))
    monkeypatch.setattr("tasks.postgres.schema.migrations", lambda: broken)
    with pytest.raises(StoreUnavailable, match="nowhere"):
        PostgresStore(url)
    asked = "SELECT max(number), to_regclass('simyard.half') IS NULL FROM simyard.migrations"
    assert postgres_server.execute(asked, database) == [(len(migrations()), True)]


def test_an_older_database_is_brought_to_the_schema_of_the_code(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(PostgresStore(url)) as store:
        task = make(store)
    steps = (*migrations(), (len(migrations()) + 1, "ALTER TABLE tasks ADD COLUMN more BIGINT NOT NULL DEFAULT 7"))
    monkeypatch.setattr("tasks.postgres.schema.migrations", lambda: steps)
    for _ in range(2):
        with closing(PostgresStore(url)) as store:
            assert store.get(task).status is Status.QUEUED
            rows = store._database.read(lambda connection: connection.execute("SELECT more FROM tasks").fetchall())
    assert rows == [(7,)]


def test_a_newer_database_is_refused(url: str, database: str, postgres_server: PostgresServer) -> None:
    PostgresStore(url).close()
    postgres_server.execute("INSERT INTO simyard.migrations VALUES (9999)", database)
    with pytest.raises(StoreTooNew, match="9999"):
        PostgresStore(url)


def test_the_schema_of_another_program_is_refused(url: str, database: str, postgres_server: PostgresServer) -> None:
    postgres_server.execute("CREATE SCHEMA simyard CREATE TABLE theirs (x INTEGER)", database)
    with pytest.raises(StoreUnavailable, match="another program"):
        PostgresStore(url)
    assert postgres_server.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'simyard'", database) == [
        ("theirs",)
    ]


def test_tables_of_others_do_not_matter(url: str, database: str, postgres_server: PostgresServer) -> None:
    postgres_server.execute("CREATE TABLE IF NOT EXISTS tasks (x INTEGER)", database)
    with closing(PostgresStore(url)) as store:
        make(store)
    assert postgres_server.execute("SELECT count(*) FROM public.tasks", database) == [(0,)]


def test_an_encoding_that_cannot_hold_every_text_is_refused(postgres_server: PostgresServer) -> None:
    postgres_server.execute("CREATE DATABASE ascii ENCODING 'SQL_ASCII' TEMPLATE template0")
    with pytest.raises(StoreUnavailable, match="SQL_ASCII"):
        PostgresStore(postgres_server.url("ascii"))


def test_several_that_open_a_new_database_at_once_all_get_it(url: str) -> None:
    start = threading.Barrier(6)

    def start_one(_: int) -> None:
        start.wait(LONG)
        with closing(PostgresStore(url, busy_seconds=LONG)) as store:
            make(store)

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(start_one, range(6)))
    with closing(PostgresStore(url)) as store:
        assert store.counts()[Status.QUEUED] == 6


# What is said of the URL


@pytest.mark.parametrize(
    "wrong",
    [
        lambda url: url.replace("simyard:", "simyard:not"),
        lambda url: url.rpartition("/")[0] + "/no-such-database",
        lambda url: url.replace("127.0.0.1:", "127.0.0.1:1"),
        lambda url: url + "?no_such_option=1",
        lambda url: url + "?connect_timeout=x",
        lambda url: url.replace("postgresql://", "postgresql://%zz"),
    ],
)
def test_no_error_shows_the_password(url: str, wrong: Callable[[str], str]) -> None:
    with pytest.raises((StoreUnavailable, InvalidInput)) as caught:
        PostgresStore(wrong(url))
    told = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    for secret in (PASSWORD, unquote(PASSWORD)):
        assert secret not in told


# What is on disk


def test_every_write_waits_for_the_disk_but_a_renewal(url: str, database: str, postgres_server: PostgresServer) -> None:
    postgres_server.execute(f"ALTER DATABASE {database} SET synchronous_commit = off")

    def ask(connection: Connection) -> object:
        return connection.execute("SHOW synchronous_commit").fetchone()

    try:
        with closing(PostgresStore(url)) as store:
            assert store._database.write(ask) == ("on",)
            assert store._database.write(ask, durable=False) == ("off",)
            assert store._database.write(ask) == ("on",)
    finally:
        postgres_server.execute(f"ALTER DATABASE {database} RESET synchronous_commit")


def test_the_same_inputs_are_kept_once(store: PostgresStore) -> None:
    store.submit([draft() for _ in range(5)], NOW)
    store.submit([draft(), draft(inputs=draft().spec.inputs[:1])], NOW)
    counted = store._database.read(lambda connection: connection.execute("SELECT count(*) FROM input_lists").fetchone())
    assert counted == (2,)


def test_a_text_with_a_zero_byte_is_taken(store: PostgresStore) -> None:
    want = draft(name="a\0b", metadata={"note": "c\0d"})
    store.submit([want], NOW)
    assert store.get(want.id).task.name == "a\0b"
    assert [record.id for record in store.list(TaskQuery(name="a\0b"))] == [want.id]


# Events in their order


def test_an_event_that_is_committed_late_is_not_passed_over(store: PostgresStore, url: str) -> None:
    first = make(store)
    seen = store.latest()
    drawn, go_on = threading.Event(), threading.Event()

    def hold(connection: Connection) -> None:
        # As a submission that has drawn the number of its event and commits later.
        store._check_lead(connection)
        connection.execute("SELECT announce_events()")
        connection.execute(
            "INSERT INTO events (seq, task, at, kind, status) SELECT nextval('events_seq'), seq, 0, 'note', 'queued' "
            "FROM tasks"
        )
        drawn.set()
        assert go_on.wait(LONG)

    with ThreadPoolExecutor(1) as thread, closing(PostgresStore(url)) as other:
        late = thread.submit(store._database.write, hold)
        assert drawn.wait(LONG)
        second = make(other)
        assert other.latest() == seen
        assert other.events(after=seen) == []
        assert [event.task for event in other.events(task=second)] == [second]
        go_on.set()
        late.result(LONG)
        assert [event.task for event in other.events(after=seen)] == [first, second]
        assert other.latest() == seen + 2


def test_a_reader_that_goes_on_from_the_newest_event_misses_none(store: PostgresStore) -> None:
    done = threading.Event()

    def follow() -> list[Event]:
        found: list[Event] = []
        while True:
            last = done.is_set()
            page = store.events(after=found[-1].seq if found else 0, limit=7)
            found += page
            if last and not page:
                return found

    def write(i: int) -> None:
        for _ in range(15):
            for record in store.submit([draft(name=f"w{i}") for _ in range(3)], NOW):
                assert record.record is not None
                store.apply(record.record.id, Cancel(), NOW)

    with ThreadPoolExecutor(6) as threads:
        followers = [threads.submit(follow) for _ in range(2)]
        for writer in [threads.submit(write, i) for i in range(4)]:
            writer.result(LONG)
        done.set()
        for follower in followers:
            assert [event.seq for event in follower.result(LONG)] == [event.seq for event in store.events()]
    assert len(store.events()) == 4 * 15 * 3 * 2


def test_news_are_heard_from_another_machine(
    store: PostgresStore, url: str, database: str, postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nobody looks by himself, so only a notification can end the wait.
    monkeypatch.setattr("tasks.postgres.store._LOOK_SECONDS", 10 * LONG)
    with closing(PostgresStore(url)) as other, ThreadPoolExecutor(1) as thread:
        for _ in range(2):
            seen = store.latest()
            waiting = thread.submit(store.wait, seen, 10 * LONG)
            make(other)
            assert waiting.result(LONG) > seen
            # The listening connection is made anew, too.
            postgres_server.kill_backends(database)


# Servers and connections that go away


def test_connections_that_were_closed_while_idle_cost_nothing(
    store: PostgresStore, database: str, postgres_server: PostgresServer
) -> None:
    task = make(store)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: store.get(task), range(32)))
    assert postgres_server.kill_backends(database) > 0
    assert store.get(task).status is Status.QUEUED
    assert store.apply(task, dispatch(), NOW).status is Status.PREPARING


def test_a_transaction_whose_connection_is_killed_is_made_again(
    store: PostgresStore, database: str, postgres_server: PostgresServer
) -> None:
    tries: list[int] = []

    def work(connection: Connection) -> int:
        tries.append(connection.info.backend_pid)
        connection.execute("INSERT INTO keys VALUES ('k', 'h', 'u', 0, 0)")
        if len(tries) == 1:
            postgres_server.kill_backends(database)
        connection.execute("SELECT 1")
        return len(tries)

    assert store._database.write(work) == 2
    assert len(set(tries)) == 2
    assert [key.id for key in store.list_keys()] == ["k"]


def test_a_defect_of_ours_is_no_unavailable_server(store: PostgresStore) -> None:
    def work(connection: Connection) -> None:
        connection.execute("INSERT INTO events VALUES (1, 99, 0, 'note', 'queued')")
        connection.execute("SELECT 1")

    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        store._database.write(work)
    assert store.events() == []
    make(store)


def test_a_server_that_is_away_is_unavailable_and_then_works_again(own_server: PostgresServer) -> None:
    with own_server.database() as name, closing(PostgresStore(own_server.url(name), busy_seconds=LONG)) as store:
        kept = make(store)
        for how in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
            own_server.stop(how)
            try:
                for ask in (lambda: store.get(kept), lambda: make(store), lambda: store.apply(kept, Cancel(), NOW)):
                    with pytest.raises(StoreUnavailable) as caught:
                        ask()
                    assert PASSWORD not in str(caught.value)
            finally:
                own_server.start()
            assert [record.id for record in store.list(TaskQuery())] == [kept]
            assert store.get(kept).status is Status.QUEUED
            assert len(store.events()) == 1


def test_a_restart_while_calls_go_on_loses_and_doubles_nothing(own_server: PostgresServer) -> None:
    with own_server.database() as name, closing(PostgresStore(own_server.url(name), busy_seconds=LONG)) as store:
        stop = threading.Event()

        def submit(i: int) -> list[str]:
            accepted: list[str] = []
            while not stop.is_set():
                want = draft(key=f"{i}-{len(accepted)}")
                while True:
                    try:
                        [answer] = store.submit([want], NOW)
                    except StoreUnavailable:
                        continue
                    assert answer.record is not None
                    accepted.append(answer.record.id)
                    break
            return accepted

        with ThreadPoolExecutor(4) as threads:
            running = [threads.submit(submit, i) for i in range(4)]
            for how in (signal.SIGINT, signal.SIGQUIT):
                before = store.latest()
                while store.latest() < before + 20:
                    store.wait(before, 1.0)
                own_server.restart(how)
            stop.set()
            accepted = [task for future in running for task in future.result(LONG)]
        found = store.list(TaskQuery(limit=10**6))
        assert sorted(record.id for record in found) == sorted(accepted)
        assert len(store.events(limit=10**6)) == len(accepted)


@pytest.fixture
def wire(postgres_server: PostgresServer) -> Iterator[Wiretap]:
    wire = Wiretap(postgres_server.port)
    yield wire
    wire.close()


@pytest.mark.parametrize("how", ["before", "after"])
def test_a_commit_whose_answer_is_lost_is_neither_lost_nor_doubled(
    wire: Wiretap, how: Cut, url: str, postgres_server: PostgresServer
) -> None:
    through = url.replace(str(postgres_server.port), str(wire.port))
    _, key = new_key("ada", NOW)
    with closing(PostgresStore(through, busy_seconds=LONG)) as store:
        wire.cut_next_commit(how)
        answers = store.submit([draft(key="k"), draft(), draft(key="k")], NOW)
        assert [answer.created for answer in answers] == [True, True, False]
        assert len(store.list(TaskQuery())) == len(store.events()) == 2
        [task, _, _] = [answer.record.id for answer in answers if answer.record is not None]
        for stimulus in (dispatch(until=9), Renew(1, later(99)), Progress(1, Status.RUNNING), Cancel()):
            wire.cut_next_commit(how)
            record = store.apply(task, stimulus, NOW)
            assert store.get(task) == record
        assert [event.kind.value for event in store.events(task=task)] == [
            "submitted",
            "status",
            "status",
            "cancel-requested",
        ]
        wire.cut_next_commit(how)
        with pytest.raises(Refused) as caught:
            store.apply(task, Progress(1, Status.RUNNING), NOW)
        assert caught.value.duplicate
        wire.cut_next_commit(how)
        store.add_key(key)
        with pytest.raises(Conflict):
            store.add_key(key)
        wire.cut_next_commit(how)
        store.revoke_key(key.id)
        with pytest.raises(NotFound):
            store.revoke_key(key.id)
    assert wire.cuts == 8


def test_a_store_with_all_connections_in_use_makes_the_others_give_up(url: str) -> None:
    inside, done = threading.Event(), threading.Event()

    def hold(_: Connection) -> None:
        inside.set()
        assert done.wait(LONG)

    with closing(PostgresStore(url, busy_seconds=0.2, connections=1)) as store, ThreadPoolExecutor(1) as thread:
        held = thread.submit(store._database.read, hold)
        assert inside.wait(LONG)
        with pytest.raises(StoreUnavailable, match="busy"):
            make(store)
        done.set()
        held.result(LONG)
        make(store)
        assert len(store.list(TaskQuery())) == 1


def test_a_server_with_all_connections_in_use_is_unavailable_and_then_works_again() -> None:
    with postgres("max_connections=10", "superuser_reserved_connections=0") as server, server.database() as name:
        others: list[psycopg.Connection] = []
        with closing(PostgresStore(server.url(name), busy_seconds=LONG)) as store:
            make(store)
            server.kill_backends(name)
            with pytest.raises(psycopg.OperationalError):
                while True:
                    others.append(psycopg.connect(server.url(name)))
            with pytest.raises(StoreUnavailable):
                make(store)
            for other in others:
                other.close()
            make(store)
            assert len(store.list(TaskQuery())) == 2


def test_a_task_that_another_process_keeps_locked_is_unavailable(url: str) -> None:
    with closing(PostgresStore(url, busy_seconds=0.2)) as store:
        task = make(store)
        with psycopg.connect(url) as other:
            other.execute("SELECT 1 FROM simyard.tasks FOR UPDATE")
            with pytest.raises(StoreUnavailable, match="locked"):
                store.apply(task, Cancel(), NOW)
            assert store.get(task).status is Status.QUEUED
            make(store)
        assert store.apply(task, Cancel(), NOW).status is Status.CANCELLED


def test_batches_that_share_keys_in_another_order_do_not_fail(store: PostgresStore) -> None:
    start = threading.Barrier(4)

    def submit(i: int) -> int:
        keys = [f"k{n}" for n in range(40)]
        start.wait(LONG)
        answers = store.submit([draft(key=key) for key in (keys if i % 2 else keys[::-1])], NOW)
        return sum(answer.created for answer in answers)

    with ThreadPoolExecutor(4) as threads:
        assert sum(threads.map(submit, range(4))) == 40
    assert store.counts()[Status.QUEUED] == 40


# The lead


def test_one_server_leads_and_what_another_one_sends_is_refused(store: PostgresStore, url: str) -> None:
    task = make(store)
    with closing(PostgresStore(url)) as other:
        assert store.lead("one", LONG)
        assert not other.lead("two", LONG)
        assert store.lead("one", 0.0), "it goes on, and its time runs out at once"
        assert other.lead("two", LONG)
        assert not store.lead("one", LONG)
        with pytest.raises(Deposed):
            store.apply(task, dispatch(), NOW)
        assert store.get(task).status is Status.QUEUED
        assert len(store.events()) == 1
        assert other.apply(task, dispatch(), NOW).attempt == 1
        assert make(store), "who does not lead may submit"


def test_the_dispatcher_that_follows_a_dead_one_on_the_same_server_leads_at_once(
    store: PostgresStore, url: str
) -> None:
    task = make(store)
    assert store.lead("one", LONG)
    with closing(PostgresStore(url)) as again:
        assert again.lead("one", LONG)
        with pytest.raises(Deposed):
            store.apply(task, dispatch(), NOW)
        assert again.apply(task, dispatch(), NOW).attempt == 1
        assert store.lead("one", LONG), "and so does the older one, where it turns out to live"
        with pytest.raises(Deposed):
            again.apply(task, Lost(1, reason(ReasonCode.MACHINE_LOST)), NOW)
        assert again.apply(task, Progress(1, Status.RUNNING), NOW).attempt == 1, "reports go in by their number"


def test_who_leads_again_after_another_one_does_so_in_another_term(store: PostgresStore, url: str) -> None:
    with closing(PostgresStore(url)) as other:
        term = store.lead("one", LONG)
        assert term is not None
        assert store.lead("one", 0.0) == term, "it goes on"
        assert other.lead("two", 0.0)
        assert store.lead("one", LONG) not in {None, term}


def test_a_store_that_never_led_may_write(store: PostgresStore, url: str) -> None:
    with closing(PostgresStore(url)) as other:
        assert other.lead("two", LONG)
        assert store.apply(make(store), dispatch(), NOW).attempt == 1


def test_of_many_that_want_the_lead_one_gets_it(url: str) -> None:
    start = threading.Barrier(6)

    def ask(i: int) -> bool:
        with closing(PostgresStore(url)) as store:
            start.wait(LONG)
            return store.lead(f"server-{i}", LONG) is not None

    with ThreadPoolExecutor(6) as threads:
        assert sum(threads.map(ask, range(6))) == 1
