"""Machine types as AWS describes and sells them now."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

from simyard.errors import InvalidInput, Unavailable
from simyard.machine_type import MachineType, Price
from simyard.resources import MIB

PROVIDER = "aws"
_PRICING_REGION = "us-east-1"
"""The Price List is answered in a few regions only, for all of them."""
_BATCH = 100


def refresh(
    region: str, types: Sequence[MachineType], today: date, told: Callable[[int, int], None]
) -> list[MachineType]:
    """Return those of the types that a region has, with what they cost there now.

    Facts are from DescribeInstanceTypes, prices from the Price List (Linux, shared tenancy, no licence) and from
    DescribeSpotPriceHistory. `told` is told how many of the types are done, of how many.

    Raises:
        Unavailable: AWS does not answer, or refuses; the message says what it answered and what to give.
        InvalidInput: there is no such region.
    """
    # Late: only who asks for prices needs it.
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    found: list[MachineType] = []
    try:
        session = boto3.Session(region_name=region)
        if region not in session.get_available_regions("ec2"):
            known = ", ".join(sorted(session.get_available_regions("ec2")))
            raise InvalidInput(f"AWS has no region {region!r}.", field="--region", fix=f"Known: {known}.")
        patience = Config(connect_timeout=10, read_timeout=30, retries={"mode": "standard", "max_attempts": 4})
        ec2 = session.client("ec2", config=patience)
        pricing = session.client("pricing", region_name=_PRICING_REGION, config=patience)
        names = [one.name for one in types]
        described = {one["InstanceType"]: one for one in _described(ec2, names)}
        spot = _spot_prices(ec2, list(described))
        for done, name in enumerate(names, 1):
            if name in described:
                price = Price(
                    region=region,
                    on_demand=_on_demand(pricing, name, region),
                    spot=spot.get(name),
                    source="AWS Price List and DescribeSpotPriceHistory",
                    date=today,
                )
                found.append(_type_of(described[name], price))
            told(done, len(names))
    except (BotoCoreError, ClientError) as error:
        fix = "Give credentials that may read prices: AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
        raise Unavailable(f"AWS does not tell its prices: {error}", fix=fix) from error
    return found


def _described(ec2: Any, names: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    for start in range(0, len(names), _BATCH):
        # By a filter: asked for by name, one that the region lacks would make the whole request an error.
        wanted = [{"Name": "instance-type", "Values": list(names[start : start + _BATCH])}]
        for page in ec2.get_paginator("describe_instance_types").paginate(Filters=wanted):
            yield from page["InstanceTypes"]


def _spot_prices(ec2: Any, names: Sequence[str]) -> dict[str, float]:
    """Return the newest price of each type in its cheapest zone."""
    newest: dict[tuple[str, str], tuple[Any, float]] = {}
    for start in range(0, len(names), _BATCH):
        pages = ec2.get_paginator("describe_spot_price_history").paginate(
            InstanceTypes=list(names[start : start + _BATCH]),
            ProductDescriptions=["Linux/UNIX"],
            # Of the time before only what still holds: the newest one of each zone.
            StartTime=datetime.now(UTC),
        )
        for page in pages:
            for row in page["SpotPriceHistory"]:
                place = row["InstanceType"], row["AvailabilityZone"]
                known = newest.get(place)
                if known is None or row["Timestamp"] > known[0]:
                    newest[place] = row["Timestamp"], float(row["SpotPrice"])
    cheapest: dict[str, float] = {}
    for (name, _), (_, price) in newest.items():
        cheapest[name] = min(price, cheapest.get(name, price))
    return cheapest


def _on_demand(pricing: Any, name: str, region: str) -> float | None:
    asked = {
        "instanceType": name,
        "regionCode": region,
        "operatingSystem": "Linux",
        "tenancy": "Shared",
        "preInstalledSw": "NA",
        "capacitystatus": "Used",
    }
    filters = [{"Type": "TERM_MATCH", "Field": field, "Value": value} for field, value in asked.items()]
    answer = pricing.get_products(ServiceCode="AmazonEC2", Filters=filters)
    return next(_hourly(answer["PriceList"]), None)


def _hourly(products: Iterable[str]) -> Iterator[float]:
    """Give the prices an hour in the Price List's products, each a JSON document in a text."""
    for product in products:
        for term in json.loads(product).get("terms", {}).get("OnDemand", {}).values():
            for dimension in term["priceDimensions"].values():
                if dimension["unit"] == "Hrs" and (price := float(dimension["pricePerUnit"]["USD"])) > 0:
                    yield price


def _type_of(described: Mapping[str, Any], price: Price) -> MachineType:
    gpus = described.get("GpuInfo", {}).get("Gpus", [])
    first = gpus[0] if gpus else None
    return MachineType(
        name=described["InstanceType"],
        provider=PROVIDER,
        cpus=described["VCpuInfo"]["DefaultVCpus"],
        threads_per_core=described["VCpuInfo"].get("DefaultThreadsPerCore", 1),
        memory=described["MemoryInfo"]["SizeInMiB"] * MIB,
        gpus=sum(gpu["Count"] for gpu in gpus),
        gpu=None if first is None else first["Name"],
        gpu_memory=0 if first is None else first["MemoryInfo"]["SizeInMiB"] * MIB,
        local_disk=described.get("InstanceStorageInfo", {}).get("TotalSizeInGB", 0) * 10**9,
        has_spot="spot" in described.get("SupportedUsageClasses", ()),
        prices=(price,),
    )
