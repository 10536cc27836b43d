"""The dispatcher lets users take turns, and starts nothing that a pause or a quota keeps back."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cluster.fleet import Room
from simulators.work import Report
from simyard.status import Status
from storage.memory import MemoryStore as Objects
from tasks.desk import Clock, Desk
from tasks.memory import MemoryStore
from tasks.prices import NO_PRICES, Prices, Sold
from tasks.record import TaskQuery
from tasks.rules import Account, Pause, Quota
from tests.unit.tasks.samples import draft, later, succeeded
from tests.unit.tasks.test_desk_adoption import Actors, host


class Office:
    """A desk with one machine of four cores, and a long queue of ada's before one of bob's."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.seconds = 0.0
        clock = Clock(now=lambda: later(self.seconds), monotonic=lambda: self.seconds)
        actors = Actors(hosts=(replace(host(1, "m"), cpus=4, node_type="local"),))
        self.prices = NO_PRICES
        self.desk = Desk(
            self.store,
            Objects("desk"),
            actors,
            clock,
            lease=30,
            warm=60,
            storage="memory://desk",
            prices=lambda: self.prices,
        )
        self.desk.recover()
        self.store.submit([draft(user="ada") for _ in range(2000)], later(0))
        self.store.submit([draft(user="bob", project="p") for _ in range(10)], later(0))

    def turn(self) -> list[str]:
        """Return who has running tasks after a turn."""
        self.seconds += 1
        self.desk.turn()
        return [record.user for record in self.store.active()]

    def finish(self) -> None:
        for record in self.store.active():
            self.desk.report(record.id, 1, [Report(Status.RUNNING)])
            self.desk.report(record.id, 1, [Report(succeeded())])


@pytest.fixture
def office() -> Office:
    return Office()


def test_a_long_queue_leaves_others_their_share(office: Office) -> None:
    assert office.turn() == ["ada", "ada", "bob", "bob"]
    for _ in range(3):
        office.finish()
        assert sorted(office.turn()) == ["ada", "ada", "bob", "bob"]
    office.finish()
    assert office.turn().count("ada") == 2
    office.finish()
    assert office.turn() == ["ada"] * 4, "who has nothing more to run leaves the room to the others"


def test_what_is_paused_does_not_start_and_goes_on_when_it_is_resumed(office: Office) -> None:
    for pause in (Pause(user="ada", group="local"), Pause(user="bob", project="p")):
        office.store.pause(pause)
    assert office.turn() == []
    office.store.resume(Pause(user="bob", project="p"))
    assert office.turn() == ["bob"] * 4
    office.store.pause(Pause(group="local"))
    assert office.turn() == ["bob"] * 4, "what runs goes on"
    office.finish()
    assert office.turn() == []


def test_a_quota_holds_over_the_turns(office: Office) -> None:
    office.store.set_quota(Quota(user="ada", running=1))
    for _ in range(2):
        assert office.turn() == ["ada", "bob", "bob", "bob"]
    office.finish()
    assert sorted(office.turn()) == ["ada", "bob", "bob", "bob"]
    assert len(office.store.list(TaskQuery(status=Status.SUCCEEDED))) == 4


def machine_at(usd_per_hour: float) -> Prices:
    sold = Sold(group="local", offers=Room(cpus=4, memory=2**34), usd_per_hour=usd_per_hour)
    return Prices(machines={"local": sold})


def test_an_attempt_keeps_the_price_that_its_share_of_the_machine_had_when_it_began(office: Office) -> None:
    assert office.turn()
    assert {record.task.attempts[0].usd_per_hour for record in office.store.active()} == {None}
    office.finish()
    office.prices = machine_at(0.4)
    assert office.turn()
    office.prices = machine_at(4.0)
    assert office.turn()
    assert {record.task.attempts[0].usd_per_hour for record in office.store.active()} == {0.1}
    office.finish()
    spent = office.store.spent(later(office.seconds))
    # Two of ada's and two of bob's ran for a second.
    assert spent[Account("ada")] == pytest.approx(2 * 0.1 / 3600, rel=0.05)


def test_a_quota_of_cost_holds_over_the_turns_and_within_one(office: Office) -> None:
    office.prices = machine_at(0.4)
    office.store.set_quota(Quota(user="ada", usd_per_hour=0.1))
    for _ in range(3):
        assert office.turn() == ["ada", "bob", "bob", "bob"]
    office.finish()
    office.prices = machine_at(0.41)
    assert office.turn() == ["bob"] * 4, "one more may cost more than the whole quota"


def test_whoever_has_spent_the_quota_of_the_month_starts_again_in_the_next(office: Office) -> None:
    office.prices = machine_at(4 * 3600.0)
    office.store.set_quota(Quota(user="ada", usd_per_month=1.5))
    assert office.turn().count("ada") == 2
    office.finish()
    assert office.turn().count("ada") == 2, "nothing was spent in no time"
    office.seconds += 1
    assert office.turn().count("ada") == 2, "what runs goes on"
    office.finish()
    assert office.store.spent(later(office.seconds))[Account("ada")] == pytest.approx(4.0)
    assert office.turn() == ["bob"] * 4
    office.finish()
    office.seconds += 31 * 86400
    assert "ada" in office.turn()
