"""How a connection to the database server is made, and what its errors mean."""

from __future__ import annotations

import select
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from simyard.errors import InvalidInput
from tasks.errors import StoreUnavailable

Connection = psycopg.Connection[tuple[Any, ...]]

SCHEMA = "simyard"
"""Everything of ours lies in this schema of the database."""
_LIMITS = {
    "connect_timeout": 5,
    "tcp_user_timeout": 15_000,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
}
_SESSION = f"""
SET search_path = {SCHEMA};
SET timezone = 'UTC';
SET default_transaction_isolation = 'read committed';
SET lock_timeout = '{{seconds:.3f}}s';
SET statement_timeout = '60s';
SET idle_in_transaction_session_timeout = '30s';
SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off';
"""
_PASSING = {"25006", "25P03", "40001", "40P01", "53300", "57P01", "57P02", "57P03", "57P05"}
_REASONS = {
    "25006": "The database server only reads at present; it may be a standby.",
    "28000": "The database server refuses the user.",
    "28P01": "The database server refuses the password.",
    "3D000": "The server has no such database.",
    "53100": "The disk of the database server is full.",
    "53200": "The database server has no memory left.",
    "53300": "The database server has too many connections.",
    "55P03": "Another process has kept the task locked for too long.",
    "57014": "The database server took too long.",
}


class Dial:
    """Makes connections to the server that a `postgresql://` URL names; `seconds` is how long a lock is waited for.

    Raises:
        InvalidInput: it is no such URL.
    """

    def __init__(self, url: str, *, seconds: float) -> None:
        try:
            asked = conninfo_to_dict(url)
        except psycopg.Error:
            # What the library says may hold the password.
            raise InvalidInput(
                "This is no URL of a PostgreSQL database.",
                field="store",
                fix="Write postgresql://user@host:port/database; a special character in a part is percent-encoded.",
            ) from None
        parts: dict[str, Any] = {**_LIMITS, "application_name": "simyard"} | asked
        self._conninfo = make_conninfo("", **parts)
        self._password = str(asked.get("password") or "")
        self._session = _SESSION.format(seconds=seconds)

    def connect(self) -> Connection:
        """Return a fresh connection in autocommit mode: transactions are those that the caller begins."""
        connection = psycopg.connect(self._conninfo, autocommit=True)
        try:
            connection.execute(self._session.encode())
        except BaseException:
            connection.close()
            raise
        return connection

    def unavailable(self, error: psycopg.Error) -> StoreUnavailable:
        """Return why the database could not be opened, with what the server said of it, but never the password."""
        said = " ".join(str(error).split())[:500]
        if self._password:
            said = said.replace(self._password, "…")
        return StoreUnavailable(f"The database cannot be opened: {said}", fix="Look at the URL in SIMYARD_STORE.")


def is_alive(connection: Connection) -> bool:
    """Say whether an idle connection is still there, without asking the server: one that it closed has news to read."""
    if connection.closed:
        return False
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return not poll.poll(0)


def is_passing(error: psycopg.Error) -> bool:
    """Say whether the transaction was undone by something that may be over soon, so that it can be made again."""
    if error.sqlstate is None:
        return isinstance(error, psycopg.OperationalError)
    return error.sqlstate in _PASSING or error.sqlstate.startswith("08")


def translated(error: psycopg.Error) -> Exception:
    """Return what the server said as StoreUnavailable; defects of ours stay as they are."""
    if not isinstance(error, psycopg.OperationalError) and error.sqlstate not in _REASONS:
        return error
    if error.sqlstate is None:
        return StoreUnavailable("The database server cannot be reached.")
    return StoreUnavailable(_REASONS.get(error.sqlstate, f"The database server gave the error {error.sqlstate}."))
