from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.store import Store, open_store
from tests.unit.tasks.store_suite import StoreSuite


class TestSqliteStore(StoreSuite):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[Store]:
        store = open_store(tmp_path / "a 'weird' naïve\nfolder" / "simyard.db")
        yield store
        store.close()
