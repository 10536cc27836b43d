"""A PostgreSQL server of the tests' own, which they may kill and start again."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest

from tests.services.processes import die_with_parent, free_port

_SECONDS = 60.0
PASSWORD = "p%C3%A4ss%3Aw%40rd"
"""As it stands in a URL."""


def binaries() -> Path | None:
    """Return the folder with the newest server that is installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]))
    if found:
        return found[-1].parent
    known = shutil.which("initdb")
    return None if known is None else Path(known).parent


@dataclass
class PostgresServer:
    """A server in a folder, on a port of the loopback address; fsync is on."""

    binaries: Path
    folder: Path
    port: int = field(default_factory=free_port)
    options: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = None
    _made: set[str] = field(default_factory=set)
    _spare: list[str] = field(default_factory=list)

    def url(self, database: str = "postgres", **options: str) -> str:
        query = "&".join(f"{name}={value}" for name, value in options.items())
        return f"postgresql://simyard:{PASSWORD}@127.0.0.1:{self.port}/{database}" + (f"?{query}" if query else "")

    def initialise(self) -> None:
        secret = self.folder / "password"
        secret.write_text("päss:w@rd\n")
        secret.chmod(0o644)
        command = [self.binaries / "initdb", "-D", self.folder / "data", "-U", "simyard", f"--pwfile={secret}"]
        more = ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-instructions"]
        done = subprocess.run(_as_nobody([*map(str, command), *more]), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    def start(self) -> None:
        """Start it and return once it takes connections."""
        command = [str(self.binaries / "postgres"), "-D", str(self.folder / "data"), "-p", str(self.port)]
        command += ["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]
        command += [word for option in self.options for word in ("-c", option)]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                _as_nobody(command), stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=die_with_parent
            )
        deadline = time.monotonic() + _SECONDS
        while True:
            try:
                psycopg.connect(self.url(), connect_timeout=5).close()
            except psycopg.OperationalError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError((self.folder / "log").read_text()[-4000:]) from None
                time.sleep(0.02)
            else:
                return

    def stop(self, number: int = signal.SIGINT) -> None:
        """End it: SIGINT is a fast shutdown, SIGQUIT an immediate one that has to recover at the next start."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)
            try:
                self.process.wait(_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(_SECONDS)
        self.process = None

    def restart(self, number: int = signal.SIGINT) -> None:
        self.stop(number)
        self.start()

    def execute(self, sql: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """Return the rows that a statement gives, by a connection of its own."""
        with psycopg.connect(self.url(database), autocommit=True, application_name="tests") as connection:
            cursor = connection.execute(sql.encode())
            return cursor.fetchall() if cursor.description else []

    def kill_backends(self, database: str) -> int:
        """End every connection of Simyard to a database; returns how many there were."""
        ended = self.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            f"WHERE datname = '{database}' AND application_name = 'simyard'"
        )
        return len(ended)

    @contextlib.contextmanager
    def database(self) -> Iterator[str]:
        """Give the name of an empty database; it is emptied and given again later, since making one takes long."""
        name = self._spare.pop() if self._spare else f"t{uuid.uuid4().hex[:12]}"
        if name not in self._made:
            self.execute(f"CREATE DATABASE {name}")
            self._made.add(name)
        yield name
        self.kill_backends(name)
        self.execute("DROP SCHEMA IF EXISTS simyard CASCADE", name)
        self._spare.append(name)


@contextlib.contextmanager
def postgres(*options: str) -> Iterator[PostgresServer]:
    """Run a server that ends with this process."""
    found = binaries()
    if found is None:
        pytest.skip("needs PostgreSQL: apt-get install postgresql")
    # A folder that another user may enter, whatever those above it allow.
    folder = Path(tempfile.mkdtemp(prefix="simyard-postgres-"))
    folder.chmod(0o755)
    server = PostgresServer(found, folder, options=options)
    data = folder / "data"
    data.mkdir(mode=0o700)
    if os.getuid() == 0:
        user = _nobody()
        os.chown(data, user.pw_uid, user.pw_gid)
    try:
        server.initialise()
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _nobody() -> pwd.struct_passwd:
    return pwd.getpwnam("nobody")


def _as_nobody(command: list[str]) -> list[str]:
    """Return the command as it may be run: PostgreSQL refuses to run as root."""
    if os.getuid() != 0:
        return command
    user = _nobody()
    return [
        "setpriv",
        "--pdeathsig=QUIT",
        f"--reuid={user.pw_uid}",
        f"--regid={user.pw_gid}",
        "--clear-groups",
        *command,
    ]
