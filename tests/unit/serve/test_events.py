from __future__ import annotations

from pathlib import Path

from simyard.event import Event
from tests.unit.serve.face import Face


def parse(text: str) -> list[Event]:
    """Return the events of a stream, after checking each one's id and kind."""
    events = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if "data" in fields:
            event = Event.model_validate_json(fields["data"])
            assert (fields["id"], fields["event"]) == (str(event.seq), event.kind)
            events.append(event)
    return events


def test_the_stream_of_a_task_that_has_ended_tells_all_and_ends(face: Face, tmp_path: Path) -> None:
    task = face.submit()
    face.submit()
    face.finish(task, tmp_path, {})
    answer = face.get(f"/v1/tasks/{task}/events")
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = parse(answer.text)
    assert [event.status for event in events] == ["queued", "preparing", "running", "finalizing", "succeeded"]
    assert {event.task for event in events} == {task}


def test_a_stream_resumes_after_an_event(face: Face, tmp_path: Path) -> None:
    task = face.submit()
    face.finish(task, tmp_path, {})
    events = parse(face.get(f"/v1/tasks/{task}/events").text)
    url = f"/v1/tasks/{task}/events"
    assert parse(face.get(url, headers={"Last-Event-ID": str(events[1].seq)}).text) == events[2:]
    assert parse(face.get(f"{url}?after={events[3].seq}").text) == events[4:]
    assert parse(face.get(url, headers={"Last-Event-ID": str(events[-1].seq)}).text) == []


def test_events_come_as_json_without_waiting(face: Face) -> None:
    task = face.submit()
    face.run(task)
    answer = face.get(f"/v1/tasks/{task}/events?limit=2", headers={"Accept": "application/json"})
    body = answer.json()
    assert [event["status"] for event in body["events"]] == ["queued", "preparing"]


def test_a_task_with_many_events_is_told_whole(face: Face, tmp_path: Path) -> None:
    from simyard.reason import Reason, ReasonCode
    from tasks.stimulus import Wait

    task = face.submit()
    for i in range(1200):
        code = (ReasonCode.GROUP_FULL, ReasonCode.NO_MACHINE_YET)[i % 2]
        face.store.apply(task, Wait(Reason(code=code, message=str(i))), face.clock.now)
    face.finish(task, tmp_path, {})
    events = parse(face.get(f"/v1/tasks/{task}/events").text)
    assert len(events) == 1000
    assert events[-1].status == "succeeded"
