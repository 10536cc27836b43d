"""Clouds other than AWS, as the keeper has them: an emulator of their APIs, whose instances it makes machines of.

Machines of such a cloud know of nothing of AWS but the storage, by a secret that a command of their cloud gives them.
"""

from __future__ import annotations

import base64
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

from tests.cloud import compute_engine, resource_manager
from tests.cloud.compute_engine import PROJECT, ComputeEngine, GoogleFault, running_google, sku
from tests.cloud.machine import Machine
from tests.cloud.metadata import AzureMetadata, GoogleMetadata
from tests.cloud.network import METADATA_ADDRESS
from tests.cloud.resource_manager import AzureFault, ResourceManager, price
from tests.cloud.tls import answering


class ForeignInstance(ABC):
    """An instance, with the words that the keeper knows from the emulator of AWS."""

    instance_initiated_shutdown_behavior = "stop"
    id: str
    instance_type: str
    state: str
    private_ip: str
    public_ip = ""
    lifecycle: str | None
    state_reason: SimpleNamespace
    root_keys: str
    """Of who gets into it as root, a line each."""

    def __init__(self) -> None:
        self.state_reason = SimpleNamespace()

    @abstractmethod
    def get_tags(self) -> list[dict[str, str]]:
        """Return what it is tagged with."""

    @abstractmethod
    def terminate(self) -> None:
        """Let it be gone."""

    @abstractmethod
    def stop(self) -> None:
        """Let it stop, and be there."""

    @property
    @abstractmethod
    def metadata(self) -> GoogleMetadata | AzureMetadata:
        """What it is told about itself."""


class Foreign(ABC):
    """One such cloud."""

    variables: Mapping[str, str]
    """What is set on each of its machines."""
    hosts: tuple[str, ...]
    """The names under which it answers, over TLS."""

    @abstractmethod
    def instances(self) -> list[ForeignInstance]:
        """Return its instances."""

    @abstractmethod
    def calls(self) -> list[str]:
        """Return all calls."""

    @abstractmethod
    def inject(self, fault: str, action: str, count: int, *, spot_alone: bool) -> None:
        """Let the next calls meet a fault; none, where it is empty, any more."""

    @abstractmethod
    def left(self) -> list[str]:
        """Return all that is there and is paid for."""

    @abstractmethod
    def answering(self, folder: Path, address: str) -> Any:
        """Answer there while the context lasts; the folder gets `authority.pem`, who vouches for it."""

    @abstractmethod
    def furnish(self, machine: Machine, storage: str) -> None:
        """Put onto a machine's disk what our image for this cloud has: a command that gives the storage's secret."""

    def lines(self, address: str) -> str:
        """Return what stands in `/etc/hosts` of its machines."""
        return f"{address} {' '.join(self.hosts)}\n{METADATA_ADDRESS} metadata.google.internal\n"


class _GoogleInstance(ForeignInstance):
    _STATES: ClassVar = {"PROVISIONING": "pending", "RUNNING": "running", "TERMINATED": "stopped"}

    def __init__(self, engine: ComputeEngine, told: dict[str, Any]) -> None:
        super().__init__()
        self._engine, self._told = engine, told
        self.id = told["name"]
        self.instance_type = told["machineType"].rpartition("/")[2]
        self.state = self._STATES.get(told["status"], "shutting-down")
        self.private_ip = told["networkInterfaces"][0]["networkIP"]
        self.lifecycle = "spot" if told["scheduling"].get("provisioningModel") == "SPOT" else None
        self.root_keys = engine.root_keys()

    def get_tags(self) -> list[dict[str, str]]:
        return [{"key": name, "value": value} for name, value in self._told["labels"].items()]

    def terminate(self) -> None:
        self._engine.take_away(self.id)

    def stop(self) -> None:
        self._engine.stop(self.id)

    @property
    def metadata(self) -> GoogleMetadata:
        items = {item["key"]: item["value"] for item in self._told["metadata"].get("items", ())}
        accounts = [one["email"] for one in self._told["serviceAccounts"]]
        return GoogleMetadata(
            instance=self.id,
            project=PROJECT,
            user_data=items.get("startup-script", ""),
            account=accounts[0] if accounts else "",
            new_token=self._engine.new_token,
        )


class GoogleCloud(Foreign):
    """Google's."""

    variables: Mapping[str, str] = {"HTTPLIB2_CA_CERTS": "/run/authority.pem"}
    hosts = tuple(f"{name}.googleapis.com" for name in compute_engine.HOSTS)

    def __init__(self, network: str) -> None:
        self._engine = ComputeEngine(1.0, network)
        # A c4-standard-4 costs as much as in the catalogue of the release.
        parts = {"C4 Instance Core running in Netherlands": 0.03712, "C4 Instance Ram running in Netherlands": 0.003938}
        self._engine.skus = [sku(name, dollars, "OnDemand", "europe-west4") for name, dollars in parts.items()]

    def instances(self) -> list[ForeignInstance]:
        """See Foreign."""
        with self._engine.lock:
            self._engine.settle()
            return [_GoogleInstance(self._engine, one) for one in self._engine.instances.values()]

    def calls(self) -> list[str]:
        """See Foreign."""
        with self._engine.lock:
            return [one for _, one in self._engine.calls]

    def inject(self, fault: str, action: str, count: int, *, spot_alone: bool) -> None:
        """See Foreign."""
        if fault:
            self._engine.inject(GoogleFault(fault), action, count, spot_alone=spot_alone)
        else:
            with self._engine.lock:
                self._engine.orders.clear()

    def left(self) -> list[str]:
        """See Foreign."""
        with self._engine.lock:
            return list(self._engine.instances)

    def answering(self, folder: Path, address: str) -> Any:
        """See Foreign."""
        return running_google(self._engine, folder, address, 443)

    def furnish(self, machine: Machine, storage: str) -> None:
        """See Foreign."""
        asked = "secrets versions access latest --secret=simyard-storage"
        _command(machine, "gcloud", f"  {asked!r}) cat <<END\n{_secret(storage)}END\n  ;;\n")


