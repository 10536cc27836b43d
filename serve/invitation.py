"""What a server tells a machine that wants to join, and whether joining can work from here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import httpx

from cluster.member import answers
from serve.membership import Joining, Membership, own_versions
from simyard.errors import Conflict, SimyardError, Unauthorized, Unavailable
from simyard.problem import Problem, error_of
from simyard.profile import is_loopback
from storage.identity import known_identity
from storage.objects import open_store

_ANSWER_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class Loan:
    """What of this machine is lent, and to whom."""

    url: str
    """Address of the server."""
    token: str
    name: str
    group: str
    cpus: int
    memory: int
    """Bytes that tasks may take together."""
    grace: float
    """Seconds for which runs may go on when the machine leaves."""
    folder: Path
    """What it keeps of all servers that it has joined."""


def ask(loan: Loan, *, rejoins: bool = False) -> Membership:
    """Return what the server tells this machine.

    Raises:
        SimyardError: the server refuses it, or does not answer.
    """
    joining = Joining(name=loan.name, group=loan.group, versions=own_versions(), rejoins=rejoins)
    try:
        with httpx.Client(timeout=_ANSWER_SECONDS, trust_env=not is_loopback(loan.url)) as http:
            answer = http.post(
                f"{loan.url}/v1/machines:join",
                content=joining.model_dump_json(),
                headers={"Authorization": f"Bearer {loan.token}", "Content-Type": "application/json"},
            )
    except httpx.HTTPError as error:
        raise Unavailable(
            f"{loan.url} does not answer: {error}.",
            field="URL",
            fix="A server answers other machines when it was started with `simyard up --host IP`.",
        ) from error
    if answer.status_code == httpx.codes.OK:
        return Membership.model_validate_json(answer.content)
    if answer.status_code >= httpx.codes.INTERNAL_SERVER_ERROR:
        raise Unavailable(f"{loan.url} cannot take machines at present ({answer.status_code}).")
    try:
        raise error_of(Problem.model_validate_json(answer.content))
    except ValueError:
        raise Unauthorized(f"{loan.url} answers {answer.status_code}, and is no Simyard server.") from None


def check_storage(told: Membership) -> None:
    """Return where this machine sees the server's storage, with its own credentials.

    Raises:
        Conflict: it does not.
    """
    is_folder = told.storage.startswith("file:")
    if is_folder:
        fix = (
            "Start the server with `--storage s3://…`, or with a folder that both machines have at this path, such as a"
            " network file system."
        )
    else:
        fix = "Set this machine's credentials for it, such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
    try:
        # A local folder is not made where there is none.
        seen = None if is_folder and not _folder(told.storage).is_dir() else known_identity(open_store(told.storage))
    except SimyardError as error:
        raise Conflict(f"This machine cannot use the server's storage {told.storage}: {error}", fix=fix) from error
    if seen != told.storage_id:
        raise Conflict(f"This machine does not see the server's storage {told.storage}.", fix=fix)


def _folder(uri: str) -> Path:
    return Path(httpx.URL(uri).path)


def check_head(head: str, url: str) -> None:
    """Return where Ray's head can be reached.

    Raises:
        Unavailable: it cannot.
    """
    if not answers(head):
        raise Unavailable(
            f"{url} answers, but its Ray at {head} cannot be reached from here.",
            fix="Start the server with `simyard up --host IP`, with an address of it that this machine reaches, and let"
            " the two talk to each other on all ports.",
        )
