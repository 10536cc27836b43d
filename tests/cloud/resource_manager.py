"""Azure's Resource Manager, as far as the autoscaler and our own provider call it: protocol-level, in memory.

The real clients speak to it over TLS under Azure's own names, which lead to it for them. It evaluates the template of a
deployment, and refuses what Azure is documented to refuse of what we send: parameters that a template does not declare,
those that it has no value for, sizes that are not sold, and callers with no token. Its price list is that of Azure's
public one.
"""

from __future__ import annotations

import ipaddress
import itertools
import json
import re
import secrets
import socket
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from werkzeug.routing import Map, Rule
from werkzeug.wrappers import Request, Response

from tests.cloud.arm_expressions import Broken, Scope
from tests.cloud.tls import answering

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

SUBSCRIPTION = "5c1a2b3c-0000-4000-8000-000000000001"
GROUP = "simyard"
TENANT = "7e1a2b3c-0000-4000-8000-000000000002"
LOCATION = "westeurope"
HOSTS = ("management.azure.com", "login.microsoftonline.com", "prices.azure.com")
_GROUP = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/<group>"
_MACHINES = f"{_GROUP}/providers/Microsoft.Compute/virtualMachines"
_SIZE = re.compile(r"Standard_[A-Z]+\d+\w*")
_LONGEST_NAME = 64


class AzureFault(StrEnum):
    """A way in which a call goes wrong."""

    NO_CAPACITY = "SkuNotAvailable"
    """The deployment fails at its last machine: the region has no more of this type at present."""
    NO_QUOTA = "QuotaExceeded"
    """The deployment fails at its last machine: the subscription may have no more."""
    NOT_ALLOWED = "AuthorizationFailed"
    """The caller has no right to make the call."""
    BROKEN = "InternalServerError"
    """The API itself fails."""
    ANSWER_LOST = "answer-lost"
    """The call is carried out, and the connection breaks before the answer."""


class Refused(Exception):  # noqa: N818 - what the client is told
    """What Azure answers instead."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


@dataclass
class Order:
    """A fault that the next calls meet."""

    fault: AzureFault
    action: str
    left: int
    spot_alone: bool = False


class ResourceManager:
    """A resource group of one subscription, as a WSGI application; `lock` is held by whoever looks into it.

    Args:
        network: addresses for machines.
    """

    def __init__(self, network: str = "10.0.0.0/24") -> None:
        self.lock = threading.RLock()
        self.machines: dict[str, dict[str, Any]] = {}
        self.networks: dict[str, dict[str, Any]] = {}
        self.addresses: set[str] = set()
        self.disks: set[str] = set()
        self.deployments: dict[str, dict[str, Any]] = {}
        self.calls: list[str] = []
        self.orders: list[Order] = []
        self.prices: list[dict[str, Any]] = []
        """The items of the public price list."""
        self.page = 50
        """How many things a list tells of at a time."""
        self._tokens: set[str] = set()
        self.resources: dict[str, dict[str, Any]] = {}
        """Identities, networks and whatever else was deployed, by id in small letters."""
        self._addresses = itertools.islice(ipaddress.ip_network(network).hosts(), 10, None)
        self._id = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}"
        network = f"{_GROUP}/providers/Microsoft.Network"
        group = f"/subscriptions/{SUBSCRIPTION}/resourcegroups/<group>"
        deployment = f"{group}/providers/Microsoft.Resources/deployments/<name>"
        anything = f"{_GROUP}/providers/<path:name>"
        self._rules = Map(
            [
                Rule("/common/discovery/instance", endpoint=self.discovery),
                Rule("/<tenant>/v2.0/.well-known/openid-configuration", endpoint=self.openid),
                Rule("/<tenant>/oauth2/v2.0/token", methods=["POST"], endpoint=self.token),
                Rule("/api/retail/prices", methods=["GET"], endpoint=self.list_prices),
                Rule(f"/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Compute/skus", endpoint=self.skus),
                Rule(_MACHINES, methods=["GET"], endpoint=self.list),
                Rule(f"{_MACHINES}/<name>", methods=["GET"], endpoint=self.get),
                Rule(f"{_MACHINES}/<name>", methods=["PATCH"], endpoint=self.update),
                Rule(f"{_MACHINES}/<name>", methods=["DELETE"], endpoint=self.delete),
                Rule(f"{_MACHINES}/<name>/instanceView", methods=["GET"], endpoint=self.instance_view),
                Rule(f"{network}/networkInterfaces/<name>", methods=["GET"], endpoint=self.network),
                Rule(f"{network}/networkInterfaces/<name>", methods=["DELETE"], endpoint=self.delete_network),
                Rule(f"{network}/publicIPAddresses/<name>", methods=["DELETE"], endpoint=self.delete_address),
                Rule(
                    f"{_GROUP}/providers/Microsoft.Compute/disks/<name>",
                    methods=["DELETE"],
                    endpoint=self.delete_disk,
                ),
                Rule(deployment, methods=["PUT"], endpoint=self.deploy),
                Rule(deployment, methods=["GET"], endpoint=self.deployment),
                Rule(group, methods=["PUT"], endpoint=self.make_group),
                Rule(f"{_GROUP}/resources", methods=["GET"], endpoint=self.list_resources),
                Rule(anything, methods=["GET"], endpoint=self.resource),
                Rule(anything, methods=["DELETE"], endpoint=self.delete_resource),
                Rule("/operations/<name>", methods=["GET"], endpoint=self.operation),
            ]
        )

    def inject(self, fault: AzureFault, action: str, count: int = 1, *, spot_alone: bool = False) -> None:
        """Let the next calls of an action meet a fault; `spot_alone`: only those that ask for spot machines."""
        with self.lock:
            self.orders.append(Order(fault, action, count, spot_alone))

    def stop(self, name: str) -> None:
        """Let a machine stop as if it had switched itself off: it stays, and is paid for."""
        with self.lock:
            self.machines[name]["power"] = "stopped"

    def take_away(self, name: str) -> None:
        """Let a machine be gone with what goes with it: it was deleted, or its cloud has taken it away."""
        with self.lock:
            properties = self.machines.pop(name)["properties"]
            disk = properties["storageProfile"]["osDisk"]
            if disk.get("deleteOption") == "Delete":
                self.disks.discard(disk["name"])
            for one in properties["networkProfile"]["networkInterfaces"]:
                if one.get("properties", {}).get("deleteOption") == "Delete":
                    self._end_network(one["id"].rpartition("/")[2])

    def new_token(self) -> str:
        """Return a token as an authority, a managed identity or the `az` command gives it."""
        token = secrets.token_urlsafe()
        with self.lock:
            self._tokens.add(token)
        return token

    def __call__(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        request = Request(environ)
        lost = False
        with self.lock:
            try:
                endpoint, values = self._rules.bind_to_environ(environ).match()
                action = endpoint.__name__
                self.calls.append(action)
                is_open = endpoint in (self.discovery, self.openid, self.token, self.list_prices)
                if not is_open and request.headers.get("Authorization", "")[7:] not in self._tokens:
                    raise Refused(401, "InvalidAuthenticationToken", "The access token is invalid.")
                if values.pop("group", GROUP).lower() != GROUP:
                    raise Refused(404, "ResourceGroupNotFound", "Resource group could not be found.")
                fault = self._fault(action, request)
                if fault is AzureFault.NOT_ALLOWED:
                    raise Refused(403, fault, f"The client does not have authorization to perform action {action!r}")
                if fault is AzureFault.BROKEN:
                    raise Refused(500, fault, "Encountered internal server error.")
                answer = endpoint(request, fault=fault, **values)
                lost = fault is AzureFault.ANSWER_LOST
            except Refused as refused:
                answer = _json({"error": {"code": refused.code, "message": str(refused)}}, refused.status)
        if lost:
            with suppress(OSError):
                environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
        return answer(environ, start)

    # Who is who.

    def discovery(self, request: Request, fault: AzureFault | None) -> Response:
        """Answer what msal asks first of a tenant's authority."""
        host = "login.microsoftonline.com"
        return _json(
            {
                "tenant_discovery_endpoint": f"https://{host}/{TENANT}/v2.0/.well-known/openid-configuration",
                "api-version": "1.1",
                "metadata": [{"preferred_network": host, "preferred_cache": host, "aliases": [host]}],
            }
        )

    def openid(self, request: Request, tenant: str, fault: AzureFault | None) -> Response:
        """Answer where tokens are to be had."""
        base = f"https://login.microsoftonline.com/{tenant}"
        return _json(
            {
                "token_endpoint": f"{base}/oauth2/v2.0/token",
                "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
                "issuer": f"{base}/v2.0",
            }
        )

    def token(self, request: Request, tenant: str, fault: AzureFault | None) -> Response:
        """Give a token to who has a secret: whose it is does not matter here."""
        if not request.form.get("client_secret"):
            raise Refused(401, "invalid_client", "AADSTS7000215: Invalid client secret provided.")
        return _json({"token_type": "Bearer", "expires_in": 3600, "access_token": self.new_token()})

    # What there is.

    def list(self, request: Request, fault: AzureFault | None) -> Response:
        """Answer virtualMachines.list, in pages."""
        found = [_shown(one) for _, one in sorted(self.machines.items())]
        first = int(request.args.get("$skiptoken", 0))
        told: dict[str, Any] = {"value": found[first : first + self.page]}
        if len(found) > first + self.page:
            version = request.args["api-version"]
            told["nextLink"] = f"{request.base_url}?api-version={version}&$skiptoken={first + self.page}"
        return _json(told)

    def get(self, request: Request, name: str, fault: AzureFault | None) -> Response:
        """Answer virtualMachines.get."""
        return _json(_shown(self._found(name)))

    def instance_view(self, request: Request, name: str, fault: AzureFault | None) -> Response:
        """Answer virtualMachines.instanceView."""
        found = self._found(name)
        codes = ["ProvisioningState/succeeded", f"PowerState/{found['power']}"]
        return _json({"computerName": name, "statuses": [{"code": code, "level": "Info"} for code in codes]})

    def update(self, request: Request, name: str, fault: AzureFault | None) -> Response:
        """Answer virtualMachines.update of tags."""
        self._found(name)["tags"] = request.get_json()["tags"]
        return _json(_shown(self._found(name)))

    def delete(self, request: Request, name: str, fault: AzureFault | None) -> Response:
        """Answer virtualMachines.delete: what has the option goes with the machine, everything else stays."""
        if name not in self.machines:
            return Response(status=204)
        self.take_away(name)
        return self._accepted("Succeeded")

    def network(self, request: Request, name: str, fault: AzureFault | None) -> Response:
        """Answer networkInterfaces.get."""
        if name not in self.networks:
            raise Refused(404, "ResourceNotFound", f"The Resource {name!r} was not found.")
        return _json(self.networks[name])

    def delete_network(self, request: Request, name: str, fault: AzureFault | None) -> Response:
        """Answer networkInterfaces.delete."""
        self._end_network(name)
        return self._accepted("Succeeded")

    def delete_address(self, request: Request, name: str, fault: AzureFault | None) -> Response:
        """Answer publicIPAddresses.delete."""
        self.addresses.discard(name)
        return self._accepted("Succeeded")

    def delete_disk(self, request: Request, name: str, fault: AzureFault | None) -> Response:
        """Answer disks.delete."""
        self.disks.discard(name)
        return self._accepted("Succeeded")

    def skus(self, request: Request, fault: AzureFault | None) -> Response:
        """Answer resourceSkus.list: one size, in two zones of the region."""
        places = [{"location": LOCATION, "zones": ["1", "2"]}]
        return _json(
            {"value": [{"name": "Standard_D2s_v5", "resourceType": "virtualMachines", "locationInfo": places}]}
        )

    def list_prices(self, request: Request, fault: AzureFault | None) -> Response:
        """Answer the price list, of which a filter may name what is wanted, in pages."""
        text = request.args["$filter"]
        wanted = dict(re.findall(r"(\w+) eq '([^']*)'", text.partition(" and (")[0]))
        skus = set(re.findall(r"armSkuName eq '([^']*)'", text))
        found = [
            one
            for one in self.prices
            if one["armSkuName"] in skus and all(one[name] == value for name, value in wanted.items())
        ]
        first = int(request.args.get("$skip", 0))
        told: dict[str, Any] = {
            "BillingCurrency": "USD",
            "Items": found[first : first + self.page],
            "NextPageLink": None,
        }
        if len(found) > first + self.page:
            again = request.url.partition("&$skip=")[0]
            told["NextPageLink"] = f"{again}&$skip={first + self.page}"
        return _json(told)

    def make_group(self, request: Request, fault: AzureFault | None) -> Response:
        """Answer resourceGroups.createOrUpdate."""
        told = {"provisioningState": "Succeeded"}
        return _json({"id": self._id, "name": GROUP, "location": LOCATION, "properties": told})

    def list_resources(self, request: Request, fault: AzureFault | None) -> Response:
        """Answer resources.listByResourceGroup of one type."""
        [kind] = re.findall(r"resourceType eq '([^']*)'", request.args["$filter"])
        return _json({"value": [one for one in self.resources.values() if one["type"] == kind]})

    def resource(self, request: Request, name: str, fault: AzureFault | None) -> Response:
        """Answer what a resource is that was deployed."""
        return _json(self._resource(f"{self._id}/providers/{name}"))

    def delete_resource(self, request: Request, name: str, fault: AzureFault | None) -> Response:
        """Answer the delete of what was deployed; a subnet goes with its network."""
        if self.resources.pop(f"{self._id}/providers/{name}".lower(), None) is None and "/subnets/" not in name:
            return Response(status=204)
        return self._accepted("Succeeded")

    # What is deployed.

    def deploy(self, request: Request, name: str, fault: AzureFault | None) -> Response:
        """Answer deployments.createOrUpdate: what the template says is there when the operation is done."""
        if len(name) > _LONGEST_NAME:
            raise Refused(400, "InvalidDeploymentName", "The deployment name is too long.")
        properties = request.get_json()["properties"]
        template, given = properties["template"], properties["parameters"]
        declared = template["parameters"]
        if unknown := given.keys() - declared.keys():
            raise Refused(400, "InvalidTemplate", f"The template parameters '{', '.join(unknown)}' are not valid")
        values = {one: told["defaultValue"] for one, told in declared.items() if "defaultValue" in told}
        values |= {one: told["value"] for one, told in given.items()}
        if missing := declared.keys() - values.keys():
            raise Refused(
                400, "InvalidTemplate", f"The value for the template parameter '{', '.join(missing)}' is missing"
            )
        group = {"id": self._id, "location": LOCATION}
        scope = Scope(values, template["variables"], group, lambda one: self._resource(one)["properties"])
        self.deployments[name] = {"name": name, "error": None}
        if fault in (AzureFault.NO_CAPACITY, AzureFault.NO_QUOTA):
            self.deployments[name]["error"] = {"code": fault.value, "message": f"a test has asked for it: {fault.name}"}
        try:
            for resource in template["resources"]:
                self._make(resource, scope, is_short=self.deployments[name]["error"] is not None)
        except Broken as error:
            raise Refused(400, "InvalidTemplate", str(error)) from error
        outputs = {key: told for key, told in template["outputs"].items() if "copy" not in told}
        self.deployments[name]["outputs"] = scope.value(outputs)
        return self._accepted(name, status=201, body=self._told(name, "Accepted"))

    def deployment(self, request: Request, name: str, fault: AzureFault | None) -> Response:
        """Answer deployments.get."""
        state = "Failed" if self.deployments[name]["error"] else "Succeeded"
        return _json(self._told(name, state))

    def operation(self, request: Request, name: str, fault: AzureFault | None) -> Response:
        """Answer how an operation went, once it is done."""
        error = self.deployments.get(name, {}).get("error")
        if error is None:
            return _json({"status": "Succeeded"})
        message = "At least one resource deployment operation failed. Please list deployment operations for details."
        return _json(
            {"status": "Failed", "error": {"code": "DeploymentFailed", "message": message, "details": [error]}}
        )

    def _make(self, resource: Mapping[str, Any], scope: Scope, *, is_short: bool) -> None:
        """Make all copies of a resource; where it is short, all but the last machine."""
        if not scope.value(resource.get("condition", True)):
            return
        kind = resource["type"].rpartition("/")[2].lower()
        count = scope.value(resource["copy"]["count"]) if "copy" in resource else 1
        for index in range(count - 1 if is_short and kind == "virtualmachines" else count):
            scope.index = index
            one = scope.value({key: told for key, told in resource.items() if key != "copy"})
            if kind == "networkinterfaces":
                for place in one["properties"]["ipConfigurations"]:
                    place["properties"]["privateIPAddress"] = str(next(self._addresses))
                self.networks[one["name"]] = one | {
                    "id": self._named("Microsoft.Network/networkInterfaces", one["name"])
                }
            elif kind == "publicipaddresses":
                self.addresses.add(one["name"])
            elif kind == "virtualmachines":
                self._start(one)
            else:
                id_ = self._named(one["type"], one["name"])
                properties = one.get("properties", {}) | {"principalId": secrets.token_hex(16)}
                self.resources[id_.lower()] = one | {"id": id_, "properties": properties}

    def _start(self, told: dict[str, Any]) -> None:
        properties = told["properties"]
        size = properties["hardwareProfile"]["vmSize"]
        if not _SIZE.fullmatch(size):
            raise Refused(400, "InvalidParameter", f"The value {size} provided for the VM size is not valid.")
        if "id" not in properties["storageProfile"]["imageReference"]:
            raise Refused(400, "InvalidParameter", "Required parameter 'imageReference' is missing (null).")
        disk = f"{told['name']}_OsDisk_1_{secrets.token_hex(8)}"
        properties["storageProfile"]["osDisk"]["name"] = disk
        self.disks.add(disk)
        properties |= {
            "provisioningState": "Succeeded",
            "timeCreated": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}+00:00",
            "vmId": secrets.token_hex(16),
        }
        id_ = self._named("Microsoft.Compute/virtualMachines", told["name"])
        self.machines[told["name"]] = told | {"id": id_, "properties": properties, "power": "running"}

    def _end_network(self, name: str) -> None:
        found = self.networks.pop(name, None)
        for one in found["properties"]["ipConfigurations"] if found else ():
            address = one["properties"].get("publicIpAddress", {})
            if address.get("properties", {}).get("deleteOption") == "Delete":
                self.addresses.discard(address["id"].rpartition("/")[2])

    def _named(self, kind: str, name: str) -> str:
        return f"{self._id}/providers/{kind}/{name}"

    def _told(self, name: str, state: str) -> dict[str, Any]:
        id_ = self._named("Microsoft.Resources/deployments", name)
        told: dict[str, Any] = {"provisioningState": state, "mode": "Incremental"}
        told["outputs"] = self.deployments[name].get("outputs", {})
        return {"id": id_, "name": name, "properties": told}

    def _accepted(self, name: str, status: int = 202, body: object = None) -> Response:
        answer = _json(body, status) if body is not None else Response(status=status)
        answer.headers["Azure-AsyncOperation"] = (
            f"https://management.azure.com/operations/{name}?api-version=2022-09-01"
        )
        answer.headers["Retry-After"] = "0"
        return answer

    def _resource(self, id_: str) -> dict[str, Any]:
        if id_.lower() not in self.resources:
            raise Refused(404, "ResourceNotFound", f"The Resource {id_!r} was not found.")
        return self.resources[id_.lower()]

    def _found(self, name: str) -> dict[str, Any]:
        if name not in self.machines:
            raise Refused(
                404, "ResourceNotFound", f"The Resource 'Microsoft.Compute/virtualMachines/{name}' was not found."
            )
        return self.machines[name]

    def _fault(self, action: str, request: Request) -> AzureFault | None:
        for order in self.orders:
            fits = not order.spot_alone or '{"value": "Spot"}' in request.get_data(as_text=True)
            if order.action == action and order.left > 0 and fits:
                order.left -= 1
                return order.fault
        return None


