from __future__ import annotations

from collections.abc import Iterable

import pytest

from simulators.outcome import Outcome
from simyard.event import Event
from simyard.files import Staged
from simyard.group import Machine, MachineGroup, Offer
from simyard.reason import Reason, ReasonCode
from simyard.resources import GIB, Limits, Resources
from simyard.status import Status
from simyard.task import Explanation
from tasks.explain import explain
from tasks.forecast import Forecast
from tasks.lifecycle import Cancel, End, Expire, Hold, Lost, Progress, Release, Wait, step
from tasks.memory import MemoryStore
from tasks.record import TaskRecord
from tasks.stimulus import Stimulus
from tests.unit.tasks.samples import NOW, dispatch, draft, ended, failed, later, queued, reason, running, succeeded


def machine(*, cpus: float = 4, free: float = 4, memory: int = 8 * GIB) -> Machine:
    return Machine(
        id="n1",
        name="node-1",
        group="local",
        cpus=cpus,
        memory=memory,
        gpus=0,
        cpus_free=free,
        memory_free=memory,
        gpus_free=0,
    )


def groups(*machines: Machine) -> tuple[MachineGroup, ...]:
    return (MachineGroup(name="local", machines=machines),)


def told(
    record: TaskRecord, *, position: int | None = None, events: Iterable[Event] = (), free: float = 4
) -> Explanation:
    return explain(record, tuple(events), position, groups(machine(free=free)))


def test_the_next_one_in_the_queue_hears_so() -> None:
    answer = told(queued(), position=0)
    assert "next one" in answer.summary
    assert "turn" in (answer.next or "")


def test_a_queued_task_hears_how_many_come_before_it() -> None:
    assert "1 task comes before it" in told(queued(), position=1).summary
    assert "41 tasks come before it" in told(queued(), position=41).summary


def test_a_task_that_waits_hears_why() -> None:
    full = Reason(code=ReasonCode.GROUP_FULL, message="All places are taken")
    answer = told(step(queued(), Wait(full), NOW).record, position=0, free=0)
    assert "because: All places are taken." in answer.summary
    assert "taken now" in (answer.next or "")


def test_a_held_task_hears_how_to_release_it() -> None:
    record = step(queued(), Hold(), NOW).record
    answer = told(record)
    assert "is held" in answer.summary
    assert answer.next == f"Release it with `simyard tasks release {record.id}`."
    assert told(step(record, Release(), NOW).record, position=0).summary == told(queued(), position=0).summary


def test_a_task_hears_when_it_may_start_and_from_what_that_comes() -> None:
    expected = Forecast(start=later(60), basis="the moon is full")
    answer = explain(queued(), (), 2, groups(machine(free=0)), expected)
    assert "About 2 tasks come before it. It may start at about 2026-03-01 12:01:00 UTC: the moon is full." in (
        answer.summary
    )
    assert (answer.position, answer.expected_start) == (2, later(60))


def test_a_task_that_fits_no_machine_hears_what_the_machines_have() -> None:
    answer = explain(queued(resources=Resources(cpus=64)), (), 0, groups(machine(cpus=4), machine(cpus=8)))
    assert "asks for 64 cpus" in (answer.next or "")
    assert "at most 8 cpus, 8 GiB and 0 GPUs" in (answer.next or "")


def test_a_task_in_an_unknown_or_empty_group_hears_it() -> None:
    answer = explain(queued(group="gone"), (), 0, groups(machine()))
    assert "no group gone" in (answer.next or "")
    assert "local" in (answer.next or "")
    assert "no machine yet" in (explain(queued(), (), 0, groups()).next or "")


def test_a_task_that_backs_off_hears_until_when() -> None:
    record = step(running(retries=1), End(1, failed()), NOW).record
    answer = told(record, position=0)
    assert "as attempt 2" in answer.summary
    assert f"not start before {record.ready_at:%Y-%m-%d %H:%M:%S} UTC" in answer.summary
    assert "exit code 3" in answer.details[0]


