"""When a task may start is said only where there is something to say it from."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from simyard.group import Machine, MachineGroup
from simyard.resources import GIB, Resources
from tasks.forecast import Forecast, forecast
from tasks.lifecycle import End, step
from tasks.record import TaskRecord
from tests.unit.tasks.samples import NOW, dispatch, later, queued, succeeded


def machine(*, cpus: float = 4, free: float = 0, aside: datetime | None = None) -> Machine:
    return Machine(
        id="n1",
        name="n1",
        group="local",
        cpus=cpus,
        memory=64 * GIB,
        gpus=0,
        cpus_free=free,
        memory_free=64 * GIB,
        gpus_free=0,
        set_aside_until=aside,
    )


def run(seconds: float) -> TaskRecord:
    return step(step(queued(), dispatch(), NOW).record, End(1, succeeded()), later(seconds)).record


def told(
    position: int | None, *runs: float, machines: tuple[Machine, ...] = (machine(),), record: TaskRecord | None = None
) -> Forecast | None:
    groups = (MachineGroup(name="local", machines=machines),)
    return forecast(record or queued(resources=Resources(cpus=2)), position, groups, [run(s) for s in runs], NOW)


def test_a_task_with_a_free_place_starts_now_whatever_is_known_of_runs() -> None:
    found = told(0, machines=(machine(free=2),))
    assert found is not None
    assert (found.start, found.basis) == (NOW, "a place is free in local")


def test_a_place_becomes_free_each_time_that_a_run_takes_divided_by_the_places() -> None:
    waits = [told(position, 1, 10, 900) for position in range(3)]
    assert [found and found.start - NOW for found in waits] == [timedelta(seconds=s) for s in (5, 10, 15)]
    assert waits[0] is not None
    assert waits[0].basis == "the last 3 runs of swmm took 10 s, and local has 2 places for such tasks"


def test_nothing_is_said_where_nothing_is_known() -> None:
    assert told(3) is None
    assert told(None, 10) is None
    assert told(0, 10, machines=()) is None
    assert told(0, 10, machines=(machine(cpus=1),)) is None
    assert told(0, 10, machines=(machine(free=4, aside=later(60)),)) is None
    assert told(0, 10, record=queued(group="cloud")) is None


def test_a_task_that_backs_off_does_not_start_before() -> None:
    late = replace(queued(), ready_at=later(1000))
    for machines in ((machine(free=4),), (machine(),)):
        found = told(0, 10, machines=machines, record=late)
        assert found is not None
        assert found.start == later(1000)


def test_places_for_whole_machines_are_empty_machines_and_disk_that_is_asked_for_counts() -> None:
    whole = queued(resources=Resources(whole_machine=True))
    found = told(0, 10, machines=(machine(), machine()), record=whole)
    assert found is not None
    assert (found.start, "2 places" in found.basis) == (later(5), True)
    found = told(0, 10, machines=(machine(free=2), machine(free=4)), record=whole)
    assert found is not None
    assert found.start == NOW
    disk = queued(resources=Resources(disk=30 * GIB))
    with_disk = machine(free=4).model_copy(update={"disk": 70 * GIB, "disk_free": 40 * GIB})
    assert (told(0, 10, machines=(with_disk,), record=disk), told(1, 10, machines=(with_disk,), record=disk)) == (
        Forecast(start=NOW, basis="a place is free in local"),
        Forecast(start=later(5), basis="the last run of swmm took 10 s, and local has 2 places for such tasks"),
    )
