"""The ledger of a cloud's machines: from when to when each was paid for, of what kind it was, and why it ended.

It is kept from what the provider lists. A list that did not come, or is empty, changes nothing in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from cluster.provider import Instance, Kind, Market

KEPT = timedelta(days=400)
"""So long after its end a machine is remembered."""
UNLISTED = "its cloud does not list it any more"
_WRITTEN_EVERY = timedelta(minutes=1)
_ABSENT = 8
"""In so many lists in a row a machine must be missing until it counts as ended."""

PriceOf = Callable[[str, Market], float | None]
"""Gives the US dollars an hour of a machine type; None where they are not known."""


@dataclass(frozen=True, kw_only=True)
class Rental:
    """A machine of a cloud, from its launch to its end."""

    id: str
    """As its provider calls it."""
    group: str
    """Its machine group; the node type of one that belongs to none, such as the head."""
    machine_type: str
    market: Market
    zone: str
    launched_at: datetime
    last_seen_at: datetime
    ended_at: datetime | None = None
    why_ended: str = ""
    price_per_hour: float | None = None
    """US dollars, as the catalogue knew it; None where it did not."""


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """The machines that are there, and those that have just ended; `missing` counts in how many lists each was not."""

    rentals: Mapping[str, Rental] = field(default_factory=dict)
    missing: Mapping[str, int] = field(default_factory=dict)


def entered(
    ledger: Ledger, listed: Iterable[Instance], now: datetime, price_of: PriceOf, reasons: Mapping[str, str]
) -> tuple[Ledger, tuple[Rental, ...]]:
    """Return the ledger after a whole list of machines, and those of its rows that are to be written.

    `reasons` says why machines were ended, where that was done by this server.
    """
    there = {one.id: one for one in listed if one.kind is not Kind.OTHER}
    if not there:
        return ledger, ()
    rentals: dict[str, Rental] = {}
    missing: dict[str, int] = {}
    for name, one in there.items():
        if (row := _row_of(one, ledger.rentals.get(name), now, price_of, reasons.get(name))) is not None:
            rentals[name] = row
    for name, row in ledger.rentals.items():
        if name in there or row.ended_at is not None:
            continue
        missing[name] = ledger.missing.get(name, 0) + 1
        is_over = missing[name] >= _ABSENT
        rentals[name] = replace(row, ended_at=row.last_seen_at, why_ended=UNLISTED) if is_over else row
    changed = tuple(row for name, row in rentals.items() if ledger.rentals.get(name) != row)
    return Ledger(rentals=rentals, missing=missing), changed


def _row_of(one: Instance, known: Rental | None, now: datetime, price_of: PriceOf, reason: str | None) -> Rental | None:
    """Return what the ledger has of a machine that is listed; None for one of which too little is known."""
    if one.is_ending:
        if known is None and one.ended_at is None:
            return None  # nobody knows until when it was paid for
        if known is not None and known.ended_at is not None:
            return known
        ended = max(one.launched_at, one.ended_at or now)
        row = known or _new(one, ended, price_of)
        return replace(row, ended_at=ended, last_seen_at=ended, why_ended=reason or one.why_ended or "it was ended")
    if known is None:
        return _new(one, now, price_of)
    if known.ended_at is not None:
        # An old list tells of machines that have ended since; one that was only missing is there again.
        return known if known.why_ended != UNLISTED else replace(known, ended_at=None, why_ended="", last_seen_at=now)
    price = known.price_per_hour if known.price_per_hour is not None else price_of(one.machine_type, one.market)
    is_due = now - known.last_seen_at >= _WRITTEN_EVERY
    return replace(known, last_seen_at=now if is_due else known.last_seen_at, price_per_hour=price)


def _new(one: Instance, now: datetime, price_of: PriceOf) -> Rental:
    return Rental(
        id=one.id,
        group=one.group,
        machine_type=one.machine_type,
        market=one.market,
        zone=one.zone,
        launched_at=one.launched_at,
        last_seen_at=now,
        price_per_hour=price_of(one.machine_type, one.market),
    )
