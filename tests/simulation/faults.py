"""What goes wrong in a world: drawn anew for each seed, so that some worlds have one fault and some have all."""

from __future__ import annotations

import random
from dataclasses import dataclass, fields, replace


@dataclass(frozen=True, kw_only=True)
class Faults:
    """How likely each fault is.

    The first ones are chances for one call or message; those that end in `_every` are mean seconds between two, and 0
    means never.
    """

    crash: float = 0.0
    """The dispatcher dies before or after a call."""
    write_fails: float = 0.0
    """A call of the store fails and nothing of it is kept."""
    write_times_out: float = 0.0
    """A write of the store is kept and then fails."""
    storage_fails: float = 0.0
    """The storage does not say whether there is a result."""
    aside: float = 0.0
    """Other threads go on in the middle of a call; seldom it takes seconds."""
    report_lost: float = 0.0
    answer_lost: float = 0.0
    report_late: float = 0.0
    report_doubled: float = 0.0
    hand_over_lost: float = 0.0
    hand_over_doubled: float = 0.0
    hand_over_late: float = 0.0
    cancel_lost: float = 0.0
    state_lost: float = 0.0
    """An actor that is well does not answer a new dispatcher in time."""
    unreachable: float = 0.0
    """Ray says that an actor cannot be reached while it carries an attempt and is well."""
    answer_to_user_lost: float = 0.0
    crash_every: float = 0.0
    dispatcher_freezes_every: float = 0.0
    store_down_every: float = 0.0
    storage_down_every: float = 0.0
    actor_dies_every: float = 0.0
    actor_freezes_every: float = 0.0
    head_dies_every: float = 0.0
    """Ray's head dies with all actors and the dispatcher; what runs goes on."""
    machine_dies_every: float = 0.0
    machine_dies_silently_every: float = 0.0
    machine_cut_off_every: float = 0.0
    clock_jumps_every: float = 0.0


CHANCES = {
    "crash": 0.004,
    "write_fails": 0.02,
    "write_times_out": 0.02,
    "storage_fails": 0.2,
    "aside": 0.05,
    "report_lost": 0.05,
    "answer_lost": 0.05,
    "report_late": 0.05,
    "report_doubled": 0.05,
    "hand_over_lost": 0.02,
    "hand_over_doubled": 0.02,
    "hand_over_late": 0.02,
    "cancel_lost": 0.5,
    "state_lost": 0.1,
    "unreachable": 0.02,
    "answer_to_user_lost": 0.1,
}
"""The most that a chance is."""
SHORTEST = {
    "crash_every": 20.0,
    "dispatcher_freezes_every": 120.0,
    "store_down_every": 120.0,
    "storage_down_every": 120.0,
    "actor_dies_every": 15.0,
    "actor_freezes_every": 20.0,
    "head_dies_every": 90.0,
    "machine_dies_every": 60.0,
    "machine_dies_silently_every": 60.0,
    "machine_cut_off_every": 60.0,
    "clock_jumps_every": 60.0,
}
"""The shortest mean time between two faults, in seconds."""


def draw(source: random.Random) -> Faults:
    """Return the faults of one world: each one is there or not, and strong or weak."""
    share = source.choice([0.0, 0.15, 0.3, 0.6, 1.0])
    drawn: dict[str, float] = {}
    for name, most in CHANCES.items():
        if source.random() < share:
            drawn[name] = most * 10 ** source.uniform(-1.5, 0.0)
    for name, shortest in SHORTEST.items():
        if source.random() < share:
            drawn[name] = shortest * 10 ** source.uniform(0.0, 1.3)
    return replace(Faults(), **drawn)


def none() -> Faults:
    """Return a world in which nothing goes wrong."""
    return Faults()


def names() -> tuple[str, ...]:
    """Return the names of all faults."""
    return tuple(field.name for field in fields(Faults))
