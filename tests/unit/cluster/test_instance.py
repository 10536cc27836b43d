"""What a machine does about what it hears of its cloud."""

from __future__ import annotations

import time

import pytest

from cluster import instance


class Told:
    """A cloud that says what a test lets it say."""

    def __init__(self, machine: str | None = "i-1", *, watched: bool = True) -> None:
        self.machine, self.watched = machine, watched
        self.left: float | None = None
        self.asked = 0

    def machine_id(self) -> str | None:
        return self.machine

    def is_watched(self) -> bool:
        return self.watched

    def notice(self) -> float | None:
        self.asked += 1
        return self.left


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_a_machine_knows_who_it_is_for_the_autoscaler() -> None:
    expected = {"RAY_CLOUD_INSTANCE_ID": "i-1", "RAY_NODE_TYPE_NAME": "local"}
    assert instance.identity(Told(), "local") == expected
    assert instance.identity(Told(None), "local") == {}, "a machine of no cloud joins all the same"


def test_a_notice_is_heard_once_and_asked_for_every_few_seconds(seconds: list[float]) -> None:
    cloud = Told()
    notices = instance.Notices(cloud)
    assert notices.look() is None
    cloud.left = 90.0
    assert notices.look() is None, "it was asked a moment ago"
    seconds[0] += 5
    assert notices.look() == 90.0
    seconds[0] += 5
    assert notices.look() is None
    assert cloud.asked == 2


def test_a_machine_that_is_not_taken_away_is_not_asked_about(seconds: list[float]) -> None:
    cloud = Told(watched=False)
    notices = instance.Notices(cloud)
    seconds[0] += 5
    assert notices.look() is None
    assert cloud.asked == 0
