"""How large this machine is for a process in a container."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from cluster.own_size import own_cores, own_memory

GIB = 1024**3


def test_without_limits_all_of_the_machine_counts(tmp_path: Path) -> None:
    assert own_cores(tmp_path) == len(os.sched_getaffinity(0))
    assert own_memory(tmp_path) == psutil.virtual_memory().total


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "100000 100000"}, 1),
        ({"cpu.max": "50000 100000"}, 1),
        ({"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "100000"}, 1),
        ({"cpu.max": "max 100000"}, None),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ({"cpu.max": ""}, None),
    ],
)
def test_a_containers_share_of_the_cores_counts(tmp_path: Path, files: dict[str, str], cores: int | None) -> None:
    (tmp_path / "cpu").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text + "\n")
    assert own_cores(tmp_path) == (cores or len(os.sched_getaffinity(0)))


@pytest.mark.parametrize("name", ["memory.max", "memory/memory.limit_in_bytes"])
def test_a_containers_memory_counts(tmp_path: Path, name: str) -> None:
    (tmp_path / "memory").mkdir()
    (tmp_path / name).write_text("268435456\n")
    assert own_memory(tmp_path) == 256 * 1024**2
    (tmp_path / name).write_text("max\n")
    assert own_memory(tmp_path) == psutil.virtual_memory().total
