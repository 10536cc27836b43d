"""What may go wrong with calls of the cloud's API, in front of the emulator that answers them."""

from __future__ import annotations

import contextlib
import io
import re
import socket
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlencode

from werkzeug.wrappers import Response

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_LATE_SECONDS = 90.0
"""Longer than AWS's clients wait for an answer."""


class Fault(StrEnum):
    """A way in which a call goes wrong."""

    NO_CAPACITY = "InsufficientInstanceCapacity"
    """No machine of this type is to be had at present; nothing is launched."""
    NO_QUOTA = "VcpuLimitExceeded"
    """The account may have no more machines; nothing is launched."""
    NO_SPOT_QUOTA = "MaxSpotInstanceCountExceeded"
    """The account may have no more spot machines; nothing is launched."""
    NOT_ALLOWED = "UnauthorizedOperation"
    """The caller has no right to make the call; nothing is done."""
    THROTTLED = "RequestLimitExceeded"
    """There were too many calls; nothing is done."""
    BROKEN = "InternalError"
    """The API itself fails; nothing is done."""
    ANSWER_LOST = "answer-lost"
    """The call is carried out, and the connection breaks before the answer."""
    ANSWER_LATE = "answer-late"
    """The call is carried out, and the answer comes after the client has ceased to wait."""
    FEWER = "fewer"
    """One machine is launched where more were asked for, and none where fewer than all would not do."""
    HANGS_AT_BOOT = "hangs-at-boot"
    """Machines are launched and told as running, and do not boot."""
    LIST_EMPTY = "list-empty"
    """DescribeInstances tells of no instance at all."""
    LIST_STALE = "list-stale"
    """DescribeInstances answers as it did when the same was last asked."""

    @property
    def action(self) -> str:
        """The call that goes wrong, unless another is named."""
        return "DescribeInstances" if self in (Fault.LIST_EMPTY, Fault.LIST_STALE) else "RunInstances"


_STATUS = {
    Fault.NO_CAPACITY: 500,
    Fault.NO_QUOTA: 400,
    Fault.NO_SPOT_QUOTA: 400,
    Fault.NOT_ALLOWED: 403,
    Fault.THROTTLED: 503,
    Fault.BROKEN: 500,
}
_NO_INSTANCES = (
    '<DescribeInstancesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">'
    "<requestId>00000000-0000-0000-0000-000000000000</requestId><reservationSet/></DescribeInstancesResponse>"
)


@dataclass
class Order:
    """A fault that the next calls meet: `left` of them, only those of the action whose parameters are as in `where`."""

    fault: Fault
    left: int
    action: str
    where: Mapping[str, str] = field(default_factory=dict)

    def fits(self, asked: Mapping[str, str]) -> bool:
        """Say whether a call meets this fault."""
        return (
            self.left > 0
            and asked["Action"] == self.action
            and all(asked.get(name) == value for name, value in self.where.items())
        )


@dataclass(frozen=True)
class Call:
    """A call of the API: when it came, what it asked for, and the HTTP status that it was answered (0 for none)."""

    at: float
    action: str
    parameters: Mapping[str, str]
    status: int


class FaultyApi:
    """The emulator's API with faults in front of it; answers other services' calls as they come.

    `lock` is held while the emulator works at a call: whoever looks into it holds the lock too.
    """

    def __init__(self, emulator: WSGIApplication) -> None:
        self.lock = threading.Lock()
        self.orders: list[Order] = []
        self.calls: list[Call] = []
        self.hanging: set[str] = set()
        """The ids of instances that do not boot."""
        self._emulator = emulator
        self._answers: dict[str, Response] = {}

    def __call__(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        if "/ec2/" not in environ.get("HTTP_AUTHORIZATION", ""):
            return self._emulator(environ, start)
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)).decode()
        asked = {name: values[-1] for name, values in parse_qs(body, keep_blank_values=True).items()}
        with self.lock:
            order = next((order for order in self.orders if order.fits(asked)), None)
            if order is not None:
                order.left -= 1
            fault = order.fault if order else None
            response = self._answered(fault, asked, environ)
            lost = fault in (Fault.ANSWER_LOST, Fault.ANSWER_LATE)
            self.calls.append(Call(time.time(), asked["Action"], asked, 0 if lost else response.status_code))
        if fault is Fault.ANSWER_LATE:
            time.sleep(_LATE_SECONDS)
        if lost:
            with contextlib.suppress(OSError):  # the client may have closed it
                environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
        return response(environ, start)

    def _answered(self, fault: Fault | None, asked: Mapping[str, str], environ: WSGIEnvironment) -> Response:
        if fault in _STATUS:
            return _refusal(fault)
        if fault is Fault.FEWER and int(asked["MinCount"]) > 1:
            return _refusal(Fault.NO_CAPACITY)
        if fault is Fault.LIST_EMPTY:
            return Response(_NO_INSTANCES, content_type="text/xml")
        # The emulator forgets which launches it has carried out; the real API does not.
        same = asked.get("ClientToken") or urlencode(asked)
        known = self._answers.get(same)
        if known is not None and ("ClientToken" in asked or fault is Fault.LIST_STALE):
            return known
        sent = dict(asked)
        if asked["Action"] == "RunInstances":
            # The emulator launches as few as it may, the real API as many as it can.
            sent["MinCount"] = sent["MaxCount"] = "1" if fault is Fault.FEWER else asked["MaxCount"]
        response = self._from_emulator(sent, environ)
        if response.status_code == 200 and asked["Action"] in ("RunInstances", "DescribeInstances"):
            self._answers[same] = response
        if fault is Fault.HANGS_AT_BOOT:
            self.hanging.update(re.findall(r"<instanceId>(i-\w+)</instanceId>", response.get_data(as_text=True)))
        return response

    def _from_emulator(self, asked: Mapping[str, str], environ: WSGIEnvironment) -> Response:
        body = urlencode(asked).encode()
        return Response.from_app(
            self._emulator,
            {**environ, "wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body))},
            buffered=True,
        )


def _refusal(fault: Fault) -> Response:
    text = f"<Code>{fault.value}</Code><Message>a test has asked for it: {fault.name}</Message>"
    return Response(
        f"<Response><Errors><Error>{text}</Error></Errors><RequestID>0</RequestID></Response>",
        status=_STATUS[fault],
        content_type="text/xml",
    )
