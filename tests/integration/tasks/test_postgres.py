from __future__ import annotations

from collections.abc import Iterator

import pytest

from tasks.postgres.store import PostgresStore
from tasks.store import Store, open_store
from tests.services.postgres import PostgresServer
from tests.unit.tasks.store_suite import StoreSuite


class TestPostgresStore(StoreSuite):
    @pytest.fixture
    def store(self, postgres_server: PostgresServer) -> Iterator[Store]:
        with postgres_server.database() as name:
            store = open_store(postgres_server.url(name))
            assert isinstance(store, PostgresStore)
            yield store
            store.close()
