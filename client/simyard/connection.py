"""Requests to the server: repeated where that is safe, with timeouts, and with errors in our words."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self, TypeVar

import httpx
from pydantic import BaseModel, SecretStr, ValidationError

from simyard import errors
from simyard.backoff import Backoff, Patience
from simyard.problem import Problem, error_of
from simyard.profile import START, Profile, is_loopback, normal_url

M = TypeVar("M", bound=BaseModel)
Body = bytes | Callable[[], Iterable[bytes]]
"""The bytes of a request, or what makes them afresh for each try."""

TIMEOUT = httpx.Timeout(connect=10.0, read=60.0, write=60.0, pool=120.0)
_SAFE = frozenset({"GET", "HEAD", "PUT", "DELETE"})
_BUSY = frozenset({408, 429, 502, 503, 504})
_BY_STATUS: dict[int, type[errors.SimyardError]] = {
    400: errors.InvalidInput,
    401: errors.Unauthorized,
    403: errors.Unauthorized,
    404: errors.NotFound,
    409: errors.Conflict,
    410: errors.NotFound,
    413: errors.TooLarge,
    422: errors.InvalidInput,
}


_ROUTELESS = re.compile(rb"Path .* not found\. Ping \S*/-/routes .*", re.DOTALL)
"""What the proxy in front of a server says of every path while the server behind it is being started anew."""


class _Busy(errors.Unavailable):
    """The server asks to come back later."""

    def __init__(self, error: errors.SimyardError, after: float | None) -> None:
        super().__init__(error.reason, field=error.field, fix=error.fix)
        self.after = after


class Connection:
    """A server, the key for it, and the connections that are kept open to it; safe to use from many threads."""

    def __init__(
        self, profile: Profile, *, transport: httpx.BaseTransport | None = None, patience: Patience | None = None
    ) -> None:
        """Open nothing yet.

        Raises:
            InvalidInput: the address is not one.
            Unauthorized: the key holds what no key does, and no header could carry.
        """
        self.url = normal_url(profile.url)
        if profile.secret is not None and re.fullmatch("[!-~]+", profile.secret) is None:
            raise errors.Unauthorized("This is not an API key of Simyard.", fix="Sign in with `simyard login URL`.")
        self.patience = patience or Patience()
        self._key: SecretStr | None = profile.key
        self._origin = _origin(httpx.URL(self.url))
        self._reached = False
        self._http = httpx.Client(
            timeout=TIMEOUT,
            limits=httpx.Limits(max_connections=64, max_keepalive_connections=32),
            transport=transport,
            # A proxy cannot reach this machine's own loopback.
            trust_env=not is_loopback(self.url),
            headers={"User-Agent": "simyard-client"},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection."""
        self._http.close()

    def locate(self, place: str) -> httpx.URL:
        """Return the full address of a path of the API, or of an address that the server gave."""
        return httpx.URL(self.url + place if place.startswith("/") else place)

    def backoff(self) -> Backoff:
        """Return the pauses for one piece of work."""
        return Backoff(self.patience, lambda: self.patience.later if self._reached else self.patience.first)

    def ask(self, model: type[M], method: str, place: str, **options: Any) -> M:
        """Return the answer to a request as a type; fields that this client does not know are left out.

        Raises:
            SimyardError: as `request`, or the answer is not what a Simyard server says.
        """
        answer = self.request(method, place, **options)
        try:
            return model.model_validate_json(answer.content, extra="ignore")
        except ValidationError as error:
            raise errors.SimyardError(
                f"{self.url} answered with something that this client does not understand.",
                fix="Check that it is the address of a Simyard server, and that its version fits this client's.",
            ) from error

    def request(
        self,
        method: str,
        place: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: Body | None = None,
        headers: Mapping[str, str] | None = None,
        repeatable: bool | None = None,
        timeout: float | None = None,
    ) -> httpx.Response:
        """Return the answer to a request, with its body read.

        It is repeated after network failures and busy answers where that cannot do anything twice: by its method, by an
        idempotency key, or because the caller says so.

        Raises:
            Unavailable: the server cannot be reached.
            SimyardError: the server refused.
        """
        if repeatable is None:
            repeatable = method in _SAFE or "Idempotency-Key" in (headers or {})
        backoff: Backoff | None = None
        while True:
            try:
                with self.stream(method, place, params=params, body=body, headers=headers, timeout=timeout) as answer:
                    answer.read()
            except errors.Unavailable as error:
                backoff = backoff or self.backoff()
                if not repeatable or not backoff.pause(error.after if isinstance(error, _Busy) else None):
                    raise
            else:
                return answer

    @contextmanager
    def stream(
        self,
        method: str,
        place: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: Body | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Iterator[httpx.Response]:
        """Give an answer whose body is still to be read; one try.

        Raises:
            Unavailable: the server cannot be reached, or the answer broke off.
            SimyardError: the server refused.
        """
        url = self.locate(place)
        ours = _origin(url) == self._origin
        all_headers = dict(headers or {})
        if ours and self._key is not None:
            # Only the server itself gets the key; signed addresses elsewhere carry their own right.
            all_headers["Authorization"] = f"Bearer {self._key.get_secret_value()}"
        options = {"timeout": _timeout(timeout)} if timeout is not None else {}
        request = self._http.build_request(
            method,
            url,
            params=dict(params) if params else None,
            content=body() if callable(body) else body,
            headers=all_headers,
            **options,  # type: ignore[arg-type]
        )
        try:
            answer = self._http.send(request, stream=True)
            try:
                self._reached = True
                self._check(answer, ours=ours)
                yield answer
            finally:
                answer.close()
        except httpx.TransportError as error:
            raise self._unreachable(url, error) from error
        except httpx.DecodingError as error:
            raise errors.Damaged(f"The answer of {self.url} is garbled.") from error

    def _check(self, answer: httpx.Response, *, ours: bool) -> None:
        if answer.is_success:
            return
        answer.read()
        error = _error_of(answer)
        if ours and answer.status_code == 404 and _ROUTELESS.fullmatch(answer.content):
            raise _Busy(errors.Unavailable("The server is being started.", fix=START), None)
        if answer.status_code in _BUSY or (answer.status_code == 500 and not ours):
            raise _Busy(error, _seconds(answer.headers.get("Retry-After")))
        raise error

    def _unreachable(self, url: httpx.URL, error: httpx.TransportError) -> errors.Unavailable:
        if isinstance(error, httpx.TimeoutException):
            what = "did not answer in time"
        elif isinstance(error, httpx.ConnectError):
            what = "cannot be reached"
        else:
            what = "broke off the connection"
        detail = f" ({error})" if str(error) else ""
        # The path and query of a signed address are a secret.
        place = f"{url.scheme}://{url.netloc.decode('ascii', 'replace')}"
        return errors.Unavailable(f"The server {place} {what}{detail}.", fix=START)


def _error_of(answer: httpx.Response) -> errors.SimyardError:
    status = answer.status_code
    try:
        problem = Problem.model_validate_json(answer.content, extra="ignore")
    except ValidationError:
        problem = None
    if problem is not None:
        error = error_of(problem)
        if type(error) is not errors.SimyardError or status not in _BY_STATUS:
            return error
        return _BY_STATUS[status](problem.detail, field=problem.field, fix=problem.fix)
    kind = _BY_STATUS.get(status, errors.Unavailable if status in _BUSY else errors.SimyardError)
    detail = _detail(answer)
    if answer.is_redirect:
        return errors.Unavailable(
            f"The server sends requests elsewhere, to {_shown_target(answer)}.",
            fix="Log in with that address: `simyard login URL`.",
        )
    fix = "Log in again with `simyard login URL`." if kind is errors.Unauthorized else None
    return kind(f"The server answered with {status} {answer.reason_phrase}{detail}.", fix=fix)


def _detail(answer: httpx.Response) -> str:
    try:
        found = json.loads(answer.content)
    except ValueError:
        return ""
    detail = found.get("detail") if isinstance(found, dict) else None
    return f": {detail}".rstrip(".") if isinstance(detail, str) else ""


def _shown_target(answer: httpx.Response) -> str:
    try:
        target = answer.request.url.join(answer.headers.get("Location", ""))
    except httpx.InvalidURL:
        return "an address that is not valid"
    return f"{target.scheme}://{target.netloc.decode('ascii', 'replace')}"


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    port = url.port or {"http": 80, "https": 443}.get(url.scheme)
    return (url.scheme, url.host, port)


def _seconds(text: str | None) -> float | None:
    return float(text) if text is not None and text.isdigit() else None


def _timeout(read: float) -> httpx.Timeout:
    return httpx.Timeout(connect=10.0, read=read, write=60.0, pool=120.0)
