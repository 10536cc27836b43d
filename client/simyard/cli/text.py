"""Times, sizes and texts as people read them, and safe to print."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

_STEPS = (("d", 86400), ("h", 3600), ("min", 60))


def plain(text: str) -> str:
    """Return a text without anything that moves the cursor or breaks the line; it shows as an escape instead."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "replace").decode() for c in text)


def size(count: float) -> str:
    """Return bytes as for example `1.4 MiB`."""
    if count < 1024:
        return f"{count:.0f} B"
    for unit in ("KiB", "MiB", "GiB", "TiB"):
        count /= 1024
        if count < 1000:
            return f"{count:.3g} {unit}" if count < 100 else f"{count:.0f} {unit}"
    return f"{count:,.0f} TiB"


def part(some: float, whole: float) -> str:
    """Return how many bytes of a whole, with one unit where both have the same: `20/27 GiB`, `500 MiB/2 GiB`."""
    (number, unit), (total, its) = size(some).split(), size(whole).split()
    return f"{number}/{total} {its}" if unit == its else f"{number} {unit}/{total} {its}"


def count(number: int | None, one: str, many: str) -> str:
    """Return a number with its noun: `1 task`, `2 tasks`."""
    return f"{number or 0} {one if number == 1 else many}"


def duration(seconds: float) -> str:
    """Return seconds as for example `0.42 s`, `31 s`, `4 min 12 s` or `2 h 5 min`."""
    seconds = max(seconds, 0.0)
    if seconds < 59.5:
        return f"{seconds:.2g} s" if seconds < 9.95 else f"{seconds:.0f} s"
    whole = round(seconds)
    units = ("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)
    for large, large_seconds, small, small_seconds in units:
        if whole >= large_seconds:
            rest = whole % large_seconds // small_seconds
            return f"{whole // large_seconds} {large}" + (f" {rest} {small}" if rest else "")
    return f"{whole} s"


def ago(then: datetime, now: datetime) -> str:
    """Return how long ago a moment was, in its largest unit."""
    seconds = (now - then) / timedelta(seconds=1)
    for unit, length in _STEPS:
        if seconds >= length:
            return f"{seconds // length:.0f} {unit} ago"
    return "now" if seconds < 5 else f"{seconds:.0f} s ago"


def moment(then: datetime) -> str:
    """Return a moment in the user's own time zone."""
    return then.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def usd(amount: float) -> str:
    """Return US dollars as for example `12.50 USD`, or `0.0042 USD` where they are less than ten cents."""
    return f"{amount:.2f} USD" if amount >= 0.1 or amount <= 0 else f"{amount:.2g} USD"


def cents(amount: float) -> str:
    """Return US dollars as for example `12.50`, and from a hundred on as for example `120`."""
    return f"{amount:.2f}" if amount < 100 else f"{amount:.0f}"


def used_of(used: float, quota: float | None, shown: Callable[[float], str] = "{:g}".format) -> str:
    """Return how much of a quota is used: `2 of 8`, or `2` where there is none."""
    return shown(used) if quota is None else f"{shown(used)} of {shown(quota)}"
