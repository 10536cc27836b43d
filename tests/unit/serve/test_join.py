"""Machines that join by a command: who may, and what they are told."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from serve import invitation
from serve.api import build_app
from serve.context import Door
from serve.join_tokens import JoinTokens
from serve.membership import Membership, own_versions
from simyard.errors import Conflict, NotFound, Unauthorized
from simyard.group import MachineGroup
from storage.identity import identity_of, known_identity
from storage.local import LocalStore
from storage.memory import MemoryStore
from tests.unit.serve.face import START, Face, machine


@pytest.fixture
def face(tmp_path: Path) -> Iterator[Face]:
    made = Face()
    yield made
    made.close()


def open_door(face: Face, folder: Path, head: str = "10.0.0.1:6379") -> str:
    """Let machines join, and return a join token."""
    tokens = JoinTokens(folder / "tokens.json")
    secret, _ = tokens.create(START, START + timedelta(days=1))
    door = Door(server="0011aabb", head=head, environment={"RAY_AUTH_TOKEN": "ray's"}, tokens=tokens)
    face.app = build_app(replace(face.context, door=door))
    return secret


def asked(**changes: Any) -> dict[str, Any]:
    return {"name": "bench-1", "group": "bench", "versions": own_versions().model_dump()} | changes


def join(face: Face, token: str, **changes: Any) -> Any:
    return face.post("/v1/machines:join", key=token, json=asked(**changes))


def test_a_machine_with_a_token_is_told_what_it_needs_and_nothing_keeps_it(face: Face, tmp_path: Path) -> None:
    answer = join(face, open_door(face, tmp_path))
    assert answer.status_code == 200, answer.text
    told = Membership.model_validate(answer.json())
    assert (told.server, told.head, told.storage) == ("0011aabb", "10.0.0.1:6379", face.storage.uri)
    assert told.environment == {"RAY_AUTH_TOKEN": "ray's"}
    assert told.storage_id == known_identity(face.storage)
    assert answer.headers["cache-control"] == "no-store"
    assert "ray's" not in repr(told)


def test_an_api_key_is_no_join_token_and_a_join_token_no_api_key(face: Face, tmp_path: Path) -> None:
    token = open_door(face, tmp_path)
    assert join(face, face.key).status_code == 401
    assert face.get("/v1/tasks", key=token).status_code == 401
    assert face.post("/v1/machines:join", key=None, json=asked()).status_code == 401


def test_a_token_that_was_revoked_or_has_expired_opens_nothing(face: Face, tmp_path: Path) -> None:
    token = open_door(face, tmp_path)
    face.clock.advance(86400)
    assert "expired" in join(face, token).json()["detail"]
    token = open_door(face, tmp_path)
    tokens = JoinTokens(tmp_path / "tokens.json")
    tokens.revoke(tokens.all()[-1].id)
    assert "revoked" in join(face, token).json()["detail"]


@pytest.mark.parametrize("name", ["python", "ray", "simyard"])
def test_another_version_is_refused_and_both_are_named(face: Face, tmp_path: Path, name: str) -> None:
    versions = own_versions().model_dump() | {name: "1.2.3"}
    told = join(face, open_door(face, tmp_path), versions=versions).json()
    assert told["field"] == f"versions.{name}"
    assert "1.2.3" in told["detail"]
    assert own_versions().model_dump()[name] in told["detail"]


def test_a_name_that_is_taken_and_a_group_that_the_server_sizes_are_refused(face: Face, tmp_path: Path) -> None:
    sized = MachineGroup(name="spot", min=0, max=4)
    there = MachineGroup(
        name="local", machines=(machine("m1"), machine("gone").model_copy(update={"is_leaving": True}))
    )
    face.groups = (there, sized)
    token = open_door(face, tmp_path)
    assert join(face, token, name="m1").json()["field"] == "name"
    assert join(face, token, group="spot").json()["field"] == "group"
    assert join(face, token, name="m1", rejoins=True).status_code == 200, "it was there a moment ago"
    assert join(face, token, name="gone").status_code == 200
    assert join(face, token, name="no/name").status_code == 422


def test_a_ray_of_the_loopback_is_for_machines_of_the_same_host(face: Face, tmp_path: Path) -> None:
    from serve.joining import _check_way

    assert join(face, open_door(face, tmp_path, head="127.0.0.1:5")).status_code == 200
    with pytest.raises(Conflict, match="own machine only") as refused:
        _check_way("127.0.0.1:5", "10.0.0.9")
    assert "--host" in str(refused.value.fix)
    _check_way("10.0.0.1:5", "10.0.0.9")


def test_tokens_are_kept_as_hashes_for_their_owner_alone_and_expired_ones_are_dropped(tmp_path: Path) -> None:
    tokens = JoinTokens(tmp_path / "server" / "tokens.json")
    assert tokens.all() == []
    secret, made = tokens.create(START, START + timedelta(hours=1))
    assert tokens.verify(secret, START) == made
    kept = (tmp_path / "server" / "tokens.json").read_text()
    assert secret not in kept
    assert (tmp_path / "server" / "tokens.json").stat().st_mode & 0o077 == 0
    later = START + timedelta(hours=2)
    _, other = tokens.create(later, later + timedelta(hours=1))
    assert tokens.all() == [other]
    with pytest.raises(NotFound, match="no join token"):
        tokens.revoke(made.id)
    with pytest.raises(Unauthorized):
        tokens.verify("syj_other", START)


def told_of(uri: str, storage_id: str) -> Membership:
    return Membership(server="s", head="h:1", storage=uri, storage_id=storage_id, environment={})


def test_a_storage_is_the_same_one_where_its_own_name_is_seen(tmp_path: Path) -> None:
    storage = LocalStore(tmp_path / "a b")
    name = identity_of(storage)
    assert identity_of(storage) == name
    assert identity_of(MemoryStore()) != name
    invitation.check_storage(told_of(storage.uri, name))
    other = LocalStore(tmp_path / "other")
    identity_of(other)
    for uri in (other.uri, (tmp_path / "not there").as_uri()):
        with pytest.raises(Conflict, match="does not see") as refused:
            invitation.check_storage(told_of(uri, name))
        assert "s3://" in str(refused.value.fix)
    assert not (tmp_path / "not there").exists()
