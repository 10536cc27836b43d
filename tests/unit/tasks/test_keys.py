from __future__ import annotations

from dataclasses import replace

import pytest

from simyard.errors import Unauthorized
from tasks.keys import PREFIX, hash_key, new_key, verify
from tasks.store import MemoryStore
from tests.unit.tasks.samples import NOW, later


def test_a_key_is_long_random_and_marked() -> None:
    secrets = {new_key("ada", NOW)[0] for _ in range(50)}
    assert len(secrets) == 50
    assert all(secret.startswith(PREFIX) and len(secret) == len(PREFIX) + 43 for secret in secrets)


def test_what_is_stored_does_not_give_the_key_away() -> None:
    secret, key = new_key("ada", NOW)
    assert secret not in repr(key)
    assert key.hash not in repr(key)
    assert key.hash == hash_key(secret)
    assert secret.removeprefix(PREFIX) not in (key.id + key.hash)


def test_a_good_key_gives_its_user() -> None:
    store = MemoryStore()
    secret, key = new_key("ada", NOW, later(60))
    store.add_key(key)
    assert verify(secret, store.find_key, later(59)) == key


def test_a_key_is_good_until_it_expires() -> None:
    store = MemoryStore()
    secret, key = new_key("ada", NOW, later(60))
    store.add_key(key)
    with pytest.raises(Unauthorized, match="expired"):
        verify(secret, store.find_key, later(60))


@pytest.mark.parametrize(
    "secret", ["", "sy_", "nonsense", "sy_" + "a" * 43, "sy_" + "a" * 10**6, "sy_é\n\0", "sy_\udcff"]
)
def test_anything_else_is_refused_without_repeating_it(secret: str) -> None:
    store = MemoryStore()
    store.add_key(new_key("ada", NOW)[1])
    with pytest.raises(Unauthorized) as caught:
        verify(secret, store.find_key, NOW)
    assert len(secret) <= 3 or secret not in str(caught.value)


def test_a_revoked_key_is_refused() -> None:
    store = MemoryStore()
    secret, key = new_key("ada", NOW)
    store.add_key(key)
    store.revoke_key(key.id)
    with pytest.raises(Unauthorized):
        verify(secret, store.find_key, NOW)


def test_a_store_that_answers_with_another_key_is_not_believed() -> None:
    secret, key = new_key("ada", NOW)
    with pytest.raises(Unauthorized):
        verify(secret, lambda _: replace(key, hash="0" * 64), NOW)
