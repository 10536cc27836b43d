"""How an attempt's reports reach whoever takes them."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import pytest

from simulators.errors import Stopped
from simulators.outcome import Outcome
from simulators.reports import GATHER, Reports, Unsent, due
from simulators.work import News, Report, Stall, Superseded, Work
from simyard.errors import Unavailable
from simyard.resources import Limits, Resources
from simyard.simulator import RuntimeName
from simyard.status import Status

WORK = Work(
    task="t000000000001",
    attempt=1,
    simulator="none",
    version="1",
    runtime=RuntimeName.NATIVE,
    parameters={},
    commands=(),
    inputs=(),
    resources=Resources(),
    limits=Limits(),
    project="default",
    storage="memory://none",
)
DONE = Outcome(status=Status.SUCCEEDED, stored=True)


class Desk:
    """Takes reports, failing as often as it is told to."""

    def __init__(self, *failures: Exception) -> None:
        self.calls: list[list[object]] = []
        self.ages: list[float] = []
        self.renewed = threading.Event()
        self.called = threading.Event()
        self.open = threading.Event()
        """Whether it answers."""
        self.open.set()
        self._failures = iter(failures)
        self._failed = 0
        self.failed_twice = threading.Event()

    @property
    def taken(self) -> list[object]:
        return [fact for call in self.calls for fact in call]

    def _answer(self) -> None:
        self.called.set()
        assert self.open.wait(30)
        failure = next(self._failures, None)
        if failure is not None:
            self._failed += 1
            if self._failed == 2:
                self.failed_twice.set()
            raise failure

    def renew(self, work: Work) -> None:
        self._answer()
        self.calls.append(["renewal"])
        self.renewed.set()

    def report(self, work: Work, reports: Sequence[Report]) -> None:
        self._answer()
        self.calls.append([report.what for report in reports])
        self.ages += [report.age for report in reports]


@pytest.fixture
def superseded() -> threading.Event:
    return threading.Event()


def reports(desk: Desk, superseded: threading.Event, lease: float = 3000.0) -> Iterator[Reports]:
    sender = Reports(WORK, desk, lease, superseded.set)
    sender.start()
    yield sender
    sender.close()


def test_moves_arrive_in_order_and_before_the_end(superseded: threading.Event) -> None:
    desk = Desk()
    for sender in reports(desk, superseded):
        sender.moved(Status.RUNNING)
        sender.stalled(1)
        sender.tell(News(message="kept"))
        sender.moved(Status.FINALIZING)
        sender.end(DONE)
    assert desk.taken == [Status.RUNNING, Stall(1), News(message="kept"), Status.FINALIZING, DONE]


def test_what_has_gathered_while_a_call_was_on_its_way_goes_out_in_the_next_one(superseded: threading.Event) -> None:
    desk = Desk()
    desk.open.clear()
    for sender in reports(desk, superseded):
        sender.moved(Status.RUNNING)
        assert desk.called.wait(10)
        sender.stalled(1)
        sender.moved(Status.FINALIZING)
        desk.open.set()
        sender.end(DONE)
    assert desk.calls == [[Status.RUNNING], [Stall(1), Status.FINALIZING, DONE]]
    assert desk.ages == sorted(desk.ages[:1]) + sorted(desk.ages[1:], reverse=True), "each has its own moment"
    assert all(0 <= age < 30 for age in desk.ages)


def test_a_call_that_failed_is_made_again_with_what_has_come_since(superseded: threading.Event) -> None:
    desk = Desk(Unavailable())
    for sender in reports(desk, superseded):
        sender.moved(Status.RUNNING)
        assert desk.called.wait(10)
        sender.end(DONE)
    assert desk.calls == [[Status.RUNNING, DONE]]


def test_a_report_waits_a_moment_for_others_and_the_end_for_none() -> None:
    running, finalizing, end = Unsent(Status.RUNNING, 5.0), Unsent(Status.FINALIZING, 5.01), Unsent(DONE, 5.015)
    assert due((), 10.0) == 10.0
    assert due((running,), 10.0) == 5.0 + GATHER
    assert due((running, finalizing), 10.0) == 5.0 + GATHER
    assert due((running, finalizing, end), 10.0) == 5.015


def test_flushing_waits_for_reports_and_no_longer_than_it_is_told(superseded: threading.Event) -> None:
    desk = Desk(Unavailable())
    for sender in reports(desk, superseded):
        sender.tell(News(message="kept"))
        sender.flush(30)
        assert desk.taken == [News(message="kept")]
    deaf = Desk(*[Unavailable()] * 100)
    for sender in reports(deaf, superseded):
        sender.tell(News(message="lost"))
        sender.flush(0.01)
        assert deaf.taken == []


def test_a_report_is_offered_until_somebody_takes_it(superseded: threading.Event) -> None:
    desk = Desk(Unavailable(), Unavailable(), Unavailable())
    for sender in reports(desk, superseded):
        sender.moved(Status.RUNNING)
        sender.end(DONE)
    assert desk.taken == [Status.RUNNING, DONE]


def test_the_lease_is_renewed_while_nothing_else_happens(superseded: threading.Event) -> None:
    desk = Desk()
    for _ in reports(desk, superseded, lease=0.03):
        assert desk.renewed.wait(10)
    assert not superseded.is_set()


def test_a_superseded_attempt_is_told_and_its_end_is_refused(superseded: threading.Event) -> None:
    desk = Desk(Superseded())
    for sender in reports(desk, superseded):
        sender.moved(Status.RUNNING)
        assert superseded.wait(10)
        with pytest.raises(Superseded):
            sender.end(DONE)
    assert desk.taken == []


def test_a_lease_that_holds_is_confirmed_without_a_word(superseded: threading.Event) -> None:
    desk = Desk()
    for sender in reports(desk, superseded):
        sender.confirm(lambda: False)
    assert desk.taken == []


def test_a_lease_that_ran_out_is_confirmed_by_the_next_report_that_is_taken(superseded: threading.Event) -> None:
    # Between the first failure and the second are at least 0.1 s: longer than the lease.
    desk = Desk(Unavailable(), Unavailable(), Unavailable())
    for sender in reports(desk, superseded, lease=0.05):
        assert desk.failed_twice.wait(10)
        with pytest.raises(Stopped):
            sender.confirm(lambda: True)
        assert desk.taken == []
        sender.confirm(lambda: False)
        assert desk.taken != []


def test_a_lease_that_another_attempt_has_is_not_confirmed(superseded: threading.Event) -> None:
    desk = Desk(*(Superseded() for _ in range(100)))
    for sender in reports(desk, superseded, lease=0.0):
        with pytest.raises(Superseded):
            sender.confirm(lambda: False)
    assert superseded.is_set()
