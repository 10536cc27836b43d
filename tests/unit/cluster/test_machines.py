"""Ray's nodes as machines."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import pytest

from cluster import machines
from cluster.disk import offered_disk, task_disk
from cluster.labels import DISK_LABEL, GROUP_LABEL, MACHINE_LABEL


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


def test_a_machine_is_called_by_its_own_name_where_several_are_on_one_host(monkeypatch: pytest.MonkeyPatch) -> None:
    here, gone = node("a"), node("b", alive=False)
    for one, name in ((here, "vm"), (gone, "vm-2")):
        one["NodeManagerHostname"] = "vm"
        one["Labels"][MACHINE_LABEL] = name
    monkeypatch.setattr(machines.ray, "nodes", lambda: [here, gone])
    monkeypatch.setattr(machines.state, "get_draining_nodes", dict)
    assert [one.name for one in machines.list_machines()] == ["vm"]
    assert machines.departed_machines() == {"vm-2"}, "its neighbour on the host lives"


def test_a_machine_says_what_it_offers_of_its_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    told = node("a")
    told["Labels"][DISK_LABEL] = "123456789"
    monkeypatch.setattr(machines.ray, "nodes", lambda: [told, node("b")])
    monkeypatch.setattr(machines.state, "get_draining_nodes", dict)
    assert [one.disk for one in machines.list_machines()] == [123456789, math.inf]


def test_a_tenth_of_the_disk_stays_free_and_the_folder_need_not_be_there(tmp_path: Path) -> None:
    assert offered_disk(100, 60) == 50
    assert offered_disk(100, 5) == 0
    usage = shutil.disk_usage(tmp_path)
    assert abs(task_disk(tmp_path / "not" / "yet", tmp_path / "inputs") - (usage.free - usage.total // 10)) < 2**30
