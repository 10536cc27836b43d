"""What can go wrong only with a server far away."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import pytest

from storage.errors import ObjectNotFound, StorageUnavailable
from storage.objects import ObjectStore, open_store
from tests.services.processes import free_port
from tests.services.s3 import S3Server

_WORK: dict[str, Callable[[ObjectStore], object]] = {
    "put": lambda store: store.put("a", b""),
    "create": lambda store: store.put("a", b"", create=True),
    "parts": lambda store: store.put("a", (b"x" * 1_000_000 for _ in range(40))),
    "get": lambda store: store.get("a"),
    "range": lambda store: store.get("a", 5, 5),
    "head": lambda store: store.head("a"),
    "list": lambda store: list(store.list("")),
    "delete": lambda store: store.delete(["a"]),
}


@pytest.fixture
def variables(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return s3_server


@pytest.mark.parametrize("work", _WORK)
def test_a_server_that_is_away_is_told_soon(work: str, variables: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(StorageUnavailable):
        _WORK[work](open_store(f"s3://{variables.bucket}/x"))


@pytest.mark.parametrize("work", _WORK)
def test_wrong_credentials_are_told_and_not_shown(
    work: str, variables: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-secret")
    with pytest.raises(StorageUnavailable) as caught:
        _WORK[work](open_store(f"s3://{variables.bucket}/x"))
    assert "wrong-secret" not in str(caught.value)


@pytest.mark.parametrize("work", ["put", "create", "parts", "list"])
def test_a_bucket_that_does_not_exist_is_told(work: str, variables: S3Server) -> None:
    with pytest.raises(StorageUnavailable):
        _WORK[work](open_store(f"s3://no-such-bucket-{uuid.uuid4()}/x"))


def test_two_prefixes_of_a_bucket_do_not_meet(variables: S3Server) -> None:
    name = uuid.uuid4()
    one, other = open_store(f"s3://{variables.bucket}/{name}"), open_store(f"s3://{variables.bucket}/{name}2")
    one.put("a", b"1")
    assert list(other.list("")) == []
    with pytest.raises(ObjectNotFound):
        other.get("a")


def test_a_verified_object_is_copied_only_while_it_is_the_same(variables: S3Server) -> None:
    store = open_store(f"s3://{variables.bucket}/{uuid.uuid4()}")
    direct = store.multiparts()
    assert direct is not None
    store.put("uploaded", b"good")
    etag = direct.etag("uploaded")
    assert etag is not None
    store.put("uploaded", b"evil")
    with pytest.raises(ObjectNotFound):
        direct.copy("uploaded", "kept", etag)
    assert store.head("kept") is None
