from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.serve.face import Face


@pytest.fixture
def face() -> Iterator[Face]:
    made = Face()
    yield made
    made.close()
