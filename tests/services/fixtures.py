"""Services that tests ask for by name; each runs once a session and ends with it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.services.docker import docker_daemon
from tests.services.postgres import PostgresServer, postgres
from tests.services.s3 import S3Server, moto, swift


@pytest.fixture(scope="session")
def moto_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with moto(tmp_path_factory.mktemp("moto")) as server:
        yield server


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real S3 server with a bucket. Its conditional writes are not safe in a race: prove races on moto."""
    with swift(tmp_path_factory.mktemp("swift")) as server:
        yield server


@pytest.fixture(scope="session")
def docker_server() -> Iterator[None]:
    """A docker daemon that answers."""
    with docker_daemon():
        yield


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL server that nobody kills; a test that does starts one of its own."""
    with postgres() as server:
        yield server
