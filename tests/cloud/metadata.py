"""The metadata services, one of which each machine of a cloud finds at an address of its own network."""

from __future__ import annotations

import json
import secrets
import socketserver
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from tests.cloud.network import METADATA_ADDRESS, inside


@dataclass
class Metadata:
    """What a machine is told about itself; `notice` is when it will be taken away, once that is known."""

    instance: str
    kind: str
    zone: str
    address: str
    public: str
    market: str
    user_data: str
    needs_token: bool
    notice: datetime | None = None
    tokens: set[str] = field(default_factory=set)

    def give_notice(self, seconds: float) -> None:
        """Tell the machine that it is taken away in so many seconds."""
        self.notice = datetime.now(UTC) + timedelta(seconds=seconds)

    def answer(self, path: str) -> str | None:
        """Return what stands at a path, or None where there is nothing."""
        region = self.zone[:-1]
        told = {
            "dynamic/instance-identity/document": json.dumps(
                {
                    "instanceId": self.instance,
                    "instanceType": self.kind,
                    "availabilityZone": self.zone,
                    "region": region,
                    "privateIp": self.address,
                }
            ),
            "meta-data/instance-id": self.instance,
            "meta-data/instance-type": self.kind,
            "meta-data/instance-life-cycle": self.market,
            "meta-data/local-ipv4": self.address,
            "meta-data/public-ipv4": self.public,
            "meta-data/placement/availability-zone": self.zone,
            "meta-data/placement/region": region,
        }
        if self.user_data:
            told["user-data"] = self.user_data
        if self.notice:
            moment = self.notice.strftime("%Y-%m-%dT%H:%M:%SZ")
            told["meta-data/spot/instance-action"] = json.dumps({"action": "terminate", "time": moment})
            told["meta-data/spot/termination-time"] = moment
        return told.get(path.removeprefix("/latest/"))


@dataclass
class GoogleMetadata:
    """What a machine of Compute Engine is told about itself."""

    instance: str
    project: str
    user_data: str
    """The script that the image's agent runs when the machine boots."""
    account: str
    """The service account whose rights its programs have; empty where it has none."""
    new_token: Callable[[], dict[str, object]]
    is_preempted: bool = False

    def give_notice(self, seconds: float) -> None:
        """Tell the machine that it is taken away; when, it is not told."""
        self.is_preempted = True

    def answer(self, path: str) -> str | None:
        """Return what stands at a path, or None where there is nothing."""
        told = {
            "": "0.1/\ncomputeMetadata/\n",
            "project/project-id": self.project,
            "universe/universe-domain": "googleapis.com",
            "instance/name": self.instance,
            "instance/preempted": "TRUE" if self.is_preempted else "FALSE",
            "instance/maintenance-event": "NONE",
            "instance/attributes/startup-script": self.user_data,
        }
        if self.account:
            scopes = ["https://www.googleapis.com/auth/cloud-platform"]
            known = {"aliases": ["default"], "email": self.account, "scopes": scopes}
            for name in ("default", self.account):
                told[f"instance/service-accounts/{name}/"] = json.dumps(known)
                told[f"instance/service-accounts/{name}/email"] = self.account
                if path.split("?")[0].endswith("/token"):
                    told[f"instance/service-accounts/{name}/token"] = json.dumps(self.new_token())
        return told.get(path.split("?")[0].removeprefix("/").removeprefix("computeMetadata/v1/"))


