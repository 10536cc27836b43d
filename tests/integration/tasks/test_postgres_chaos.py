"""The cells of `benchmarks/postgres_chaos.py` in a short form: whatever dies, nothing is lost and nothing doubled."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks.postgres_chaos import CELLS, OPTIONS, run
from tests.services.postgres import PostgresServer, postgres


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with postgres(*OPTIONS) as server:
        yield server


@pytest.mark.parametrize("cell", CELLS)
def test_nothing_is_lost_and_nothing_is_doubled(server: PostgresServer, cell: str) -> None:
    found = run(server, cell, seconds=1.0, workers=2, seed=1)
    assert (found["jobs_lost"], found["doubled"], found["invented"]) == (0, 0, 0), found
    assert found["succeeded"], found
