"""What machines have cost: the hours for which each was there, times its price an hour."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from cluster.ledger import Rental

_FRESH = timedelta(minutes=15)
"""One that was seen so short a time ago is still there."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What some machines have cost together, in US dollars."""

    machines: int
    hours: float
    usd: float | None
    """None where no price is known of any of them."""
    unpriced: int
    """How many of them are not in `usd`, since nobody knows their price."""


def hours_of(rental: Rental, now: datetime, since: datetime | None = None) -> float:
    """Return for how many hours a machine was there, up to now and after `since`.

    One of which the cloud has told nothing for a quarter of an hour counts until it was last seen.
    """
    seen = now if now - rental.last_seen_at <= _FRESH else rental.last_seen_at
    end = min(now, seen if rental.ended_at is None else rental.ended_at)
    start = rental.launched_at if since is None else max(since, rental.launched_at)
    return max(timedelta(0), end - start) / timedelta(hours=1)


def cost_of(rentals: Iterable[Rental], now: datetime, since: datetime | None = None) -> Cost:
    """Return what machines have cost together, up to now and after `since`."""
    spent = [(rental, hours) for rental in rentals if (hours := hours_of(rental, now, since)) > 0]
    priced = [hours * price for rental, hours in spent if (price := rental.price_per_hour) is not None]
    return Cost(
        machines=len(spent),
        hours=sum(hours for _, hours in spent),
        usd=sum(priced) if priced or not spent else None,
        unpriced=len(spent) - len(priced),
    )
