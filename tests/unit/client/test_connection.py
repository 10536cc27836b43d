from __future__ import annotations

import httpx
import pytest
from pydantic import SecretStr

from simyard import errors
from simyard.client import Health
from simyard.connection import Connection
from simyard.profile import Profile
from tests.unit.client.wire import KEY, STORAGE, URL, Clock, connection, problem


def _script(*steps: httpx.Response | Exception) -> tuple[list[httpx.Request], object]:
    seen: list[httpx.Request] = []
    left = list(steps)

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        step = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(step, Exception):
            raise step
        return httpx.Response(step.status_code, content=step.content, headers=step.headers)

    return seen, handler


@pytest.mark.parametrize("busy", [429, 502, 503, 504])
def test_busy_answers_are_asked_again(busy: int) -> None:
    clock = Clock()
    seen, handler = _script(httpx.Response(busy), httpx.Response(busy), httpx.Response(200, json={"a": 1}))
    assert connection(handler, clock).request("GET", "/v1/x").json() == {"a": 1}
    assert len(seen) == 3
    assert clock.pauses == [0.1, 0.2]


@pytest.mark.parametrize("error", [httpx.ConnectError("no"), httpx.ReadError(""), httpx.ReadTimeout("slow")])
def test_network_failures_are_tried_again(error: Exception) -> None:
    seen, handler = _script(error, httpx.Response(200))
    connection(handler).request("GET", "/v1/x")
    assert len(seen) == 2


def test_a_server_that_never_answered_is_given_up_soon_with_what_to_do() -> None:
    clock = Clock()
    _, handler = _script(httpx.ConnectError("refused"))
    with pytest.raises(errors.Unavailable, match=r"simyard up.*simyard login URL"):
        connection(handler, clock).request("GET", "/v1/x")
    assert 1 < sum(clock.pauses) < 2


def test_a_server_that_has_answered_is_waited_for_a_minute() -> None:
    clock = Clock()
    _, handler = _script(httpx.Response(200), httpx.ConnectError("refused"))
    asked = connection(handler, clock)
    asked.request("GET", "/v1/x")
    with pytest.raises(errors.Unavailable):
        asked.request("GET", "/v1/x")
    assert 55 < sum(clock.pauses) < 65
    assert max(clock.pauses) <= 5


def test_the_server_says_when_to_come_back() -> None:
    clock = Clock()
    _, handler = _script(httpx.Response(200), httpx.Response(503, headers={"Retry-After": "7"}), httpx.Response(200))
    asked = connection(handler, clock)
    asked.request("GET", "/v1/x")
    asked.request("GET", "/v1/x")
    assert clock.pauses == [7]


def test_what_could_be_done_twice_is_not_tried_again() -> None:
    seen, handler = _script(httpx.ReadError("gone"), httpx.Response(200))
    with pytest.raises(errors.Unavailable):
        connection(handler).request("POST", "/v1/x", body=b"{}")
    assert len(seen) == 1


def test_an_idempotency_key_makes_it_safe() -> None:
    seen, handler = _script(httpx.ReadError("gone"), httpx.Response(200))
    connection(handler).request("POST", "/v1/x", body=b"{}", headers={"Idempotency-Key": "k"})
    assert [request.headers["Idempotency-Key"] for request in seen] == ["k", "k"]


def test_each_try_has_a_fresh_body() -> None:
    bodies: list[bytes] = []

    def handler(request: httpx.Request) -> httpx.Response:
        bodies.append(request.content)
        return httpx.Response(503 if len(bodies) == 1 else 200)

    connection(handler).request("PUT", "/v1/x", body=lambda: iter([b"a", b"b"]), headers={"Content-Length": "2"})
    assert bodies == [b"ab", b"ab"]


