"""Patience that does not wait."""

from __future__ import annotations

import pytest

from storage.retries import Retries


@pytest.fixture
def patience() -> Retries:
    return Retries(tries=3, sleep=lambda _: None)
