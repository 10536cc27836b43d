"""The ledger of machines, and what they have cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cluster.cost import cost_of, hours_of
from cluster.ledger import UNLISTED, Ledger, PriceOf, Rental, entered
from cluster.provider import Instance, Kind
from tests.unit.cluster.test_reconciler import HEAD, NOW, WORKER


def at(minutes: float) -> datetime:
    return NOW + timedelta(minutes=minutes)


def price(machine_type: str, market: str) -> float | None:
    return 0.5 if market == "on-demand" else None


def enter(
    ledger: Ledger,
    *listed: Instance,
    minutes: float,
    reasons: Mapping[str, str] | None = None,
    price_of: PriceOf = price,
) -> tuple[Ledger, tuple[Rental, ...]]:
    return entered(ledger, listed, at(minutes), price_of, reasons or {})


def test_a_machine_is_entered_when_it_is_first_seen_with_its_price() -> None:
    worker = replace(WORKER, tags={"simyard-group": "spot"}, launched_at=at(-2))
    ledger, changed = enter(Ledger(), HEAD, worker, replace(WORKER, id="i-2", kind=Kind.OTHER), minutes=1)
    assert [(one.id, one.group, one.launched_at, one.last_seen_at, one.price_per_hour) for one in changed] == [
        ("i-head", "head", NOW, at(1), 0.5),
        ("i-1", "spot", at(-2), at(1), 0.5),
    ]
    assert set(ledger.rentals) == {"i-head", "i-1"}


def test_that_it_is_still_there_is_written_once_a_minute() -> None:
    ledger, _ = enter(Ledger(), WORKER, minutes=0)
    ledger, changed = enter(ledger, WORKER, minutes=0.75)
    assert changed == ()
    ledger, [changed_] = enter(ledger, WORKER, minutes=1)
    assert changed_.last_seen_at == at(1)


def test_a_price_that_becomes_known_is_entered_and_one_that_is_known_stays() -> None:
    ledger, _ = enter(Ledger(), replace(WORKER, market="spot"), minutes=0)
    ledger, [row] = enter(ledger, replace(WORKER, market="spot"), minutes=0.2, price_of=lambda *_: 0.1)
    assert row.price_per_hour == 0.1
    _, changed = enter(ledger, WORKER, minutes=0.4, price_of=lambda *_: 9.0)
    assert changed == ()


@pytest.mark.parametrize(
    ("said", "reasons", "ended", "why"),
    [
        ({}, {}, at(5), "it was ended"),
        ({"ended_at": at(4), "why_ended": "its cloud took it away"}, {}, at(4), "its cloud took it away"),
        ({"ended_at": at(4), "why_ended": "somebody"}, {"i-1": "nobody knew it"}, at(4), "nobody knew it"),
        ({"ended_at": at(-99)}, {}, NOW, "it was ended"),
    ],
)
def test_its_end_is_entered_once(said: dict[str, Any], reasons: dict[str, str], ended: datetime, why: str) -> None:
    ledger, _ = enter(Ledger(), WORKER, minutes=0)
    over = replace(WORKER, is_ending=True, **said)
    ledger, [row] = enter(ledger, over, minutes=5, reasons=reasons)
    assert (row.ended_at, row.why_ended) == (ended, why)
    assert enter(ledger, over, minutes=6)[1] == ()
    assert enter(ledger, WORKER, minutes=7)[1] == (), "an old list tells of it as running"


def test_one_that_has_ended_unseen_is_entered_where_its_end_is_known() -> None:
    assert enter(Ledger(), replace(WORKER, is_ending=True), minutes=5)[1] == ()
    [row] = enter(Ledger(), replace(WORKER, is_ending=True, ended_at=at(3)), minutes=5)[1]
    assert (row.launched_at, row.ended_at) == (NOW, at(3))


def test_one_that_many_lists_lack_has_ended_when_it_was_last_seen_and_may_come_back() -> None:
    ledger, _ = enter(Ledger(), HEAD, WORKER, minutes=0)
    for look in range(7):
        ledger, changed = enter(ledger, HEAD, minutes=1 + look / 10)
        assert all(row.id == "i-head" for row in changed)
    again, _ = enter(ledger, HEAD, WORKER, minutes=2)
    assert again.missing == {}
    ledger, changed = enter(ledger, HEAD, minutes=2)
    [row] = [row for row in changed if row.id == "i-1"]
    assert (row.ended_at, row.why_ended) == (NOW, UNLISTED)
    _, changed = enter(ledger, HEAD, WORKER, minutes=3)
    [row] = [row for row in changed if row.id == "i-1"]
    assert (row.ended_at, row.why_ended, row.last_seen_at) == (None, "", at(3))


def test_an_empty_list_ends_nothing() -> None:
    ledger, _ = enter(Ledger(), WORKER, minutes=0)
    for look in range(20):
        after, changed = enter(ledger, minutes=1 + look)
        assert (after, changed) == (ledger, ())


def rental(name: str, start: float, end: float | None = None, price_: float | None = 2.0) -> Rental:
    return Rental(
        id=name,
        group="g",
        machine_type="m5.large",
        market="spot",
        zone="a",
        launched_at=at(start),
        last_seen_at=at(60),
        ended_at=None if end is None else at(end),
        price_per_hour=price_,
    )


def test_hours_are_those_from_launch_to_end_or_now() -> None:
    assert hours_of(rental("a", 0, 30), at(90)) == 0.5
    assert hours_of(rental("a", 0), at(60)) == 1.0
    assert hours_of(rental("a", 0), at(72)) == 1.2, "seen a short time ago"
    assert hours_of(rental("a", 0), at(600)) == 1.0, "nobody has seen it since"
    assert hours_of(rental("a", 0, 90), at(30)) == 0.5
    assert hours_of(rental("a", 30), at(10)) == 0.0


def test_since_leaves_out_what_was_before() -> None:
    assert hours_of(rental("a", 0, 60), at(90), since=at(30)) == 0.5
    assert hours_of(rental("a", 0, 60), at(90), since=at(60)) == 0.0
    found = cost_of([rental("a", 0, 60), rental("b", 0, 10)], at(90), since=at(30))
    assert (found.machines, found.hours, found.usd) == (1, 0.5, 1.0)


def test_cost_is_hours_times_price_and_tells_of_those_without_a_price() -> None:
    found = cost_of([rental("a", 0, 60), rental("b", 30, 60, 4.0), rental("c", 0, 60, None)], at(60))
    assert (found.machines, found.hours, found.usd, found.unpriced) == (3, 2.5, 4.0, 1)
    unknown = cost_of([rental("c", 0, 60, None)], at(60))
    assert (unknown.usd, unknown.unpriced) == (None, 1)
    nothing = cost_of([], datetime.now(UTC))
    assert (nothing.machines, nothing.hours, nothing.usd) == (0, 0.0, 0.0)
