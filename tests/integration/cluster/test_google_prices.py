"""Prices asked of Google Cloud anew, with Google's own client, before an emulator of Cloud Billing's catalogue."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from cluster.machine_types import catalogue_file, find_type, list_types
from simyard.cli.app import build
from storage.settings import load_settings
from tests.cloud.compute_engine import ComputeEngine, Google, GoogleFault, lead_to, running_google, sku

REGION = "europe-west9"


def sold(description: str, dollars: float, market: str = "OnDemand", region: str = REGION) -> dict[str, Any]:
    return sku(description, dollars, market, region)


SKUS = [
    sold("C3 Instance Core running in Paris", 0.04),
    sold("C3 Instance Ram running in Paris", 0.005),
    sold("Spot Preemptible C3 Instance Core running in Paris", 0.01, "Preemptible"),
    sold("Spot Preemptible C3 Instance Ram running in Paris", 0.001, "Preemptible"),
    sold("C3 Instance Core running in Iowa", 7, "OnDemand", "us-central1"),
    sold("C3 Sole Tenancy Instance Core running in Paris", 8),
    sold("C3 Custom Instance Core running in Paris", 8),
    sold("Commitment v1: C3 Cpu in Paris for 1 Year", 8, "Commit1Yr"),
    sold("C2D AMD Instance Core running in Paris", 0.03),
    sold("C2D AMD Instance Ram running in Paris", 0.004),
    sold("G2 Instance Core running in Paris", 0.02),
    sold("G2 Instance Ram running in Paris", 0.002),
    sold("Nvidia L4 GPU running in Paris", 0.5),
    sold("Nvidia L4 GPU attached to Spot Preemptible VMs running in Paris", 0.2, "Preemptible"),
    sold("N4 Instance Core running in Paris", 0.03),
]


@pytest.fixture
def google(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Google]:
    monkeypatch.setenv("SIMYARD_DATA_DIR", str(tmp_path))
    load_settings.cache_clear()
    engine = ComputeEngine()
    engine.skus = SKUS
    with running_google(engine, tmp_path) as google:
        lead_to(google, monkeypatch)
        yield google
    load_settings.cache_clear()


def refresh(*arguments: str) -> Result:
    return CliRunner().invoke(build(["admin"]), ["admin", "machine-types", "refresh", *arguments])


def test_a_machine_costs_what_it_has_of_cores_memory_and_gpus(google: Google, tmp_path: Path) -> None:
    result = refresh("--region", REGION, "--json")
    assert result.exit_code == 0, result.output
    types = list_types(catalogue_file(tmp_path))
    assert len(types) == len(list_types())
    standard, amd, gpus = (find_type(name, types) for name in ("c3-standard-22", "c2d-standard-8", "g2-standard-24"))
    price = standard.price(REGION)
    assert price is not None
    assert (price.on_demand, price.spot) == (22 * 0.04 + 88 * 0.005, 22 * 0.01 + 88 * 0.001)
    assert standard.price("europe-west4") == find_type("c3-standard-22", list_types()).price("europe-west4")
    price = amd.price(REGION)
    assert price is not None
    assert (price.on_demand, price.spot) == (8 * 0.03 + 32 * 0.004, None)
    price = gpus.price(REGION)
    assert price is not None
    assert (price.on_demand, price.spot) == (24 * 0.02 + 96 * 0.002 + 2 * 0.5, None), "no spot price of its cores"
    half = find_type("n4-standard-8", types).price(REGION)
    assert half is None, "nobody knows what its memory costs"
    priced = json.loads(result.stdout)["types"]
    assert 0 < priced < sum(one.provider == "gcp" for one in types)
    assert refresh("--region", REGION, "--type", "c3-highmem-8").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--region", "mars-north1"), "europe-west9"),
        (("--region", "us-central1", "--type", "c2d-standard-8"), "none of these types"),
        (("--region", REGION, "--type", "c3-standard-23"), "c3-standard-22"),
        (("--region", REGION, "--type", "c7i.large"), "no machine type"),
    ],
)
def test_an_unknown_region_or_type_is_refused_with_what_there_is(
    google: Google, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    result = refresh(*arguments)
    assert result.exit_code == 2
    assert said in result.output
    assert not catalogue_file(tmp_path).exists()


def test_where_google_refuses_or_nobody_gives_credentials_it_says_what_to_do(
    google: Google, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    google.engine.inject(GoogleFault.NOT_ALLOWED, "list_skus")
    result = refresh("--region", REGION)
    assert result.exit_code == 3
    assert "Cloud Billing API" in result.output
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    result = refresh("--region", REGION)
    assert result.exit_code == 3
    assert "gcloud auth application-default login" in result.output
