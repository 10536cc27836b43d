from __future__ import annotations

import stat
from pathlib import Path

import pytest
from pydantic import SecretStr

from simyard.errors import InvalidInput, Unavailable
from simyard.profile import Profile, load_profile, normal_url, save_profile, stored_profile


def test_what_was_stored_comes_back_and_only_its_owner_can_read_it(no_profile: Path) -> None:
    save_profile(Profile(url="http://a:1", key=SecretStr("old")))
    no_profile.chmod(0o644)
    assert save_profile(Profile(url="http://a:1", key=SecretStr("sy_k"))) == no_profile
    assert stat.S_IMODE(no_profile.stat().st_mode) == 0o600
    assert [path.name for path in no_profile.parent.iterdir()] == ["profile.json"]
    stored = stored_profile()
    assert stored is not None
    assert (stored.url, stored.secret) == ("http://a:1", "sy_k")


def test_the_key_does_not_show() -> None:
    assert "sy_k" not in repr(Profile(url="http://a", key=SecretStr("sy_k")))


def test_arguments_go_before_the_environment_and_that_before_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    save_profile(Profile(url="http://file", key=SecretStr("file-key")))
    assert load_profile().secret == "file-key"
    monkeypatch.setenv("SIMYARD_URL", "http://environment")
    monkeypatch.setenv("SIMYARD_KEY", "environment-key")
    assert (load_profile().url, load_profile().secret) == ("http://environment", "environment-key")
    assert load_profile("http://argument").url == "http://argument"


def test_a_stored_key_is_not_given_to_another_server() -> None:
    save_profile(Profile(url="http://file", key=SecretStr("file-key")))
    assert load_profile("http://elsewhere").secret is None
    assert load_profile("http://file/").secret == "file-key"


def test_without_any_server_it_says_how_to_get_one() -> None:
    with pytest.raises(Unavailable, match=r"simyard up.*simyard login"):
        load_profile()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"key": "k"}', "\x00"])
def test_a_damaged_file_is_named(no_profile: Path, content: str) -> None:
    no_profile.parent.mkdir()
    no_profile.write_text(content)
    with pytest.raises(InvalidInput, match=r"profile\.json"):
        load_profile()


@pytest.mark.parametrize(
    ("given", "normal"),
    [
        ("http://a/", "http://a"),
        (" localhost:8470 ", "http://localhost:8470"),
        ("127.0.0.1:1", "http://127.0.0.1:1"),
        ("yard.example", "https://yard.example"),
        ("https://h/prefix/", "https://h/prefix"),
        ("http://[::1]:8470", "http://[::1]:8470"),
    ],
)
def test_addresses_are_completed(given: str, normal: str) -> None:
    assert normal_url(given) == normal


@pytest.mark.parametrize(
    "bad", ["", "http://", "ftp://a", "http://u:p@a", "http://a?x=1", "http://a#b", "http://a b", "http://a:port", "//"]
)
def test_what_is_no_address_is_refused(bad: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        normal_url(bad)
    assert caught.value.field == "url"
