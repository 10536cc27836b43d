"""Ray's nodes as machines."""

from __future__ import annotations

from typing import Any

import pytest

from cluster import machines
from cluster.labels import GROUP_LABEL


def node(name: str, *, alive: bool = True, reason: int = 0, group: str | None = "local") -> dict[str, Any]:
    labels = {} if group is None else {GROUP_LABEL: group}
    return {
        "NodeID": name,
        "NodeManagerHostname": f"host of {name}",
        "Alive": alive,
        "DeathReason": reason,
        "Labels": labels,
        "Resources": {"CPU": 4.0, "memory": 2.0**30},
    }


def test_machines_of_groups_are_listed_with_those_that_leave_and_those_that_were_taken_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nodes = [
        node("b"),
        node("a"),
        node("head", group=None),
        node("lost", alive=False, reason=2),
        node("idle", alive=False, reason=4),
        node("taken", alive=False, reason=3),
    ]
    monkeypatch.setattr(machines.ray, "nodes", lambda: nodes)
    monkeypatch.setattr(machines.state, "get_draining_nodes", lambda: {"b": 0})
    found = [(one.id, one.is_leaving, one.is_alive) for one in machines.list_machines()]
    assert found == [("a", False, True), ("b", True, True), ("taken", True, False)]
    assert machines.list_machines()[0].name == "host of a"
