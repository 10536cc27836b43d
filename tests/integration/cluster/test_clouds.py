"""What a machine hears of its cloud, from servers that speak the clouds' protocols."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from cluster.clouds import Aws, Azure, Cloud, Gcp, cloud_named

Answer = tuple[int, str]


class Service(ThreadingHTTPServer):
    """A metadata service on the loopback: `told` is what it says to those who send the header that it `needs`."""

    daemon_threads = True

    def __init__(self, told: dict[str, str], needs: tuple[str, str], refusal: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.told, self.needs, self.refusal = told, needs, refusal
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Service

    def do_PUT(self) -> None:
        """Give the token by which version 2 of EC2's service is asked."""
        wanted = self.path == "/latest/api/token" and "X-aws-ec2-metadata-token-ttl-seconds" in self.headers
        self._say(*((200, "token") if wanted else (400, "")))

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        name, value = self.server.needs
        if self.headers.get(name) != value:
            return self._say(self.server.refusal, "")
        told = self.server.told.get(self.path)
        return self._say(404, "") if told is None else self._say(200, told)

    def _say(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def serving(told: dict[str, str], needs: tuple[str, str], refusal: int = 403) -> Iterator[Service]:
    with Service(told, needs, refusal) as service:
        thread = Thread(target=service.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield service
        finally:
            service.shutdown()
            thread.join()


def in_seconds(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


EC2 = ("X-aws-ec2-metadata-token", "token")
GOOGLE = ("Metadata-Flavor", "Google")
AZURE = ("Metadata", "true")
INSTANCE = "/computeMetadata/v1/instance"
EVENTS = "/metadata/scheduledevents?api-version=2020-07-01"
NAME = "/metadata/instance/compute/name?api-version=2021-02-01&format=text"


def test_ec2_tells_spot_machines_when_they_are_taken_away() -> None:
    told = {"/latest/meta-data/instance-id": "i-1", "/latest/meta-data/instance-life-cycle": "spot"}
    with serving(told, EC2, 401) as service:
        cloud = Aws(service.url)
        assert (cloud.machine_id(), cloud.is_watched(), cloud.notice()) == ("i-1", True, None)
        notice = {"action": "terminate", "time": in_seconds(90).strftime("%Y-%m-%dT%H:%M:%SZ")}
        told["/latest/meta-data/spot/instance-action"] = json.dumps(notice)
        left = cloud.notice()
        assert left is not None
        assert 80 < left <= 90
        told["/latest/meta-data/spot/instance-action"] = '{"action": "terminate", "time": "soon"}'
        assert cloud.notice() == 120
        told["/latest/meta-data/instance-life-cycle"] = "on-demand"
        assert not cloud.is_watched()


def test_compute_engine_gives_preempted_machines_half_a_minute_and_says_of_maintenance_whether_it_ends_them() -> None:
    told = {
        f"{INSTANCE}/name": "ray-simyard-worker-1a2b-compute",
        f"{INSTANCE}/preempted": "FALSE",
        f"{INSTANCE}/maintenance-event": "NONE",
    }
    with serving(told, GOOGLE) as service:
        cloud = Gcp(service.url)
        assert cloud.machine_id() == "ray-simyard-worker-1a2b-compute"
        assert cloud.is_watched()
        assert cloud.notice() is None
        told[f"{INSTANCE}/maintenance-event"] = "MIGRATE_ON_HOST_MAINTENANCE"
        assert cloud.notice() is None, "it is moved, and goes on"
        told[f"{INSTANCE}/maintenance-event"] = "TERMINATE_ON_HOST_MAINTENANCE"
        assert cloud.notice() == 60
        told[f"{INSTANCE}/preempted"] = "TRUE"
        assert cloud.notice() == 30


def test_azure_tells_of_events_and_only_those_that_end_this_machine_count() -> None:
    told = {NAME: "ray-simyard-worker-0"}

    def tell(kind: str, *machines: str, at: str = "") -> None:
        event = {"EventType": kind, "Resources": list(machines), "EventStatus": "Scheduled", "NotBefore": at}
        told[EVENTS] = json.dumps({"DocumentIncarnation": 1, "Events": [event]})

    with serving(told, AZURE, 400) as service:
        cloud = Azure(service.url)
        assert (cloud.machine_id(), cloud.is_watched(), cloud.notice()) == ("ray-simyard-worker-0", True, None)
        tell("Preempt", "ray-simyard-worker-1")
        assert cloud.notice() is None, "that is another machine"
        tell("Freeze", "ray-simyard-worker-0")
        assert cloud.notice() is None, "it only pauses"
        tell("Preempt", "ray-simyard-worker-1", "ray-simyard-worker-0")
        assert cloud.notice() == 30
        tell("Terminate", "ray-simyard-worker-0", at=format_datetime(in_seconds(300), usegmt=True))
        left = cloud.notice()
        assert left is not None
        assert 290 < left <= 300
        told[EVENTS] = "no JSON"
        assert cloud.notice() is None


@pytest.mark.parametrize("made", [Aws, Azure, Gcp])
def test_a_cloud_that_does_not_answer_or_refuses_says_nothing_and_nothing_breaks(made: Callable[[str], Cloud]) -> None:
    with serving({}, ("nobody", "has it"), 500) as service:
        for cloud in (made(service.url), made("http://127.0.0.1:9")):
            assert (cloud.machine_id(), cloud.is_watched(), cloud.notice()) == (None, False, None)


def test_each_cloud_has_its_name() -> None:
    assert {type(cloud_named(name)) for name in ("aws", "azure", "gcp")} == {Aws, Azure, Gcp}
