"""What a task costs an hour on a machine, from plain data, and the prices of a cluster file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.cluster_file import ClusterFile
from cluster.fleet import Room
from simyard.resources import GIB, Resources
from tasks.placement import Host
from tasks.price_list import PriceList
from tasks.prices import NO_PRICES, Prices, Sold, share_of

HOST = Host(id="h1", group="cloud", cpus=4, memory=16 * GIB, gpus=2, node_type="cloud.spot")
PRICES = Prices(
    machines={
        "cloud.spot": Sold(group="cloud", offers=Room(cpus=4, memory=16 * GIB, gpus=2), usd_per_hour=0.1),
        "cloud": Sold(group="cloud", offers=Room(cpus=8, memory=32 * GIB), usd_per_hour=0.4),
    }
)


@pytest.mark.parametrize(
    ("need", "share"),
    [
        (Resources(cpus=1, memory=GIB), 0.25),
        (Resources(cpus=1, memory=8 * GIB), 0.5),
        (Resources(cpus=0.1, memory=GIB, gpus=2), 1.0),
        (Resources(cpus=4, memory=16 * GIB, gpus=2), 1.0),
        (Resources(cpus=5, memory=GIB), 1.0),
        (Resources(whole_machine=True), 1.0),
    ],
)
def test_a_task_takes_the_largest_of_its_parts_of_a_machine(need: Resources, share: float) -> None:
    assert share_of(need, HOST) == share
    assert PRICES.of_place(HOST, need) == pytest.approx(0.1 * share)


def test_where_no_price_is_known_none_is_told() -> None:
    need = Resources(cpus=1, memory=GIB)
    own = Host(id="h2", group="local", cpus=4, memory=16 * GIB, gpus=0)
    assert PRICES.of_place(own, need) is None
    assert NO_PRICES.of_place(HOST, need) is None
    assert (PRICES.estimate("local", need), NO_PRICES.estimate("cloud", need)) == (0.0, 0.0)


def test_the_estimate_is_the_dearest_machine_of_the_group_that_can_hold_it() -> None:
    assert PRICES.estimate("cloud", Resources(cpus=4, memory=GIB)) == pytest.approx(0.2)
    assert PRICES.estimate("cloud", Resources(cpus=4, memory=GIB, gpus=1)) == pytest.approx(0.1)
    assert PRICES.estimate("cloud", Resources(cpus=64, memory=GIB)) == 0.0, "it starts on none of them"
    assert PRICES.estimate("cloud", Resources(whole_machine=True)) == 0.4


def node_type(group: str, machine_type: str, **config: Any) -> dict[str, Any]:
    return {
        "labels": {"simyard-group": group},
        "min_workers": 0,
        "max_workers": 2,
        "node_config": {"InstanceType": machine_type, **config},
    }


class Cluster:
    """A cluster file with its price list."""

    def __init__(self, folder: Path) -> None:
        self.path, self.types = folder / "ray_bootstrap_config.yaml", folder / "machine-types.csv"
        self.document: dict[str, Any] = {
            "cluster_name": "c",
            "max_workers": 8,
            "provider": {"type": "aws", "region": "us-east-1"},
            "head_node_type": "head",
            "available_node_types": {
                "head": {"node_config": {"InstanceType": "m7i.large"}},
                "plain": node_type("plain", "m7i.large"),
                "cheap": node_type("plain", "m7i.large", InstanceMarketOptions={"MarketType": "spot"}),
            },
        }
        self.write()
        self.list = PriceList(ClusterFile(self.path, folder / "kept.yaml"), self.types)

    def write(self) -> None:
        fresh = self.path.with_name("fresh.yaml")
        fresh.write_text(yaml.safe_dump(self.document))
        fresh.replace(self.path)


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path)


def test_the_prices_are_those_of_the_region_for_the_market_of_each_node_type(cluster: Cluster) -> None:
    found = cluster.list.look().machines
    # This release knows no spot prices.
    assert list(found) == ["plain"]
    assert (found["plain"].group, found["plain"].offers.cpus, found["plain"].usd_per_hour) == ("plain", 2, 0.1008)


def test_what_is_written_or_refreshed_later_counts_at_the_next_look(cluster: Cluster) -> None:
    before = cluster.list.look()
    assert cluster.list.look() is before, "what has not changed is not read again"
    cluster.document["available_node_types"]["more"] = node_type("more", "c7i.xlarge")
    cluster.write()
    assert set(cluster.list.look().machines) == {"plain", "more"}
    row = "aws,m7i.large,2,2,8192,0,,0,0,true,us-east-1,0.1008,0.03,a test,2026-01-01"
    heads = "provider,name,cpus,threads_per_core,memory_mib,gpus,gpu,gpu_memory_mib,local_disk_gb,spot,region"
    cluster.types.write_text(f"{heads},on_demand_usd,spot_usd,source,date\n{row}\n")
    assert cluster.list.look().machines["cheap"].usd_per_hour == 0.03


def test_a_file_that_cannot_be_read_leaves_the_prices_as_they_were(cluster: Cluster) -> None:
    before = cluster.list.look()
    cluster.path.write_text("{")
    os.utime(cluster.path, ns=(1, 1))
    assert cluster.list.look() is before
    cluster.document["provider"]["region"] = "eu-nowhere-9"
    cluster.write()
    assert cluster.list.look() == NO_PRICES


def test_a_server_without_a_cloud_has_no_prices() -> None:
    assert PriceList(None, None).look() == NO_PRICES