class _AzureInstance(ForeignInstance):
    def __init__(self, manager: ResourceManager, told: dict[str, Any]) -> None:
        super().__init__()
        self._manager, self._told = manager, told
        properties = told["properties"]
        self.id = told["name"]
        self.instance_type = properties["hardwareProfile"]["vmSize"]
        self.state = "running" if told["power"] == "running" else "stopped"
        [network] = properties["networkProfile"]["networkInterfaces"]
        [place] = manager.networks[network["id"].rpartition("/")[2]]["properties"]["ipConfigurations"]
        self.private_ip = place["properties"]["privateIPAddress"]
        self.lifecycle = "spot" if properties["priority"] == "Spot" else None
        keys = properties["osProfile"]["linuxConfiguration"]["ssh"]["publicKeys"]
        self.root_keys = "".join(f"{one['keyData']}\n" for one in keys)

    def get_tags(self) -> list[dict[str, str]]:
        return [{"key": name, "value": value} for name, value in self._told["tags"].items()]

    def terminate(self) -> None:
        self._manager.take_away(self.id)

    def stop(self) -> None:
        self._manager.stop(self.id)

    @property
    def metadata(self) -> AzureMetadata:
        script = self._told["properties"]["osProfile"].get("customData", "")
        return AzureMetadata(
            instance=self.id,
            resource=self._told["id"],
            size=self.instance_type,
            location=self._told["location"],
            user_data=base64.b64decode(script).decode(),
            new_token=self._manager.new_token,
        )


class AzureCloud(Foreign):
    """Azure."""

    variables: Mapping[str, str] = dict.fromkeys(("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"), "/run/authority.pem")
    hosts = resource_manager.HOSTS

    def __init__(self, network: str) -> None:
        self._manager = ResourceManager(network)
        self._manager.prices = [price("Standard_F2s_v2", 0.1), price("Standard_F2s_v2", 0.02, kind="Spot")]

    def instances(self) -> list[ForeignInstance]:
        """See Foreign."""
        with self._manager.lock:
            return [_AzureInstance(self._manager, one) for one in self._manager.machines.values()]

    def calls(self) -> list[str]:
        """See Foreign."""
        with self._manager.lock:
            return list(self._manager.calls)

    def inject(self, fault: str, action: str, count: int, *, spot_alone: bool) -> None:
        """See Foreign."""
        if fault:
            self._manager.inject(AzureFault(fault), action, count, spot_alone=spot_alone)
        else:
            with self._manager.lock:
                self._manager.orders.clear()

    def left(self) -> list[str]:
        """See Foreign."""
        manager = self._manager
        with manager.lock:
            return [*manager.machines, *manager.disks, *manager.networks, *manager.addresses]

    @contextmanager
    def answering(self, folder: Path, address: str) -> Iterator[None]:
        """See Foreign."""
        with answering(self._manager, folder, self.hosts, address, 443):
            yield

    def furnish(self, machine: Machine, storage: str) -> None:
        """See Foreign."""
        asked = "keyvault secret show --vault-name my-vault --name simyard-storage --query value --output tsv"
        token = (
            f'{{"accessToken": "{self._manager.new_token()}", "expires_on": 4000000000, '
            f'"expiresOn": "2096-10-02 07:06:40.000000", "tenant": "{resource_manager.TENANT}"}}'
        )
        _command(
            machine,
            "az",
            f"  {asked!r}) cat <<END\n{_secret(storage)}END\n  ;;\n"
            "  'login --identity --output none') ;;\n"
            f"  'account get-access-token '*) echo '{token}' ;;\n",
        )


def _secret(storage: str) -> str:
    lines = {"AWS_ACCESS_KEY_ID": "cloud", "AWS_SECRET_ACCESS_KEY": "cloud-secret", "AWS_ENDPOINT_URL": storage}
    return "".join(f"export {name}={value}\n" for name, value in lines.items())


def _command(machine: Machine, name: str, cases: str) -> None:
    """Put a command onto a machine's disk that knows what these cases of a shell say, and no more."""
    file = machine.disk / "run/bin" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f'#!/bin/bash\ncase "$*" in\n{cases}  *) echo "{name} $*?" >&2; exit 1 ;;\nesac\n')
    file.chmod(0o755)
