"""Whether a process still goes on."""

from __future__ import annotations

import os
from pathlib import Path

from serve.pulse import Pulse


class Clock:
    """Shows what it is set to."""

    seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def test_who_touches_its_file_goes_on_whatever_the_time_of_day_is(tmp_path: Path) -> None:
    clock, file = Clock(), tmp_path / "beat"
    pulse = Pulse(file, 60, clock)
    for number in range(10):
        os.close(os.open(file, os.O_CREAT))
        os.utime(file, (0, 1000 - number))
        clock.seconds += 50
        assert not pulse.is_silent()


def test_who_does_not_touch_it_for_too_long_is_silent_and_is_given_as_long_again(tmp_path: Path) -> None:
    clock, file = Clock(), tmp_path / "beat"
    pulse = Pulse(file, 60, clock)
    file.touch()
    assert not pulse.is_silent()
    clock.seconds += 59
    assert not pulse.is_silent()
    clock.seconds += 1
    assert pulse.is_silent()
    clock.seconds += 59
    assert not pulse.is_silent()
    clock.seconds += 1
    assert pulse.is_silent()


def test_one_that_never_began_is_silent_in_the_end_too(tmp_path: Path) -> None:
    clock = Clock()
    pulse = Pulse(tmp_path / "beat", 60, clock)
    assert not pulse.is_silent()
    clock.seconds += 60
    assert pulse.is_silent()
