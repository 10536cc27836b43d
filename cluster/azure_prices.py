"""What machine types cost on Azure now, by its public price list, which needs no account.

The protocol: <https://learn.microsoft.com/rest/api/cost-management/retail-prices/azure-retail-prices>. A machine is
sold with Windows and without, on demand, as spot and at low priority, each an item of its own; the last is another
service's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date
from typing import Any

from simyard.errors import Unavailable
from simyard.machine_type import MachineType, Price

PROVIDER = "azure"
_ADDRESS = "https://prices.azure.com/api/retail/prices"
_VERSION = "2023-01-01-preview"
_BATCH = 12
"""Types in one request, whose filter is a part of the address."""
_SECONDS = 30.0
_REGION = re.compile(r"[a-z]+\d*")


def is_region(name: str) -> bool:
    """Say whether a region is written as Azure writes them: `westeurope`, where AWS has `eu-west-1`."""
    return _REGION.fullmatch(name) is not None


def refresh(
    region: str, types: Sequence[MachineType], today: date, told: Callable[[int, int], None]
) -> list[MachineType]:
    """Return those of the types that have a price in a region, with that price alone.

    `told` is told how many of the types are done, of how many.

    Raises:
        Unavailable: Azure does not answer; the message says what it answered.
    """
    found: list[MachineType] = []
    for start in range(0, len(types), _BATCH):
        batch = types[start : start + _BATCH]
        prices: dict[str, dict[str, float]] = {}
        for item in _items(region, [one.name for one in batch]):
            if (market := _market(item)) is not None:
                prices.setdefault(item["armSkuName"], {})[market] = float(item["retailPrice"])
        for one in batch:
            if (known := prices.get(one.name)) is not None:
                price = Price(
                    region=region,
                    on_demand=known.get("on-demand"),
                    spot=known.get("spot"),
                    source="Azure Retail Prices",
                    date=today,
                )
                found.append(one.model_copy(update={"prices": (price,)}))
        told(start + len(batch), len(types))
    return found


def _items(region: str, names: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    # Late: only who asks for prices needs it.
    import httpx

    sold = " or ".join(f"armSkuName eq '{name}'" for name in names)
    wanted = f"serviceName eq 'Virtual Machines' and priceType eq 'Consumption' and armRegionName eq '{region}'"
    asked: dict[str, str] | None = {"api-version": _VERSION, "$filter": f"{wanted} and ({sold})"}
    address: str | None = _ADDRESS
    try:
        with httpx.Client(timeout=_SECONDS) as http:
            while address:
                # The address of a next page has the question in it.
                answer = http.get(address, params=asked).raise_for_status().json()
                yield from answer["Items"]
                address, asked = answer.get("NextPageLink"), None
    except (httpx.HTTPError, ValueError, KeyError) as error:
        fix = "It needs no account, only a way to https://prices.azure.com: try again, or look at the network's proxy."
        raise Unavailable(f"Azure does not tell its prices: {error}", fix=fix) from error


def _market(item: Mapping[str, Any]) -> str | None:
    """Return how a machine without Windows is sold by an item; None for what is something else."""
    sku, product = str(item["skuName"]), str(item["productName"])
    if product.endswith("Windows") or "Cloud Services" in product or sku.endswith("Low Priority"):
        return None
    return "spot" if sku.endswith("Spot") else "on-demand"
