"""Machine types asked of AWS anew, over HTTP: the EC2 API of moto, and an emulator of the Price List."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cluster.machine_types import catalogue_file, find_type, kept_types, list_types
from cluster.quotes import Quotes
from simyard.cli.app import build
from storage.settings import load_settings
from tests.services.price_list import price_list
from tests.services.s3 import S3Server

REGION = "eu-central-1"


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moto_server: S3Server) -> Iterator[Path]:
    for name, value in moto_server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SIMYARD_DATA_DIR", str(tmp_path))
    load_settings.cache_clear()
    with price_list({("c7i.large", REGION): 0.1, ("g6.xlarge", REGION): 1.2}) as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL_PRICING", address)
        yield tmp_path
    load_settings.cache_clear()


def refresh(*arguments: str) -> Result:
    return CliRunner().invoke(build(["admin"]), ["admin", "machine-types", "refresh", *arguments])


def test_facts_and_prices_of_a_region_are_added_to_the_catalogue(data_dir: Path) -> None:
    result = refresh("--region", REGION, "--type", "c7i.large", "--type", "m7i.large", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == {"region": REGION, "types": 2, "with_price": 1}
    assert refresh("--region", REGION, "--type", "g6.xlarge").exit_code == 0
    types = list_types(catalogue_file(data_dir))
    assert len(types) == len(list_types())
    large, medium, gpu = (find_type(name, types) for name in ("c7i.large", "m7i.large", "g6.xlarge"))
    shipped = find_type("c7i.large", list_types())
    assert large.model_copy(update={"prices": ()}) == shipped.model_copy(update={"prices": ()})
    price = large.price(REGION)
    assert price is not None
    assert price.on_demand == 0.1
    assert price.spot is not None
    assert large.price("us-east-1") == shipped.price("us-east-1")
    unknown = medium.price(REGION)
    assert unknown is not None
    assert unknown.on_demand is None
    assert gpu.gpu == "L4"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--region", "mars-north-1"), "eu-central-1"),
        (("--region", REGION, "--type", "c7i.larg"), "c7i.large"),
    ],
)
def test_an_unknown_region_or_type_is_refused_with_what_there_is(
    data_dir: Path, arguments: tuple[str, ...], said: str
) -> None:
    result = refresh(*arguments)
    assert result.exit_code == 2
    assert said in result.output
    assert not catalogue_file(data_dir).exists()


def test_without_credentials_it_says_how_to_give_them(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(data_dir / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(data_dir / "none"))
    result = refresh("--region", REGION)
    assert result.exit_code == 3
    assert "AWS_ACCESS_KEY_ID" in result.output


def test_a_head_asks_for_the_prices_of_its_region_once_a_day(data_dir: Path) -> None:
    path, days = catalogue_file(data_dir), [date(2027, 1, 5)]
    provider = {"type": "external", "module": "cluster.ec2.Ec2", "region": REGION}
    quotes = Quotes(lambda: {"cluster_name": "ours", "provider": provider}, path, today=lambda: days[-1])

    def known() -> date | None:
        price = find_type("c7i.large", list_types(path)).price(REGION)
        return None if price is None else price.date

    assert known() is None
    assert {"c7i.large", "g6.xlarge"} < {one.name for one in quotes.look()}
    assert known() == days[0]
    assert quotes.look() == []
    days.append(date(2027, 1, 6))
    assert quotes.look()
    assert known() == days[1]


def test_what_the_next_release_knows_is_not_hidden_by_what_was_kept(data_dir: Path) -> None:
    assert refresh("--region", REGION, "--type", "c7i.large").exit_code == 0
    assert [price.region for one in kept_types(catalogue_file(data_dir)) for price in one.prices] == [REGION]
