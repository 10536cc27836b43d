"""How an attempt's reports reach whoever takes them."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from simulators.errors import Stopped
from simulators.outcome import Outcome
from simulators.reports import Reports
from simulators.work import News, Superseded, Work
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
        self.taken: list[object] = []
        self.renewed = threading.Event()
        self._failures = iter(failures)
        self._failed = 0
        self.failed_twice = threading.Event()

    def _take(self, report: object) -> None:
        failure = next(self._failures, None)
        if failure is not None:
            self._failed += 1
            if self._failed == 2:
                self.failed_twice.set()
            raise failure
        self.taken.append(report)

    def moved(self, work: Work, status: Status) -> None:
        self._take(status)

    def renew(self, work: Work) -> None:
        self._take("renewal")
        self.renewed.set()

    def stalled(self, work: Work, number: int) -> None:
        self._take(number)

    def told(self, work: Work, news: News) -> None:
        self._take(news)

    def ended(self, work: Work, outcome: Outcome) -> None:
        self._take(outcome)


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
    assert desk.taken == [Status.RUNNING, 1, News(message="kept"), Status.FINALIZING, DONE]


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
