"""When a head asks for prices, and what it does where it cannot."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from cluster import quotes
from cluster.machine_types import list_types
from cluster.quotes import SELLERS, Quotes
from simyard.errors import Unavailable
from simyard.machine_type import MachineType, Price
from tests.running_server import until

TODAY = date(2027, 1, 5)
AWS: Mapping[str, Any] = {"cluster_name": "ours", "provider": {"type": "aws", "region": "mars-north-1"}}


class Seller:
    """Sells one type, once it answers."""

    def __init__(self, failures: int = 0) -> None:
        self.asked = 0
        self._failures = failures

    def __call__(
        self, region: str, types: Sequence[MachineType], today: date, _told: Callable[[int, int], None]
    ) -> list[MachineType]:
        self.asked += 1
        if self.asked <= self._failures:
            raise Unavailable("AWS does not tell its prices: no", fix="Give credentials.")
        price = Price(region=region, on_demand=1.0, spot=None, source="a test", date=today)
        return [types[0].model_copy(update={"prices": (price,)})]


def sold_by(monkeypatch: pytest.MonkeyPatch, seller: Seller) -> Seller:
    monkeypatch.setitem(SELLERS, "aws", seller)  # type: ignore[arg-type]
    return seller


def test_a_cloud_whose_prices_nobody_tells_is_not_asked(tmp_path: Path) -> None:
    for kind in ("local", "kubernetes"):
        found = Quotes(lambda kind=kind: {"provider": {"type": kind}}, tmp_path / "types.csv")  # type: ignore[misc]
        assert found.look() == []
    assert not (tmp_path / "types.csv").exists()


def test_a_failure_is_told_with_the_fix_and_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    seller = sold_by(monkeypatch, Seller(failures=2))
    monkeypatch.setattr(quotes, "FIRST_SECONDS", 0.01)
    monkeypatch.setattr(quotes, "EVERY_SECONDS", 0.01)
    path = tmp_path / "not yet there" / "types.csv"
    asking = Quotes(lambda: AWS, path, today=lambda: TODAY)
    with caplog.at_level(logging.INFO):
        asking.start()
        until(path.exists, 10, what="the prices")
        until(lambda: "have the prices of 2027-01-05" in caplog.text, 10, what="its word")
    asking.close()
    assert caplog.text.count("AWS does not tell its prices: no") == 2
    assert "Give credentials." in caplog.text
    assert seller.asked == 3
    price = list_types(path)[0].price("mars-north-1")
    assert price is not None
    assert (price.on_demand, price.date) == (1.0, TODAY)
