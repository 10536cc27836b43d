from __future__ import annotations

import tomllib
from dataclasses import replace

import pytest

from simulators.errors import RuntimeUnavailable
from simulators.runtimes.podman_host import Host, engine_environment, needed_changes, to_toml

PLAIN = Host(
    hybrid_cgroups=False,
    may_raise_limits=True,
    limits={"nofile": 1024, "nproc": -1},
    pids=32768,
    has_runc=False,
)


def test_an_ordinary_host_needs_nothing():
    assert needed_changes(PLAIN, {}) == {}


def test_a_hybrid_host_needs_runc():
    assert needed_changes(replace(PLAIN, hybrid_cgroups=True, has_runc=True), {}) == {"engine": {"runtime": "runc"}}
    with pytest.raises(RuntimeUnavailable, match="apt-get install runc"):
        needed_changes(replace(PLAIN, hybrid_cgroups=True), {})


def test_limits_are_not_above_what_the_host_may_set():
    changes = needed_changes(replace(PLAIN, may_raise_limits=False), {})
    assert changes == {"containers": {"default_ulimits": ["nofile=1024:1024", "nproc=32768:32768"]}}


def test_a_host_with_limits_high_enough_needs_nothing():
    high = {"nofile": -1, "nproc": -1}
    assert needed_changes(replace(PLAIN, may_raise_limits=False, limits=high, pids=4_194_304), {}) == {}


def test_what_the_operator_configured_is_left_alone():
    host = replace(PLAIN, hybrid_cgroups=True, may_raise_limits=False)
    configured = {"engine": {"runtime": "kata"}, "containers": {"default_ulimits": ["nofile=10:10"]}}
    assert needed_changes(host, configured) == {}


def test_a_configuration_survives_being_written():
    tables = {
        "containers": {"default_ulimits": ["nofile=1:1"], "x": 'a"b\\c\nd é', "y": True, "z": 1.5},
        "engine": {"runtime": "runc", "runtimes": {"odd name.": ["/usr/bin/x"]}, "empty": {}},
        "top": 3,
    }
    assert tomllib.loads(to_toml(tables)) == tables


def test_an_engine_gets_none_of_our_secrets(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden")
    monkeypatch.setenv("PATH", "/opt/bin")
    environment = engine_environment()
    assert "hidden" not in environment.values()
    assert environment["PATH"].split(":")[0] == "/opt/bin"
    assert "/usr/sbin" in environment["PATH"].split(":")
