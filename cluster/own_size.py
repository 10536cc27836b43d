"""How large this machine is: its cores and memory, or what its container may use of them."""

from __future__ import annotations

import os
from pathlib import Path

import psutil

_CGROUP = Path("/sys/fs/cgroup")


def own_cores(cgroup: Path = _CGROUP) -> int:
    """Return how many cores this process may use, at least one."""
    cores = len(os.sched_getaffinity(0))
    # A limit in microseconds of CPU for each period: version 2 has both in one file, version 1 has two.
    quota, period = [*_words(cgroup / "cpu.max"), "", ""][:2]
    if not period:
        quota, period = _word(cgroup / "cpu/cpu.cfs_quota_us"), _word(cgroup / "cpu/cpu.cfs_period_us")
    if quota.isdecimal() and period.isdecimal() and int(period):
        cores = min(cores, int(quota) // int(period))
    return max(1, cores)


def own_memory(cgroup: Path = _CGROUP) -> int:
    """Return how many bytes of memory this process may use."""
    limits = [_word(cgroup / "memory.max"), _word(cgroup / "memory/memory.limit_in_bytes")]
    return min([psutil.virtual_memory().total, *(int(limit) for limit in limits if limit.isdecimal())])


def _word(path: Path) -> str:
    return (_words(path) or [""])[0]


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []
