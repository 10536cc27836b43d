"""What is told of the images that machines will need."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from simulators.wanted_images import WantedImage, tell, wanted
from storage.memory import MemoryStore
from storage.paths import Paths

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
BEAM = WantedImage("calculix", "2.20", "podman")
TOWN = WantedImage("swmm", "5.2.4", "docker")


def test_what_was_told_lately_is_wanted() -> None:
    store = MemoryStore()
    assert wanted(store, "local", NOW) == []
    tell(store, "local", {TOWN, BEAM}, NOW)
    assert wanted(store, "local", NOW + timedelta(minutes=59)) == [BEAM, TOWN]
    assert wanted(store, "local", NOW + timedelta(hours=2)) == []
    assert wanted(store, "other", NOW) == []


@pytest.mark.parametrize(
    "told", [b"", b"[]", b'{"at": "soon"}', b'{"at": "2026-11-27T12:00:00+00:00", "images": [{"x": 1}]}']
)
def test_what_cannot_be_read_is_nothing(told: bytes) -> None:
    store = MemoryStore()
    store.put(Paths.wanted_images("local"), told)
    assert wanted(store, "local", NOW) == []
