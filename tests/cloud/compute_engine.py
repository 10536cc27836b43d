"""Google's APIs, as far as `ray up`, the autoscaler and our own provider call them: protocol-level, in memory.

The real clients speak to it over TLS under Google's own names, which lead to it for them. It refuses what Compute
Engine is documented to refuse of what we send: names and labels with other letters than theirs, machine types written
as the other call wants them, disks that a series does not take, old fingerprints, and callers with no token.
"""

from __future__ import annotations

import ipaddress
import itertools
import json
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from werkzeug.routing import Map, Rule
from werkzeug.wrappers import Request, Response

from tests.cloud.tls import answering

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

PROJECT = "my-project"
HOSTS = ("compute", "cloudresourcemanager", "iam", "oauth2", "cloudbilling")
_ZONE = "/compute/v1/projects/<project>/zones/<zone>"
_NAME = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
_LABEL = re.compile(r"[a-z0-9_-]{0,63}")
_HYPERDISK_ONLY = ("c4-", "n4-")
_NO_STANDARD_DISK = ("c3-", "g2-", "c4-", "n4-")
_FILTER = re.compile(r"\s*(\(|\)|AND\b|OR\b|NOT\b|[\w.-]+(?:\s*=\s*[\w.-]+|:\*))")


class GoogleFault(StrEnum):
    """A way in which a call goes wrong."""

    NO_CAPACITY = "ZONE_RESOURCE_POOL_EXHAUSTED"
    """The operation fails: the zone has no machine of this type at present."""
    NO_QUOTA = "QUOTA_EXCEEDED"
    """The operation fails: the project may have no more of it."""
    QUOTA_AT_ONCE = "quotaExceeded"
    """The call is refused: the project may have no more of it."""
    NO_IMAGE = "notFound"
    """The call is refused: what the machine is to boot is not there."""
    NOT_ALLOWED = "forbidden"
    """The caller has no right to make the call."""
    BROKEN = "backendError"
    """The API itself fails."""
    LIST_EMPTY = "list-empty"
    """The list tells of no instance at all."""
    LIST_PARTIAL = "UNREACHABLE"
    """The list says that it is not all of them."""
    ANSWER_LOST = "answer-lost"
    """The call is carried out, and the connection breaks before the answer."""


@dataclass
class _Operation:
    name: str
    done_at: float
    finish: Callable[[], object]
    error: Mapping[str, Any] | None = None
    is_done: bool = False