def price(
    sku: str, dollars: float, *, kind: str = "", product: str = "Series", region: str = LOCATION
) -> dict[str, Any]:
    """Return an item of the price list: of a size, sold as the kind says, `Spot` or `Low Priority`."""
    name = sku.removeprefix("Standard_").replace("_", " ")
    return {
        "currencyCode": "USD",
        "retailPrice": dollars,
        "unitPrice": dollars,
        "armRegionName": region,
        "armSkuName": sku,
        "skuName": f"{name} {kind}".strip(),
        "meterName": f"{name} {kind}".strip(),
        "productName": f"Virtual Machines {product}",
        "serviceName": "Virtual Machines",
        "priceType": "Consumption",
        "type": "Consumption",
        "unitOfMeasure": "1 Hour",
    }


def _shown(one: Mapping[str, Any]) -> dict[str, Any]:
    kept = ("id", "name", "location", "tags", "zones", "properties", "identity")
    return {name: one[name] for name in kept if one.get(name) is not None}


def _json(told: object, status: int = 200) -> Response:
    return Response(json.dumps(told), status=status, content_type="application/json; charset=utf-8")


@contextmanager
def running_azure(manager: ResourceManager, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let this process find Azure's names at an emulator, with the secret of an application that may use it."""
    with answering(manager, folder, HOSTS) as (address, authority):
        resolve, connect = socket.getaddrinfo, socket.socket.connect

        def resolved(host: Any, *more: Any, **others: Any) -> Any:
            return resolve(address[0] if host in HOSTS else host, *more, **others)

        def connected(self: socket.socket, place: Any) -> None:
            connect(self, address if place == (address[0], 443) else place)

        for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(socket, "getaddrinfo", resolved)
        monkeypatch.setattr(socket.socket, "connect", connected)
        for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"):
            monkeypatch.setenv(name, str(authority))
        monkeypatch.setenv("AZURE_TENANT_ID", TENANT)
        monkeypatch.setenv("AZURE_CLIENT_ID", "5e1f2b3c-0000-4000-8000-000000000003")
        monkeypatch.setenv("AZURE_CLIENT_SECRET", "a test's")
        yield