@pytest.mark.parametrize(
    ("status", "kind", "error"),
    [
        (401, "unauthorized", errors.Unauthorized),
        (404, "not-found", errors.NotFound),
        (409, "conflict", errors.Conflict),
        (413, "too-large", errors.TooLarge),
        (422, "invalid-input", errors.InvalidInput),
        (422, "a-kind-of-tomorrow", errors.InvalidInput),
        (403, "forbidden", errors.Unauthorized),
        (500, "internal", errors.SimyardError),
    ],
)
def test_problems_become_errors_with_all_they_say(status: int, kind: str, error: type[errors.SimyardError]) -> None:
    seen, handler = _script(problem(status, kind, "It is so.", field="a.b", fix="Do this."))
    with pytest.raises(error) as caught:
        connection(handler).request("GET", "/v1/x")
    assert str(caught.value) == "a.b: It is so. Do this."
    assert len(seen) == 1


@pytest.mark.parametrize("body", [b"<html>nginx</html>", b"", b"\xff\xfe", b'{"detail": "Not Found"}', b"[]"])
def test_answers_of_something_else_are_told_by_their_status(body: bytes) -> None:
    _, handler = _script(httpx.Response(404, content=body))
    with pytest.raises(errors.NotFound, match="404 Not Found"):
        connection(handler).request("GET", "/v1/x")


def test_a_proxy_that_does_not_know_the_server_yet_is_asked_again() -> None:
    said = "Path '/v1/x' not found. Ping http://.../-/routes for available routes."
    seen, handler = _script(httpx.Response(404, text=said), httpx.Response(200))
    connection(handler).request("GET", "/v1/x")
    assert len(seen) == 2
    seen, handler = _script(problem(404, "not-found", said), httpx.Response(200))
    with pytest.raises(errors.NotFound):
        connection(handler).request("GET", "/v1/x")


def test_a_redirect_says_where_it_leads_but_not_its_secrets() -> None:
    _, handler = _script(httpx.Response(302, headers={"Location": "https://other.test/login?token=abc"}))
    with pytest.raises(errors.Unavailable, match=r"https://other\.test") as caught:
        connection(handler).request("GET", "/v1/x", repeatable=False)
    assert "abc" not in str(caught.value)


def test_only_the_server_itself_gets_the_key() -> None:
    seen, handler = _script(httpx.Response(200))
    asked = connection(handler, url=URL + "/prefix")
    for place in ("/v1/x", f"{STORAGE}/b?sig=1", f"{URL}:81/x", "https://yard.test/x"):
        asked.request("GET", place)
    assert str(seen[0].url) == f"{URL}/prefix/v1/x"
    assert [request.headers.get("Authorization") for request in seen] == [f"Bearer {KEY}", None, None, None]


def test_a_signed_address_does_not_show_in_errors() -> None:
    _, handler = _script(httpx.ConnectError("refused"))
    with pytest.raises(errors.Unavailable) as caught:
        connection(handler).request("GET", f"{STORAGE}/b?X-Amz-Signature=abc")
    assert "abc" not in str(caught.value)


def test_unknown_fields_of_a_newer_server_are_left_out() -> None:
    _, handler = _script(httpx.Response(200, json={"status": "ok", "version": "9", "new": 1}))
    assert connection(handler).ask(Health, "GET", "/v1/health").version == "9"


def test_an_answer_of_another_program_is_not_believed() -> None:
    _, handler = _script(httpx.Response(200, content=b"<html>"))
    with pytest.raises(errors.SimyardError, match="does not understand"):
        connection(handler).ask(Health, "GET", "/v1/health")


def test_a_garbled_encoding_is_damage() -> None:
    def handler(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"Content-Encoding": "gzip"}, stream=httpx.ByteStream(b"not gzip"))

    with pytest.raises(errors.Damaged):
        connection(handler).request("GET", "/v1/x")


@pytest.mark.parametrize("key", ["sy_é", "sy_a b", "sy_a\n"])
def test_a_key_that_no_header_can_carry_is_refused_before_anything_is_sent(key: str) -> None:
    with pytest.raises(errors.Unauthorized) as refused:
        Connection(Profile(url=URL, key=SecretStr(key)))
    assert key not in str(refused.value)