@pytest.mark.parametrize("status", [Status.PREPARING, Status.RUNNING, Status.FINALIZING])
def test_an_active_task_hears_where_it_is(status: Status) -> None:
    record = step(queued(), dispatch(), NOW).record
    record = record if status is Status.PREPARING else step(record, Progress(1, status), NOW).record
    answer = told(record)
    assert "node-1" in answer.summary
    assert answer.status is status


def test_a_cancel_on_its_way_is_told() -> None:
    assert "cancel" in told(step(running(), Cancel(), NOW).record).summary


def test_a_success_says_how_to_get_the_outputs() -> None:
    record = ended(succeeded())
    assert f"simyard tasks download {record.id}" in (told(record).next or "")


@pytest.mark.parametrize("code", sorted(ReasonCode))
def test_every_failure_is_told_with_its_reason_and_evidence(code: ReasonCode) -> None:
    base = running()
    why = reason(code, "This went wrong")
    record = step(base, End(1, failed().model_copy(update={"reason": why})), NOW).record
    if not record.status.is_end:
        for number in range(2, 99):
            lost = step(step(record, dispatch(), NOW).record, Lost(number, reason(ReasonCode.MACHINE_LOST)), NOW)
            record = lost.record
            if record.status.is_end:
                break
        why = reason(ReasonCode.MACHINE_LOST)
    answer = told(record)
    assert why.message.removesuffix(".") in answer.summary
    assert "exit code 3" in answer.summary


def test_a_task_out_of_memory_hears_how_much_to_ask_for() -> None:
    answer = told(ended(failed(ReasonCode.OUT_OF_MEMORY)))
    assert "It had 1 GiB." in (answer.next or "")
    assert "--memory 2048MiB" in (answer.next or "")


def test_a_time_limit_is_called_one() -> None:
    outcome = failed(ReasonCode.TIME_LIMIT).model_copy(update={"status": Status.TIMED_OUT})
    assert "time limit" in told(ended(outcome)).summary


@pytest.mark.parametrize(("stored", "hint"), [(True, True), (False, False)])
def test_a_cancelled_task_hears_whether_something_was_kept(stored: bool, hint: bool) -> None:
    record = step(running(), Cancel(), NOW).record
    record = step(record, End(1, Outcome(status=Status.CANCELLED, stored=stored)), NOW).record
    answer = told(record)
    assert "cancelled" in answer.summary
    assert (answer.next is not None) is hint


def test_the_details_tell_the_story_from_the_oldest_on() -> None:
    store = MemoryStore()
    [answer] = store.submit([draft()], NOW)
    assert answer.record is not None
    task = answer.record.id
    stimuli: list[Stimulus] = [dispatch(), Lost(1, reason(ReasonCode.MACHINE_LOST, "The plug was pulled"))]
    stimuli += [dispatch(), Cancel(), End(2, Outcome(status=Status.CANCELLED))]
    for i, stimulus in enumerate(stimuli):
        store.apply(task, stimulus, later(i))
    text = "\n".join(told(store.get(task), events=store.events(task=task)).details)
    parts = ["Attempt 1 on node-1", "Attempt 2", "submitted", "became preparing (attempt 1)", "lost its machine"]
    parts += ["The plug was pulled.", "a cancel was asked for", "became cancelled"]
    places = [text.index(part) for part in parts if part != "The plug was pulled."]
    assert places == sorted(places)
    assert "The plug was pulled." in text


def test_a_failed_attempt_is_told_with_the_last_line_that_it_printed() -> None:
    outcome = failed().model_copy(update={"stdout_tail": "step 1\nstep 2", "stderr_tail": "warning\nno such mesh\n"})
    assert any("It printed last: no such mesh" in line for line in told(ended(outcome)).details)
    outcome = failed().model_copy(update={"stdout_tail": "step 1\n" + "x" * 500})
    [line] = [line for line in told(ended(outcome)).details if "printed last" in line]
    assert line.endswith("x" * 200)
    assert "x" * 201 not in line