class Refused(Exception):  # noqa: N818 - what the client is told
    """What Google answers instead."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status, self.reason = status, reason


@dataclass
class Order:
    """A fault that the next calls meet."""

    fault: GoogleFault
    action: str
    left: int
    spot_alone: bool = False
    """Whether it meets only what asks for spot machines."""


class ComputeEngine:
    """A project with one zone, as a WSGI application; `lock` is held by whoever looks into it.

    Args:
        operation_seconds: how long it takes to start or end machines.
        network: addresses for them.
    """

    def __init__(self, operation_seconds: float = 0.0, network: str = "10.200.8.0/24") -> None:
        self.lock = threading.RLock()
        self.instances: dict[str, dict[str, Any]] = {}
        self.calls: list[tuple[float, str]] = []
        """When each call came, and which it was."""
        self.orders: list[Order] = []
        self.metadata: dict[str, Any] = {"fingerprint": "0", "items": []}
        """Of the project: its SSH keys."""
        self.tokens: set[str] = set()
        self.accounts: dict[str, dict[str, Any]] = {}
        self.skus: list[dict[str, Any]] = []
        """What Cloud Billing's catalogue has of Compute Engine."""
        self.policy: dict[str, Any] = {"bindings": [], "etag": "0"}
        self._seconds = operation_seconds
        self._addresses = itertools.islice(ipaddress.ip_network(network).hosts(), 10, None)
        self._operations: dict[str, _Operation] = {}
        self._rules = Map(
            [
                Rule("/token", methods=["POST"], endpoint=self.token),
                Rule(f"{_ZONE}/instances", methods=["GET"], endpoint=self.list),
                Rule(f"{_ZONE}/instances", methods=["POST"], endpoint=self.insert),
                Rule(f"{_ZONE}/instances/bulkInsert", methods=["POST"], endpoint=self.bulk_insert),
                Rule(f"{_ZONE}/instances/<instance>", methods=["GET"], endpoint=self.get),
                Rule(f"{_ZONE}/instances/<instance>", methods=["DELETE"], endpoint=self.delete),
                Rule(f"{_ZONE}/instances/<instance>/setLabels", methods=["POST"], endpoint=self.set_labels),
                Rule(f"{_ZONE}/operations/<operation>", methods=["GET"], endpoint=self.operation),
                Rule("/compute/v1/projects/<project>", methods=["GET"], endpoint=self.project),
                Rule(
                    "/compute/v1/projects/<project>/setCommonInstanceMetadata",
                    methods=["POST"],
                    endpoint=self.set_metadata,
                ),
                Rule(
                    "/compute/v1/projects/<project>/global/operations/<operation>",
                    methods=["GET"],
                    endpoint=self.operation,
                ),
                Rule("/v1/services/6F81-5844-456A/skus", methods=["GET"], endpoint=self.list_skus),
                Rule("/v1/projects/<project>", methods=["GET"], endpoint=self.resource),
                Rule("/v1/projects/<project>:getIamPolicy", methods=["POST"], endpoint=self.get_policy),
                Rule("/v1/projects/<project>:setIamPolicy", methods=["POST"], endpoint=self.set_policy),
                Rule("/v1/projects/<project>/serviceAccounts", methods=["POST"], endpoint=self.make_account),
                Rule("/v1/projects/<project>/serviceAccounts/<email>", methods=["GET"], endpoint=self.account),
            ]
        )

    def inject(self, fault: GoogleFault, action: str, count: int = 1, *, spot_alone: bool = False) -> None:
        """Let the next calls of an action meet a fault."""
        with self.lock:
            self.orders.append(Order(fault, action, count, spot_alone))

    def stop(self, name: str) -> None:
        """Let an instance stop as if it had switched itself off: it stays, and its disk is paid for."""
        with self.lock:
            self.instances[name] |= {"status": "TERMINATED", "lastStopTimestamp": _stamp(datetime.now(UTC))}

    def take_away(self, name: str) -> None:
        """Let an instance be gone as if its cloud had taken it away and deleted it then."""
        with self.lock:
            self.instances.pop(name, None)

    def root_keys(self) -> str:
        """Return the keys with which the project's users get into all machines as root, a line each."""
        with self.lock:
            items = {item["key"]: item["value"] for item in self.metadata["items"]}
        lines = items.get("ssh-keys", "").splitlines()
        return "".join(f"{line.removeprefix('root:')}\n" for line in lines if line.startswith("root:"))

    def __call__(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        request = Request(environ)
        action, lost = "?", False
        with self.lock:
            self.settle()
            try:
                endpoint, values = self._rules.bind_to_environ(environ).match()
                action = endpoint.__name__
                self.calls.append((time.time(), action))
                if endpoint != self.token and request.headers.get("Authorization", "")[7:] not in self.tokens:
                    raise Refused(401, "authError", "Request had invalid authentication credentials.")
                if values.pop("project", PROJECT) != PROJECT:
                    raise Refused(403, "forbidden", "The caller has no such project.")
                fault = self._fault(action, request)
                if fault is GoogleFault.NOT_ALLOWED:
                    raise Refused(403, fault, f"Required 'compute.instances.{action}' permission is missing.")
                if fault is GoogleFault.QUOTA_AT_ONCE:
                    raise Refused(403, fault, "Quota 'CPUS' exceeded.  Limit: 24.0 in region europe-west4.")
                if fault is GoogleFault.NO_IMAGE:
                    raise Refused(404, fault, "The resource 'projects/p/global/images/family/simyard' was not found")
                if fault is GoogleFault.BROKEN:
                    raise Refused(503, fault, "The service is currently unavailable.")
                told = endpoint(request, fault=fault, **values)
                lost = fault is GoogleFault.ANSWER_LOST
                answer = _json(told)
            except Refused as refused:
                errors = [{"reason": refused.reason, "message": str(refused), "domain": "global"}]
                answer = _json({"error": {"code": refused.status, "message": str(refused), "errors": errors}})
                answer.status_code = refused.status
        if lost:
            with suppress(OSError):
                environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
        return answer(environ, start)

    def token(self, request: Request, fault: GoogleFault | None) -> dict[str, Any]:
        """Give a token to who signs with any key: whose it is does not matter here."""
        if "assertion" not in request.form:
            raise Refused(400, "invalid_grant", "no assertion")
        return self.new_token()

    def new_token(self) -> dict[str, Any]:
        """Return a token as the metadata server and the authorization server give it."""
        token = secrets.token_urlsafe()
        self.tokens.add(token)
        return {"access_token": token, "expires_in": 3600, "token_type": "Bearer"}

    def list(self, request: Request, zone: str, fault: GoogleFault | None) -> dict[str, Any]:
        """Answer instances.list, in pages."""
        if fault is GoogleFault.LIST_EMPTY:
            return {"kind": "compute#instanceList"}
        wanted = _parsed(request.args.get("filter", ""))
        found = [one for _, one in sorted(self.instances.items()) if wanted(one)]
        first, most = int(request.args.get("pageToken", 0)), int(request.args.get("maxResults", 500))
        told: dict[str, Any] = {"kind": "compute#instanceList", "items": found[first : first + most]}
        if len(found) > first + most:
            told["nextPageToken"] = str(first + most)
        if fault is GoogleFault.LIST_PARTIAL:
            told["warning"] = {"code": "UNREACHABLE", "message": "a part of the zone does not answer"}
        return told

    def list_skus(self, request: Request, fault: GoogleFault | None) -> dict[str, Any]:
        """Answer services.skus.list, three in a page, however many are asked for."""
        first = int(request.args.get("pageToken") or 0)
        left = len(self.skus) > first + 3
        return {"skus": self.skus[first : first + 3], "nextPageToken": str(first + 3) if left else ""}

    def get(self, request: Request, zone: str, instance: str, fault: GoogleFault | None) -> dict[str, Any]:
        """Answer instances.get."""
        return self._found(instance)

    def insert(self, request: Request, zone: str, fault: GoogleFault | None) -> dict[str, Any]:
        """Answer instances.insert: the machine is there once the operation is done."""
        body = request.get_json()
        where, _, kind = str(body.get("machineType", "")).rpartition("/machineTypes/")
        for disk in body.get("disks", ()):
            if "/" not in str(disk.get("initializeParams", {}).get("diskType", "/")):
                raise Refused(400, "invalid", "Invalid value for field 'resource.disks': must be a URL of the zone.")
        if not where.endswith(f"zones/{zone}"):
            raise Refused(400, "invalid", "Invalid value for field 'resource.machineType': must be a URL of the zone.")
        return self._start([str(body.get("name", ""))], body, kind, zone, fault)

    def bulk_insert(self, request: Request, zone: str, fault: GoogleFault | None) -> dict[str, Any]:
        """Answer instances.bulkInsert: all of the least number or none."""
        body = request.get_json()
        properties, names = body["instanceProperties"], list(body["perInstanceProperties"])
        kinds = [str(disk.get("initializeParams", {}).get("diskType", "")) for disk in properties.get("disks", ())]
        if any("/" in kind for kind in (properties["machineType"], *kinds)):
            raise Refused(400, "invalid", "Invalid value for field 'instanceProperties': a mere name is wanted.")
        if not int(body["count"]) == int(body.get("minCount", body["count"])) == len(names):
            raise Refused(400, "invalid", "this emulator gives all or none")
        return self._start(names, properties, properties["machineType"], zone, fault)

    def delete(self, request: Request, zone: str, instance: str, fault: GoogleFault | None) -> dict[str, Any]:
        """Answer instances.delete: the machine stops at once and is gone when the operation is done."""
        self._found(instance)["status"] = "STOPPING"
        return self._operate(lambda: self.instances.pop(instance, None))

    def set_labels(self, request: Request, zone: str, instance: str, fault: GoogleFault | None) -> dict[str, Any]:
        """Answer instances.setLabels."""
        found, body = self._found(instance), request.get_json()
        if body.get("labelFingerprint") != found["labelFingerprint"]:
            raise Refused(412, "conditionNotMet", "Labels fingerprint either invalid or resource labels have changed")
        _check_labels(body["labels"])
        found |= {"labels": body["labels"], "labelFingerprint": secrets.token_hex(4)}
        return self._operate(lambda: None)

    def operation(self, request: Request, operation: str, fault: GoogleFault | None, zone: str = "") -> dict[str, Any]:
        """Answer zoneOperations.get and globalOperations.get."""
        if (found := self._operations.get(operation)) is None:
            raise Refused(404, "notFound", f"The resource {operation!r} was not found")
        return self._told(found)

    def project(self, request: Request, fault: GoogleFault | None) -> dict[str, Any]:
        """Answer projects.get of Compute Engine."""
        return {"kind": "compute#project", "name": PROJECT, "commonInstanceMetadata": self.metadata}

    def set_metadata(self, request: Request, fault: GoogleFault | None) -> dict[str, Any]:
        """Answer projects.setCommonInstanceMetadata."""
        body = request.get_json()
        if body.get("fingerprint") != self.metadata["fingerprint"]:
            raise Refused(412, "conditionNotMet", "Supplied fingerprint does not match current metadata fingerprint.")
        self.metadata = {"fingerprint": secrets.token_hex(4), "items": body.get("items", [])}
        return self._operate(lambda: None)

    def resource(self, request: Request, fault: GoogleFault | None) -> dict[str, Any]:
        """Answer projects.get of the Resource Manager."""
        return {"projectId": PROJECT, "name": PROJECT, "lifecycleState": "ACTIVE"}

    def get_policy(self, request: Request, fault: GoogleFault | None) -> dict[str, Any]:
        """Answer projects.getIamPolicy."""
        return self.policy

    def set_policy(self, request: Request, fault: GoogleFault | None) -> dict[str, Any]:
        """Answer projects.setIamPolicy."""
        self.policy = request.get_json()["policy"]
        return self.policy

    def make_account(self, request: Request, fault: GoogleFault | None) -> dict[str, Any]:
        """Answer serviceAccounts.create."""
        email = f"{request.get_json()['accountId']}@{PROJECT}.iam.gserviceaccount.com"
        self.accounts[email] = {"email": email, "projectId": PROJECT}
        return self.accounts[email]

    def account(self, request: Request, email: str, fault: GoogleFault | None) -> dict[str, Any]:
        """Answer serviceAccounts.get."""
        if email not in self.accounts:
            raise Refused(404, "notFound", "Unknown service account")
        return self.accounts[email]

    def _found(self, name: str) -> dict[str, Any]:
        if name not in self.instances:
            raise Refused(404, "notFound", f"The resource {name!r} was not found")
        return self.instances[name]

    def _start(
        self, names: list[str], config: Mapping[str, Any], kind: str, zone: str, fault: GoogleFault | None
    ) -> dict[str, Any]:
        labels = config.get("labels", {})
        _check_labels(labels)
        _check_disks(config, kind)
        for name in names:
            if not _NAME.fullmatch(name):
                raise Refused(400, "invalid", f"Invalid value for field 'resource.name': {name!r}")
            if name in self.instances:
                raise Refused(409, "alreadyExists", f"The resource {name!r} already exists")
        if fault in (GoogleFault.NO_CAPACITY, GoogleFault.NO_QUOTA):
            message = f"The zone '{zone}' does not have enough resources available to fulfill the request."
            if fault is GoogleFault.NO_QUOTA:
                message = "Quota 'CPUS' exceeded.  Limit: 24.0 in region europe-west4."
            return self._operate(lambda: None, {"errors": [{"code": fault.value, "message": message}]})
        link = f"https://www.googleapis.com/compute/v1/projects/{PROJECT}/zones/{zone}"
        for name in names:
            self.instances[name] = {
                "kind": "compute#instance",
                "id": str(secrets.randbits(60)),
                "name": name,
                "status": "PROVISIONING",
                "creationTimestamp": _stamp(datetime.now(UTC)),
                "zone": link,
                "machineType": f"{link}/machineTypes/{kind}",
                "labels": labels,
                "labelFingerprint": secrets.token_hex(4),
                "scheduling": config.get("scheduling", {"provisioningModel": "STANDARD"}),
                "metadata": config.get("metadata", {}),
                "disks": config.get("disks", []),
                "serviceAccounts": config.get("serviceAccounts", []),
                "networkInterfaces": [{"name": "nic0", "networkIP": str(next(self._addresses))}],
            }

        def run() -> None:
            for name in names:
                if (one := self.instances.get(name)) is not None and one["status"] == "PROVISIONING":
                    one["status"] = "RUNNING"

        return self._operate(run)

    def _operate(self, finish: Callable[[], object], error: Mapping[str, Any] | None = None) -> dict[str, Any]:
        name = f"operation-{secrets.token_hex(8)}"
        self._operations[name] = _Operation(name, time.monotonic() + self._seconds, finish, error)
        # The answer to the call itself never says more: the operation must be asked.
        return {"kind": "compute#operation", "name": name, "status": "RUNNING"}

    def _told(self, one: _Operation) -> dict[str, Any]:
        told: dict[str, Any] = {"kind": "compute#operation", "name": one.name}
        told["status"] = "DONE" if one.is_done else "RUNNING"
        return told | ({"error": one.error} if one.is_done and one.error is not None else {})

    def settle(self) -> None:
        """Let operations be done whose time has come."""
        for one in self._operations.values():
            if not one.is_done and time.monotonic() >= one.done_at:
                one.is_done = True
                one.finish()

    def _fault(self, action: str, request: Request) -> GoogleFault | None:
        for order in self.orders:
            fits = not order.spot_alone or '"SPOT"' in request.get_data(as_text=True)
            if order.action == action and order.left > 0 and fits:
                order.left -= 1
                return order.fault
        return None


def _json(told: object) -> Response:
    return Response(json.dumps(told), content_type="application/json; charset=UTF-8")


def _stamp(moment: datetime) -> str:
    """Write a moment as Compute Engine does: with milliseconds, in California."""
    there = moment - timedelta(hours=8)
    return f"{there:%Y-%m-%dT%H:%M:%S}.{there.microsecond // 1000:03}-08:00"


def _check_labels(labels: Mapping[str, str]) -> None:
    for name, value in labels.items():
        if not _NAME.fullmatch(name) or not _LABEL.fullmatch(value):
            raise Refused(400, "invalid", f"Invalid value for field 'resource.labels': '{name}: {value}'")


def _check_disks(config: Mapping[str, Any], kind: str) -> None:
    for disk in config.get("disks", ()):
        # Left out it is pd-standard.
        type_ = str((disk.get("initializeParams") or {}).get("diskType", "pd-standard")).rpartition("/")[2]
        wrong = (type_ == "pd-standard" and kind.startswith(_NO_STANDARD_DISK)) or (
            type_.startswith("pd-") == kind.startswith(_HYPERDISK_ONLY)
        )
        if wrong:
            message = f"[{type_}] features are not compatible for creating instance with machine type {kind}."
            raise Refused(400, "badRequest", message)


def _parsed(text: str) -> Callable[[Mapping[str, Any]], bool]:
    """Return the test that a filter of a list is."""
    tokens = _FILTER.findall(text)
    if "".join(tokens).replace(" ", "") != text.replace(" ", ""):
        raise Refused(400, "invalid", f"Invalid value for field 'filter': {text!r}")

    def either() -> Callable[[Mapping[str, Any]], bool]:
        found = [both()]
        while tokens and tokens[0] == "OR":
            tokens.pop(0)
            found.append(both())
        return lambda one: any(test(one) for test in found)

    def both() -> Callable[[Mapping[str, Any]], bool]:
        found = [single()]
        while tokens and tokens[0] == "AND":
            tokens.pop(0)
            found.append(single())
        return lambda one: all(test(one) for test in found)

    def single() -> Callable[[Mapping[str, Any]], bool]:
        token = tokens.pop(0)
        if token == "NOT":
            inner = single()
            return lambda one: not inner(one)
        if token == "(":
            inner = either()
            tokens.pop(0)
            return inner
        path, wanted = (part.strip() for part in re.split(r"=|:", token, maxsplit=1))

        def test(one: Mapping[str, Any]) -> bool:
            value: Any = one
            for part in path.split(".", 1):
                value = value.get(part) if isinstance(value, Mapping) else None
            return value is not None if wanted == "*" else value == wanted

        return test

    return either() if tokens else lambda _: True


def sku(description: str, dollars: float, market: str, *regions: str) -> dict[str, Any]:
    """Return what Cloud Billing's catalogue has of something that is sold."""
    units, nanos = divmod(round(dollars * 1e9), 10**9)
    price = {"currencyCode": "USD", "units": str(units), "nanos": nanos}
    return {
        "description": description,
        "category": {"resourceFamily": "Compute", "usageType": market},
        "serviceRegions": list(regions),
        "pricingInfo": [{"pricingExpression": {"tieredRates": [{"startUsageAmount": 0, "unitPrice": price}]}}],
    }


@dataclass(frozen=True)
class Google:
    """Google as its clients see it."""

    engine: ComputeEngine
    address: tuple[str, int]
    """Where it answers over TLS, whatever host it is asked for."""
    authority: Path
    """The certificate of who vouches for it."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Lets clients trust it, and gives them the key of a service account."""


@contextmanager
def running_google(engine: ComputeEngine, folder: Path, host: str = "127.0.0.1", port: int = 0) -> Iterator[Google]:
    """Let an emulator answer over TLS as all of Google's names do; the folder gets its certificates."""
    account = folder / "account.json"
    account.write_text(json.dumps(_account()))
    with answering(engine, folder, [f"{name}.googleapis.com" for name in HOSTS], host, port) as (address, authority):
        environment = {"HTTPLIB2_CA_CERTS": str(authority), "GOOGLE_APPLICATION_CREDENTIALS": str(account)}
        yield Google(engine, address, authority, environment)


def lead_to(google: Google, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process find Google there, as `/etc/hosts` does for a machine, with a key of a service account."""
    resolve, connect = socket.getaddrinfo, socket.socket.connect
    names = {f"{name}.googleapis.com" for name in HOSTS}

    def resolved(host: Any, *more: Any, **others: Any) -> Any:
        return resolve(google.address[0] if host in names else host, *more, **others)

    def connected(self: socket.socket, address: Any) -> None:
        connect(self, google.address if address[0] in names else address)

    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    monkeypatch.setattr(socket.socket, "connect", connected)
    monkeypatch.setattr("httplib2.CA_CERTS", str(google.authority))
    for name, value in google.environment.items():
        monkeypatch.setenv(name, value)


def _account() -> dict[str, str]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    return {
        "type": "service_account",
        "project_id": PROJECT,
        "private_key_id": "1",
        "private_key": pem,
        "client_email": f"operator@{PROJECT}.iam.gserviceaccount.com",
        "token_uri": "https://oauth2.googleapis.com/token",
    }