@dataclass
class AzureMetadata:
    """What a machine of Azure is told about itself, and a token of its managed identity."""

    instance: str
    resource: str
    """The id by which the Resource Manager knows it."""
    size: str
    location: str
    user_data: str
    """The script that cloud-init runs when the machine boots."""
    new_token: Callable[[], str]
    notice: datetime | None = None

    def give_notice(self, seconds: float) -> None:
        """Tell the machine that it is taken away in so many seconds."""
        self.notice = datetime.now(UTC) + timedelta(seconds=seconds)

    def answer(self, path: str) -> str | None:
        """Return what stands at a path, or None where there is nothing."""
        place, _, _ = path.removeprefix("/metadata/").partition("?")
        if place == "identity/oauth2/token":
            until = int(datetime.now(UTC).timestamp()) + 3600
            told = {"access_token": self.new_token(), "expires_in": "3600", "expires_on": str(until)}
            return json.dumps(told | {"token_type": "Bearer", "resource": "https://management.azure.com"})
        if place == "instance":
            return json.dumps({"compute": {"name": self.instance, "vmSize": self.size, "location": self.location}})
        if place.startswith("instance/compute/"):
            return {"name": self.instance, "resourceId": self.resource}.get(place.rpartition("/")[2])
        return json.dumps({"DocumentIncarnation": 1, "Events": self._events()}) if place == "scheduledevents" else None

    def _events(self) -> list[dict[str, object]]:
        if self.notice is None:
            return []
        event = {"EventId": "1", "EventType": "Preempt", "EventStatus": "Scheduled", "ResourceType": "VirtualMachine"}
        return [event | {"Resources": [self.instance], "NotBefore": format_datetime(self.notice, usegmt=True)}]


class MetadataServer(ThreadingHTTPServer):
    """Answers inside a machine's network until it is closed."""

    daemon_threads = True

    def __init__(self, network: int, metadata: Metadata | GoogleMetadata | AzureMetadata) -> None:
        self.metadata = metadata
        with inside(network):
            super().__init__((METADATA_ADDRESS, 80), _HANDLERS[type(metadata)])
        Thread(target=self.serve_forever, daemon=True).start()

    def server_bind(self) -> None:
        """Take the address, and ask nobody for its name."""
        socketserver.TCPServer.server_bind(self)

    def close(self) -> None:
        """Stop answering; the network may go then."""
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: MetadataServer

    def do_PUT(self) -> None:
        assert isinstance(self.server.metadata, Metadata)
        if self.path != "/latest/api/token" or "X-aws-ec2-metadata-token-ttl-seconds" not in self.headers:
            return self._say(400, "")
        token = secrets.token_urlsafe()
        self.server.metadata.tokens.add(token)
        return self._say(200, token)

    def do_GET(self) -> None:
        metadata = self.server.metadata
        assert isinstance(metadata, Metadata)
        token = self.headers.get("X-aws-ec2-metadata-token")
        if (token is None and metadata.needs_token) or (token is not None and token not in metadata.tokens):
            return self._say(401, "")
        told = metadata.answer(self.path)
        return self._say(404, "") if told is None else self._say(200, told)

    def _say(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", self.content_type(text))
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def content_type(self, text: str) -> str:
        return "text/plain"

    def log_message(self, *args: object) -> None:
        pass


class _GoogleHandler(_Handler):
    def do_PUT(self) -> None:
        self._say(404, "")

    def do_GET(self) -> None:
        if self.headers.get("Metadata-Flavor") != "Google":
            return self._say(403, "")
        told = self.server.metadata.answer(self.path)
        return self._say(404, "") if told is None else self._say(200, told)

    def end_headers(self) -> None:
        self.send_header("Metadata-Flavor", "Google")
        super().end_headers()

    def content_type(self, text: str) -> str:
        # Google's client reads an answer as JSON where it is told to be.
        return "application/json" if text.startswith("{") else "application/text"


class _AzureHandler(_Handler):
    def do_PUT(self) -> None:
        self._say(404, "")

    def do_GET(self) -> None:
        if self.headers.get("Metadata") != "true":
            return self._say(400, '{"error": "Bad request. Required metadata header not specified"}')
        told = self.server.metadata.answer(self.path)
        return self._say(404, "") if told is None else self._say(200, told)

    def content_type(self, text: str) -> str:
        return "application/json; charset=utf-8" if text.startswith("{") else "text/plain; charset=utf-8"


_HANDLERS: dict[type, type[_Handler]] = {
    Metadata: _Handler,
    GoogleMetadata: _GoogleHandler,
    AzureMetadata: _AzureHandler,
}
