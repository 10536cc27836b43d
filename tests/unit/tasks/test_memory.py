from __future__ import annotations

from collections.abc import Iterator

import pytest

from tasks.store import MemoryStore, Store, open_store
from tests.unit.tasks.store_suite import StoreSuite


class TestMemoryStore(StoreSuite):
    @pytest.fixture
    def store(self) -> Iterator[Store]:
        store = open_store("memory:")
        assert isinstance(store, MemoryStore)
        yield store
        store.close()
