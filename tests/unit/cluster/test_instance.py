"""What a machine hears of its cloud."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from cluster import instance


class Service:
    """The metadata service, as far as it is asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **told: str) -> None:
        self.told = {name.replace("_", "-"): value for name, value in told.items()}
        self.seconds = 100.0
        self.asked: list[str] = []
        monkeypatch.setattr(instance, "_metadata", self.answer)
        monkeypatch.setattr(instance.time, "monotonic", lambda: self.seconds)

    def answer(self, path: str) -> str | None:
        self.asked.append(path)
        return self.told.get(path)

    def give_notice(self, time: str) -> None:
        self.told["spot/instance-action"] = f'{{"action": "terminate", "time": "{time}"}}'


def test_a_machine_knows_who_it_is_for_the_autoscaler(monkeypatch: pytest.MonkeyPatch) -> None:
    Service(monkeypatch, instance_id="i-1")
    assert instance.identity("local") == {"RAY_CLOUD_INSTANCE_ID": "i-1", "RAY_NODE_TYPE_NAME": "local"}
    Service(monkeypatch)
    assert instance.identity("local") == {}, "a machine of no cloud joins all the same"


def test_a_notice_is_heard_once_with_the_seconds_that_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service(monkeypatch, instance_life_cycle="spot")
    notices = instance.Notices()
    assert notices.look() is None
    service.give_notice((datetime.now(UTC) + timedelta(seconds=90)).isoformat().replace("+00:00", "Z"))
    assert notices.look() is None, "it was asked a moment ago"
    service.seconds += 5
    left = notices.look()
    assert left is not None
    assert 60 < left <= 90
    service.seconds += 5
    assert notices.look() is None


@pytest.mark.parametrize("time", ["soon", "2020-01-01T00:00:00Z"])
def test_a_notice_that_is_not_understood_or_late_counts_all_the_same(
    monkeypatch: pytest.MonkeyPatch, time: str
) -> None:
    service = Service(monkeypatch, instance_life_cycle="spot")
    service.give_notice(time)
    assert instance.Notices().look() == (120.0 if time == "soon" else 0.0)


def test_a_machine_that_is_not_taken_away_is_not_asked_about(monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service(monkeypatch, instance_life_cycle="on-demand")
    notices = instance.Notices()
    service.seconds += 5
    assert notices.look() is None
    assert service.asked == ["instance-life-cycle"]
