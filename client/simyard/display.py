"""How far a sweep is, shown on standard error: one line that moves on a terminal, or a line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from simyard.sweep import Sweep

_STEPS = 10
_WIDTH = 24


@contextmanager
def shown() -> Iterator[Callable[[Sweep], None]]:
    """Give a function that shows how far a sweep is."""
    pace = _Pace()
    if not sys.stderr.isatty():
        yield _Lines(pace).tell
        return
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    line = Text("", no_wrap=True, overflow="ellipsis")
    console = Console(stderr=True, highlight=False, markup=False, emoji=False)
    with Live(line, console=console, refresh_per_second=4, transient=True) as live:

        def tell(sweep: Sweep) -> None:
            done = _WIDTH * sweep.ended // sweep.cases
            bar = "━" * done + "╺" * (_WIDTH - done)
            text = f"{bar} {picture(sweep, pace.left(sweep))}"
            live.update(Text(text, no_wrap=True, overflow="ellipsis"))

        yield tell


def picture(sweep: Sweep, seconds: float | None) -> str:
    """Return for example `57/200 ended, 4 running, 139 queued, about 2 min left`."""
    parts = [f"{sweep.ended}/{sweep.cases} ended"]
    for status, count in sweep.counts.items():
        if count and not (status.is_end and status.value == "succeeded"):
            parts.append(f"{count} {status.value}")
    if seconds is not None and not sweep.is_over:
        parts.append(f"about {_duration(seconds)} left")
    return ", ".join(parts)


class _Pace:
    """Tells from how fast tasks have ended so far when the last one will."""

    def __init__(self) -> None:
        self._first: tuple[float, int] | None = None

    def left(self, sweep: Sweep) -> float | None:
        """Return the seconds that are left, None while nothing is known."""
        now = time.monotonic()
        if self._first is None:
            self._first = (now, sweep.ended)
        since, ended = self._first
        if sweep.ended <= ended or now <= since:
            return None
        return (sweep.cases - sweep.ended) * (now - since) / (sweep.ended - ended)


class _Lines:
    """A line for every tenth of the sweep, for a log file."""

    def __init__(self, pace: _Pace) -> None:
        self._pace = pace
        self._step = -1

    def tell(self, sweep: Sweep) -> None:
        """Print a line where another tenth has ended."""
        step, left = _STEPS * sweep.ended // sweep.cases, self._pace.left(sweep)
        if step != self._step:
            self._step = step
            sys.stderr.write(f"{sweep.id} {picture(sweep, left)}\n")
            sys.stderr.flush()


def _duration(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
