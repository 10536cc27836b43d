"""The index from which a page of tasks is read: SQLite itself, which counts nothing, would take any that fits."""

from __future__ import annotations

from collections.abc import Mapping

from simyard.status import Status

_UNUSUAL = "an unusual status"
"""Stands for every status but the one in which most tasks end."""

_INDEXES = (
    ("tasks_by_source", {"reused_from"}),
    ("tasks_by_sweep_and_status", {"sweep", "status"}),
    ("tasks_by_sweep", {"sweep"}),
    ("tasks_by_user_and_name", {"user", "name"}),
    ("tasks_by_user_project_and_status", {"user", "project", "status"}),
    ("tasks_by_user_and_status", {"user", _UNUSUAL}),
    ("tasks_by_user_and_simulator", {"user", "simulator"}),
    ("tasks_by_user_and_group", {"user", "group"}),
    ("tasks_by_user_and_project", {"user", "project"}),
    ("tasks_by_user_and_status", {"user", "status"}),
    ("tasks_by_user", {"user"}),
    ("tasks_by_status", {"status"}),
)
"""Each with what it looks for; the first one fits best, since it mostly skips the fewest tasks."""


def index_for(filters: Mapping[str, object]) -> str:
    """Return the clause that names the index for a page with these filters; empty where none has them."""
    asked = set(filters)
    if filters.get("status") not in {None, Status.SUCCEEDED.value}:
        asked.add(_UNUSUAL)
    return next((f"INDEXED BY {name}" for name, wanted in _INDEXES if wanted <= asked), "")
