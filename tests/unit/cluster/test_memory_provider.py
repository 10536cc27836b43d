"""The cloud in memory does what a Provider does."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cluster.errors import ProviderFailed
from cluster.memory_provider import MemoryProvider
from cluster.provider import Provider
from tests.unit.cluster.test_reconciler import HEAD, WORKER


def test_machines_are_listed_ended_and_forgotten() -> None:
    cloud = MemoryProvider(HEAD)
    provider: Provider = cloud
    cloud.launch(WORKER)
    provider.end([WORKER.id, "i-unknown"])
    provider.end([WORKER.id])
    assert provider.list() == (HEAD, replace(WORKER, is_ending=True))
    cloud.forget(WORKER.id)
    assert provider.list() == (HEAD,)


def test_one_that_fails_says_so() -> None:
    cloud = MemoryProvider(WORKER)
    cloud.fails = True
    with pytest.raises(ProviderFailed):
        cloud.list()
    with pytest.raises(ProviderFailed):
        cloud.end([WORKER.id])
    cloud.fails = False
    assert cloud.list() == (WORKER,)
