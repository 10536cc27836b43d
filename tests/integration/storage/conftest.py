"""The same tests over every kind of storage."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from storage.objects import ObjectStore, open_store
from tests.services.s3 import S3Server


def _open(kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ObjectStore:
    if kind == "memory":
        return open_store(f"memory://{uuid.uuid4()}")
    if kind == "folder":
        return open_store((tmp_path / "the store, 100% 'ü'").as_uri())
    server: S3Server = request.getfixturevalue({"moto": "moto_server", "swift": "s3_server"}[kind])
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return open_store(f"s3://{server.bucket}/{uuid.uuid4()}/some prefix")


@pytest.fixture(params=["memory", "folder", "moto", "swift"])
def store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ObjectStore:
    return _open(request.param, request, monkeypatch, tmp_path)


@pytest.fixture(params=["memory", "folder", "moto"])
def atomic_store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ObjectStore:
    """A store whose create-only write is safe in a race; Swift's is not."""
    return _open(request.param, request, monkeypatch, tmp_path)


@pytest.fixture(params=["moto", "swift"])
def signing_store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ObjectStore:
    return _open(request.param, request, monkeypatch, tmp_path)


@pytest.fixture(params=["memory", "folder", "swift"])
def dated_store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ObjectStore:
    """A store that knows when an upload was begun; moto gives all of them one date in 2010."""
    return _open(request.param, request, monkeypatch, tmp_path)
