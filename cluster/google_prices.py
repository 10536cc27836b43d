"""What machine types cost on Google Cloud now.

Google sells cores, memory and GPUs, each at a price an hour for a series and a region; a machine costs what it has of
them. The prices are those of Cloud Billing's catalogue, <https://cloud.google.com/billing/v1/how-tos/catalog-api>.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date
from typing import Any

from simyard.errors import InvalidInput, Unavailable
from simyard.machine_type import MachineType, Price
from simyard.resources import GIB

PROVIDER = "gcp"
_SERVICE = "services/6F81-5844-456A"
"""Compute Engine in Cloud Billing's catalogue."""
_PAGE = 5000
_SCOPE = "https://www.googleapis.com/auth/cloud-billing.readonly"
_REGION = re.compile(r"[a-z]+-[a-z]+\d+")
_PART = re.compile(r"(?:Spot Preemptible )?(\w+)(?: AMD| Arm)? Instance (Core|Ram) running in .*")
"""A core or a GiB of memory of a series; sole tenants, reservations and custom types are sold in other words."""
_GPU = re.compile(r"Nvidia (\w+) GPU (?:attached to Spot Preemptible VMs )?running in .*")
_MARKETS = {"OnDemand": "on-demand", "Preemptible": "spot"}

Prices = Mapping[tuple[str, str, str], float]
"""US dollars an hour by series or GPU in small letters, by what of it, and by market."""


def is_region(name: str) -> bool:
    """Say whether a region is written as Google writes them: `europe-west4`, where AWS has `eu-west-1`."""
    return _REGION.fullmatch(name) is not None


def refresh(
    region: str, types: Sequence[MachineType], today: date, told: Callable[[int, int], None]
) -> list[MachineType]:
    """Return those of the types that have a price in a region, with that price alone.

    `told` is told how many of the types are done, of how many.

    Raises:
        Unavailable: Google does not answer, or refuses; the message says what it answered and what to give.
        InvalidInput: there is no such region.
    """
    skus = list(_skus())
    if region not in (known := {one for sku in skus for one in sku["serviceRegions"]}):
        fix = f"Known: {', '.join(sorted(known))}."
        raise InvalidInput(f"Google Cloud has no region {region!r}.", field="--region", fix=fix)
    prices = _prices(sku for sku in skus if region in sku["serviceRegions"])
    found = []
    for done, one in enumerate(types, 1):
        on_demand, spot = (_hourly(one, market, prices) for market in ("on-demand", "spot"))
        if on_demand is not None or spot is not None:
            price = Price(region=region, on_demand=on_demand, spot=spot, source="Google Cloud Billing", date=today)
            found.append(one.model_copy(update={"prices": (price,)}))
        told(done, len(types))
    return found


def _skus() -> Iterator[Mapping[str, Any]]:
    # Late: only who asks for prices needs it.
    try:
        import google.auth
        from google.auth.exceptions import GoogleAuthError
        from googleapiclient import discovery
        from googleapiclient.errors import Error
        from httplib2 import HttpLib2Error
    except ImportError as error:
        fix = "Install it where the server runs: pip install google-api-python-client."
        raise Unavailable(f"Google's client is not there: {error}", fix=fix) from error

    try:
        credentials, _ = google.auth.default(scopes=[_SCOPE])
        catalogue = discovery.build("cloudbilling", "v1", credentials=credentials, cache_discovery=False)
        skus = catalogue.services().skus()
        request = skus.list(parent=_SERVICE, pageSize=_PAGE)
        while request is not None:
            answer = request.execute(num_retries=2)
            yield from answer.get("skus", ())
            request = skus.list_next(request, answer)
    except (Error, GoogleAuthError, HttpLib2Error, OSError) as error:
        fix = (
            "Give credentials, `gcloud auth application-default login` or GOOGLE_APPLICATION_CREDENTIALS, of a project "
            "in which the Cloud Billing API is enabled."
        )
        raise Unavailable(f"Google Cloud does not tell its prices: {error}", fix=fix) from error


def _prices(skus: Iterable[Mapping[str, Any]]) -> Prices:
    found: dict[tuple[str, str, str], float] = {}
    for sku in skus:
        market = _MARKETS.get(sku["category"]["usageType"])
        if market is None:
            continue
        if (part := _PART.fullmatch(sku["description"])) is not None:
            what = part[1].lower(), part[2].lower()
        elif (gpu := _GPU.fullmatch(sku["description"])) is not None:
            what = gpu[1].lower(), "gpu"
        else:
            continue
        rates = sku["pricingInfo"][-1]["pricingExpression"]["tieredRates"]
        price = rates[-1]["unitPrice"]
        found[*what, market] = int(price.get("units", 0)) + price.get("nanos", 0) / 1e9
    return found


def _hourly(one: MachineType, market: str, prices: Prices) -> float | None:
    """Return the US dollars an hour of a machine; None where a part of it has no price."""
    series = one.name.partition("-")[0]
    parts = [((series, "core", market), float(one.cpus)), ((series, "ram", market), one.memory / GIB)]
    if one.gpus:
        parts.append((((one.gpu or "").lower(), "gpu", market), float(one.gpus)))
    if any(part not in prices for part, _ in parts):
        return None
    return round(sum(prices[part] * count for part, count in parts), 5)
