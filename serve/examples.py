"""Requests that the API's documentation shows; a test sends each of them."""

from __future__ import annotations

from typing import Any

_HASH = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"

SWMM_TASK: dict[str, Any] = {
    "simulator": "swmm",
    "parameters": {"input_file": "town.inp"},
    "inputs": [{"path": "town.inp", "sha256": _HASH, "size": 4}],
    "resources": {"cpus": 1, "memory": "1GiB"},
    "limits": {"run": "10m"},
    "name": "ten-year storm",
    "metadata": {"return_period": 10},
}
BATCH: dict[str, Any] = {
    "tasks": [
        {"spec": SWMM_TASK, "idempotency_key": "storms-2026-10"},
        {"spec": SWMM_TASK | {"name": "hundred-year storm"}, "idempotency_key": "storms-2026-100"},
    ],
    "atomic": True,
}
SWEEP: dict[str, Any] = {
    "task": SWMM_TASK
    | {"inputs": [{"path": "town.inp.jinja", "sha256": _HASH, "size": 4}], "name": "n {{ roughness }}"},
    "grid": {"roughness": [0.011, 0.013, 0.015], "diameter": [0.8, 1.0]},
    "name": "pipes of the town",
}
NEGOTIATION: dict[str, Any] = {"files": [{"sha256": _HASH, "size": 4}]}
COMPLETION: dict[str, Any] = {"etags": {"1": "098f6bcd4621d373cade4e832627b4f6"}}
GROUP: dict[str, Any] = {
    "name": "crash-tests",
    "machine_types": ["c7i.4xlarge", "m7i.4xlarge"],
    "max": 10,
    "market": "spot-then-on-demand",
    "idle": "10m",
}
GROUP_CHANGE: dict[str, Any] = {"max": 20, "ends_at": "2099-12-24T18:00:00Z"}
GROUP_END: dict[str, Any] = {"now": True}
JOINING: dict[str, Any] = {
    "name": "workstation",
    "group": "bench",
    "versions": {"python": "3.11.7", "ray": "2.60.0", "simyard": "0.1.0"},
}