def test_a_task_that_is_tried_again_hears_how_many_retries_are_used() -> None:
    record = step(running(retries=3), End(1, failed()), NOW).record
    assert "1 of its 3 retries is used" in told(record, position=0).summary
    lost = step(running(retries=3), Lost(1, reason(ReasonCode.MACHINE_LOST)), NOW).record
    assert "retries" not in told(lost, position=0).summary


def test_a_task_that_waited_too_long_hears_its_limit() -> None:
    answer = told(step(queued(limits=Limits(queue=60)), Expire(), later(60)).record)
    assert "ran into its time limit" in answer.summary
    assert "limit queue, seconds 60" in answer.summary
    assert "longer limit" in (answer.next or "")
    assert "logs" not in (answer.next or "")


def test_a_full_disk_of_the_machine_is_told_from_the_tasks_own() -> None:
    own = Reason(code=ReasonCode.DISK_FULL, message="Full.", evidence={"limit": GIB, "used": 2 * GIB})
    machines = Reason(code=ReasonCode.DISK_FULL, message="Full.", evidence={"free": 5, "grew": 10})
    for why, hint in ((own, "--disk"), (machines, "machine's own disk")):
        assert hint in (told(ended(failed().model_copy(update={"reason": why}))).next or "")


def test_a_task_hears_that_a_machine_is_being_started_for_it_and_whether_one_would_do() -> None:
    def hint(*machines: Machine, most: int = 2, cpus: float = 4) -> str:
        offers = Offer(cpus=cpus, memory=8 * GIB)
        group = MachineGroup(name="local", machines=machines, machine_type="c7i.xlarge", min=0, max=most, offers=offers)
        return explain(queued(), (), 0, (group,)).next or ""

    assert "is being started" in hint()
    assert "is being started" in hint(machine(free=0))
    assert "is being started" in hint(machine(cpus=0.5))
    assert "is taken now" in hint(machine(free=0), most=1)
    assert "when its turn comes" in hint(machine(free=4))
    assert "at most 0.5 cpus" in hint(cpus=0.5)


def test_a_queued_task_hears_of_machines_that_are_set_aside() -> None:
    aside = machine().model_copy(update={"name": "node-9", "set_aside_until": later(300)})
    answer = explain(queued(), (), 0, groups(aside, machine(free=0)))
    assert "taken now" in (answer.next or "")
    assert f"node-9 is set aside until {later(300):%Y-%m-%d %H:%M:%S} UTC" in (answer.next or "")
    assert "has room" in (explain(queued(), (), 0, groups(aside, machine())).next or "")


def test_a_task_that_wants_a_whole_machine_hears_whether_one_is_empty() -> None:
    def hint(*machines: Machine) -> str:
        return explain(queued(resources=Resources(whole_machine=True)), (), 0, groups(*machines)).next or ""

    assert hint(machine(free=3)) == "It asks for a whole machine, and every machine of local has something to do now."
    assert "has room for it" in hint(machine(free=3), machine(free=4))


def test_a_task_that_asks_for_disk_hears_what_there_is() -> None:
    with_disk = machine().model_copy(update={"disk": 50 * GIB, "disk_free": 10 * GIB})

    def hint(size: int) -> str:
        return explain(queued(resources=Resources(disk=size * GIB)), (), 0, groups(with_disk)).next or ""

    assert "asks for 1 cpus, 1 GiB and 60 GiB of disk" in hint(60)
    assert "at most 4 cpus, 8 GiB and 0 GPUs and 50 GiB of disk" in hint(60)
    assert "is taken now" in hint(40)
    assert "has room" in hint(10)
    assert "has room" in hint(20), "which is the default, and nothing is kept for it"


def test_an_attempt_tells_what_its_machine_had_of_its_inputs() -> None:
    outcome = succeeded().model_copy(update={"staged": Staged(fetched=3, kept=2000)})
    done = step(running(), End(attempt=1, outcome=outcome), NOW).record
    assert any("3 B of inputs fetched and 1.953 KiB there already" in line for line in told(done).details)
