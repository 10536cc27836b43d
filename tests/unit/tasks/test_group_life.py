"""How a group that was made by a command goes on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from cluster.group_record import GroupRecord, new_record
from simyard.group import GroupSpec
from tasks.group_life import FORGOTTEN, STOP_SECONDS, gone_on

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def record(ends_at: datetime | None = None, **changes: Any) -> GroupRecord:
    spec = GroupSpec(name="crash", machine_types=("c7i.large",), max=3, ends_at=ends_at)
    return new_record(spec, "ada", NOW).model_copy(update=changes)


def test_a_group_without_an_end_goes_on_as_it_is() -> None:
    one = record()
    assert gone_on(one, NOW + 1000 * HOUR, 5, 2) is one


def test_an_ending_group_waits_for_its_tasks_then_for_its_machines_and_is_forgotten() -> None:
    one = record(ending_since=NOW)
    assert gone_on(one, NOW + 100 * HOUR, 1, 2) == one, "what runs goes on to its end"
    drained = gone_on(one, NOW + HOUR, 0, 2)
    assert drained is not None
    assert (drained.drained_at, drained.ended_at) == (NOW + HOUR, None)
    assert gone_on(drained, NOW + 2 * HOUR, 0, 1) == drained
    ended = gone_on(drained, NOW + 2 * HOUR, 0, 0)
    assert ended is not None
    assert ended.ended_at == NOW + 2 * HOUR
    assert gone_on(ended, NOW + 2 * HOUR + FORGOTTEN - timedelta(seconds=1), 0, 0) == ended
    assert gone_on(ended, NOW + 2 * HOUR + FORGOTTEN, 0, 0) is None


def test_at_its_end_time_what_runs_is_stopped_and_its_machines_go_even_when_it_does_not_end() -> None:
    one = record(ends_at=NOW + HOUR)
    assert gone_on(one, NOW + HOUR - timedelta(seconds=1), 2, 2) is one
    stopping = gone_on(one, NOW + HOUR, 2, 2)
    assert stopping is not None
    assert (stopping.ending_since, stopping.stops, stopping.drained_at) == (NOW + HOUR, True, None)
    late = timedelta(seconds=STOP_SECONDS)
    assert gone_on(stopping, NOW + HOUR + late - timedelta(seconds=1), 1, 2) == stopping
    drained = gone_on(stopping, NOW + HOUR + late, 1, 2)
    assert drained is not None
    assert drained.drained_at == NOW + HOUR + late


def test_a_group_that_was_to_end_with_its_tasks_stops_them_at_its_end_time() -> None:
    one = record(ends_at=NOW + HOUR, ending_since=NOW)
    assert gone_on(one, NOW + HOUR / 2, 1, 1) == one
    stopping = gone_on(one, NOW + HOUR, 1, 1)
    assert stopping is not None
    assert (stopping.stops, stopping.drained_at) == (True, None)
    late = gone_on(stopping, NOW + HOUR + timedelta(seconds=STOP_SECONDS), 1, 1)
    assert late is not None
    assert late.drained_at is not None


def test_a_group_that_is_ended_now_has_a_time_to_store_its_outputs() -> None:
    one = record(ending_since=NOW, stops=True)
    assert gone_on(one, NOW + timedelta(seconds=STOP_SECONDS - 1), 1, 1) == one
    drained = gone_on(one, NOW + timedelta(seconds=STOP_SECONDS), 1, 1)
    assert drained is not None
    assert drained.drained_at is not None
