"""The process in which a cloud lives: `python -m tests.cloud.keeper FOLDER`.

It answers AWS's clients, boots a machine for each instance that the emulator runs, and ends all of it when its
standard input ends, which happens at the latest with the process that started it. Each line there is a JSON object with
a command in `do`, and is answered by a line of JSON on standard output. When this process is killed itself, the kernel
takes the machines and the networks away.
"""

from __future__ import annotations

import base64
import json
import logging
import select
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any, ClassVar

from moto.ec2.models import ec2_backends
from moto.ec2.models.instance_types import InstanceTypeBackend
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

from tests.cloud.compute_engine import HOSTS, PROJECT, ComputeEngine, GoogleFault, running_google, sku
from tests.cloud.faults import Fault, FaultyApi, Order
from tests.cloud.machine import Machine
from tests.cloud.metadata import GoogleMetadata, Metadata, MetadataServer
from tests.cloud.network import METADATA_ADDRESS, Switch
from tests.services.price_list import price_list

ACCOUNT = "123456789012"
_PERIOD_SECONDS = 0.2
_FAMILIES = ("t3", "m5", "c5", "r5", "m7i", "c7i")
"""The types of machines that are to be had: to list all of AWS's 1,400 takes the emulator and a client 10 s."""


class Place:
    """An instance of the emulator with its machine and its metadata service."""

    def __init__(self, machine: Machine, metadata: Metadata | GoogleMetadata, boots_at: float) -> None:
        self.machine = machine
        self.metadata = metadata
        self.boots_at: float | None = boots_at
        self.ends_at: float | None = None
        self.server = MetadataServer(machine.network, metadata)

    def remove(self) -> None:
        """End the machine and its metadata service, and take its disk away."""
        self.server.close()
        self.machine.remove()
        shutil.rmtree(self.machine.disk)


class GoogleInstance:
    """An instance of Google's emulator, as that of AWS has its own."""

    instance_initiated_shutdown_behavior = "stop"
    _STATES: ClassVar = {"PROVISIONING": "pending", "RUNNING": "running", "TERMINATED": "stopped"}

    def __init__(self, engine: ComputeEngine, told: dict[str, Any]) -> None:
        self._engine, self._told = engine, told
        self.id = told["name"]
        self.instance_type = told["machineType"].rpartition("/")[2]
        self.state = self._STATES.get(told["status"], "shutting-down")
        self.private_ip = told["networkInterfaces"][0]["networkIP"]
        self.public_ip = ""
        self.lifecycle = "spot" if told["scheduling"].get("provisioningModel") == "SPOT" else None
        self.state_reason = SimpleNamespace()

    def get_tags(self) -> list[dict[str, str]]:
        """Return its labels as AWS has tags."""
        return [{"key": name, "value": value} for name, value in self._told["labels"].items()]

    def terminate(self) -> None:
        """Let it be gone."""
        self._engine.take_away(self.id)

    def stop(self) -> None:
        """Let it stop, and its disk be there."""
        self._engine.stop(self.id)

    @property
    def metadata(self) -> GoogleMetadata:
        """What it is told about itself."""
        items = {item["key"]: item["value"] for item in self._told["metadata"].get("items", ())}
        accounts = [one["email"] for one in self._told["serviceAccounts"]]
        return GoogleMetadata(
            instance=self.id,
            project=PROJECT,
            user_data=items.get("startup-script", ""),
            account=accounts[0] if accounts else "",
            new_token=self._engine.new_token,
        )


class Keeper:
    """A cloud: the API, the switch and the machines; `google` says whether Google's APIs are there beside AWS's."""

    def __init__(
        self,
        folder: Path,
        region: str,
        boot_seconds: float,
        environment: dict[str, str],
        image: list[str],
        *,
        google: bool = False,
    ) -> None:
        self._folder = folder
        self._image = image
        self._boot_seconds = boot_seconds
        types = InstanceTypeBackend.instance_types
        types[:] = [kind for kind in types if kind.name.split(".")[0] in _FAMILIES]
        self._backend: Any = ec2_backends[ACCOUNT][region]
        self._switch = Switch(folder)
        self._api = FaultyApi(DomainDispatcherApplication(create_backend_app))
        self._server = make_server(
            self._switch.host_address, 0, self._api, threaded=True, request_handler=MotoRequestHandler
        )
        self.endpoint = f"http://{self._switch.host_address}:{self._server.server_port}"
        self._prefix = f"10.{self._switch.number}."
        self.network = f"10.{self._switch.number}.0.0/16"
        self._closing = ExitStack()
        prices = self._closing.enter_context(price_list({("c7i.large", region): 0.72}, self._switch.host_address))
        self._environment = environment | {"AWS_ENDPOINT_URL": self.endpoint, "AWS_ENDPOINT_URL_PRICING": prices}
        self._google = ComputeEngine(1.0, f"10.{self._switch.number}.16.0/24") if google else None
        if self._google is not None:
            # A c4-standard-4 costs as much as in the catalogue of the release.
            parts = {
                "C4 Instance Core running in Netherlands": 0.03712,
                "C4 Instance Ram running in Netherlands": 0.003938,
            }
            self._google.skus = [sku(name, price, "OnDemand", "europe-west4") for name, price in parts.items()]
            told = running_google(self._google, folder, self._switch.host_address, 443)
            self._closing.enter_context(told)
            self._environment = _googles(environment)
        self._places: dict[str, Place] = {}
        Thread(target=self._server.serve_forever, daemon=True).start()
        self._desk = self._machine("desk", f"10.{self._switch.number}.0.3", "", (folder / "key.pub").read_text())
        self._boot(self._desk, "desk", "")

    def serve(self) -> None:
        """Keep the machines as the emulator says, and carry out commands, until standard input ends."""
        commands: dict[str, Callable[..., Any]] = {
            "calls": self.calls,
            "cut": self.cut,
            "heal": self.heal,
            "inject": self.inject,
            "google_calls": self.google_calls,
            "google_inject": self.google_inject,
            "instances": self.instances,
            "kill": self.kill,
            "mend": self.mend,
            "preempt": self.preempt,
        }
        self._say({"endpoint": self.endpoint, "network": self.network})
        while True:
            if select.select([sys.stdin], [], [], _PERIOD_SECONDS)[0]:
                line = sys.stdin.readline()
                if not line:
                    return
                asked = json.loads(line)
                try:
                    self._say({"answer": commands[asked.pop("do")](**asked)})
                except Exception as error:  # noqa: BLE001 - the test that has asked is told
                    self._say({"error": f"{type(error).__name__}: {error}"})
            self._step()

    def close(self) -> None:
        """End all of it."""
        self._closing.close()
        self._server.shutdown()
        for place in self._places.values():
            place.remove()
        self._desk.remove()
        self._switch.close()
        shutil.rmtree(self._folder / "disks")

    def instances(self) -> list[dict[str, Any]]:
        """Return the desk, and what the emulator says of the instances, with the machines that they are."""
        desk = {"id": "desk", "kind": "", "state": "running", "tags": {}, "market": ""}
        told = [desk | {"address": self._desk.address, "public": ""} | self._shown(self._desk)]
        with self._api.lock:
            for instance in self._instances():
                place = self._places.get(instance.id)
                told.append(
                    {
                        "id": instance.id,
                        "kind": instance.instance_type,
                        "state": instance.state,
                        "tags": {tag["key"]: tag["value"] for tag in instance.get_tags()},
                        "market": instance.lifecycle or "on-demand",
                        "address": instance.private_ip or "",
                        "public": instance.public_ip or "",
                    }
                    | (self._shown(place.machine) if place else {"pid": 0, "home": ""})
                )
        return told

    def calls(self) -> list[dict[str, Any]]:
        """Return all calls of the API."""
        return [asdict(call) for call in self._api.calls]

    def google_calls(self) -> list[tuple[float, str]]:
        """Return when each call of Google's APIs came, and which it was."""
        assert self._google is not None
        with self._google.lock:
            return list(self._google.calls)

    def google_inject(self, fault: str, action: str, count: int, spot_alone: bool) -> None:
        """Let the next calls of Google's APIs meet a fault; none, where it is empty, any more."""
        assert self._google is not None
        if fault:
            self._google.inject(GoogleFault(fault), action, count, spot_alone=spot_alone)
        else:
            with self._google.lock:
                self._google.orders.clear()

    def inject(self, fault: str, count: int, action: str, where: dict[str, str]) -> None:
        """Let the next calls meet a fault."""
        kind = Fault(fault)
        with self._api.lock:
            self._api.orders.append(Order(kind, count, action or kind.action, where))

    def heal(self) -> None:
        """Let no call meet a fault any more."""
        with self._api.lock:
            self._api.orders.clear()

    def kill(self, instance: str, seconds: float) -> None:
        """Kill a machine's processes now, and let the emulator hear of it after the seconds."""
        place = self._places[instance]
        place.boots_at = None
        place.machine.kill()
        place.ends_at = time.monotonic() + seconds

    def cut(self, instance: str) -> None:
        """Pull a machine's cable."""
        self._switch.pull(self._places[instance].machine.address)

    def mend(self, instance: str) -> None:
        """Plug a machine's cable in again."""
        self._switch.plug(self._places[instance].machine.address)

    def preempt(self, instance: str, seconds: float) -> None:
        """Give a machine notice, and take it away after the seconds."""
        place = self._places[instance]
        place.metadata.give_notice(seconds)
        place.ends_at = time.monotonic() + seconds

    def _step(self) -> None:
        """Begin and end machines as the emulator says by now."""
        now = time.monotonic()
        with self._api.lock:
            known = {instance.id: instance for instance in self._instances()}
            for name, place in self._places.items():
                if name not in known:  # Google forgets at once what has ended
                    continue
                if place.machine.is_off() and known[name].state == "running":
                    _switch_off(known[name])
                if place.ends_at is not None and now >= place.ends_at and known[name].state == "running":
                    _take_away(known[name])
            # An instance elsewhere than in the cloud's network is told as running, and is nothing.
            ours = {name: known[name] for name in known if (known[name].private_ip or "").startswith(self._prefix)}
            wanted = {name: ours[name] for name in ours if ours[name].state in ("pending", "running")}
            new = {name: wanted[name] for name in wanted if name not in self._places}
            for name, instance in new.items():
                self._places[name] = self._placed(instance)
        for name in [name for name in self._places if name not in wanted]:
            self._places.pop(name).remove()
        for name, place in self._places.items():
            if place.boots_at is not None and now >= place.boots_at:
                place.boots_at = None
                self._boot(place.machine, name, place.metadata.user_data)

    def _instances(self) -> list[Any]:
        found = [instance for kept in self._backend.all_reservations() for instance in kept.instances]
        if self._google is None:
            return found
        with self._google.lock:
            self._google.settle()
            return [*found, *(GoogleInstance(self._google, one) for one in self._google.instances.values())]

    def _placed(self, instance: Any) -> Place:
        if isinstance(instance, GoogleInstance):
            assert self._google is not None
            machine = self._machine(instance.id, instance.private_ip, "", self._google.root_keys())
            _as_googles_image(machine, self.endpoint)
            return Place(machine, instance.metadata, time.monotonic() + self._boot_seconds)
        metadata = Metadata(
            instance=instance.id,
            kind=instance.instance_type,
            zone=instance.placement.zone,
            address=instance.private_ip,
            public=instance.public_ip or "",
            market=instance.lifecycle or "on-demand",
            user_data=base64.b64decode(str(instance.user_data or "")).decode(),
            needs_token=instance.metadata_options.http_tokens == "required",
        )
        never = instance.id in self._api.hanging
        boots_at = float("inf") if never else time.monotonic() + self._boot_seconds
        pair = self._backend.key_pairs.get(instance.key_name)
        key = pair.material_public.decode() if pair else ""
        return Place(self._machine(instance.id, metadata.address, metadata.public, key), metadata, boots_at)

    def _machine(self, name: str, address: str, public: str, key: str) -> Machine:
        disk = self._folder / "disks" / name
        return Machine(self._switch, address, public, disk, key=key, host_key=self._folder / "host-key")

    def _boot(self, machine: Machine, name: str, user_data: str) -> None:
        hosts = ""
        if self._google is not None:
            names = " ".join(f"{host}.googleapis.com" for host in HOSTS)
            hosts = f"{self._switch.host_address} {names}\n{METADATA_ADDRESS} metadata.google.internal\n"
            shutil.copy(self._folder / "authority.pem", machine.disk / "run")
        machine.boot(self._environment, user_data, self._folder / f"{name}.log", self._image, hosts)

    def _shown(self, machine: Machine) -> dict[str, Any]:
        return {"pid": machine.first_process(), "home": str(machine.disk / "root")}

    def _say(self, told: dict[str, Any]) -> None:
        print(json.dumps(told), flush=True)  # noqa: T201 - the answer that the test waits for


def _googles(environment: dict[str, str]) -> dict[str, str]:
    """Return what is set on each of Google's machines: nothing of AWS, and whom to trust."""
    kept = {name: value for name, value in environment.items() if not name.startswith("AWS_")}
    return kept | {"HTTPLIB2_CA_CERTS": "/run/authority.pem"}


def _as_googles_image(machine: Machine, storage: str) -> None:
    """Put onto a machine's disk what our image for Google Cloud has: a `gcloud` that knows one secret."""
    lines = {"AWS_ACCESS_KEY_ID": "cloud", "AWS_SECRET_ACCESS_KEY": "cloud-secret", "AWS_ENDPOINT_URL": storage}
    told = "".join(f"export {name}={value}\n" for name, value in lines.items())
    gcloud = machine.disk / "run/bin/gcloud"
    gcloud.parent.mkdir(parents=True, exist_ok=True)
    gcloud.write_text(
        "#!/bin/bash\n"
        '[ "$*" = "secrets versions access latest --secret=simyard-storage" ] || { echo "gcloud $*?" >&2; exit 1; }\n'
        f"cat <<END\n{told}END\n"
    )
    gcloud.chmod(0o755)


def _take_away(instance: Any) -> None:
    """Let the emulator say that the cloud has ended an instance, not its user."""
    instance.terminate()
    code, text = (
        ("Server.SpotInstanceTermination", "Spot instance termination")
        if instance.lifecycle == "spot"
        else ("Server.InternalError", "Internal error on launch")
    )
    instance.state_reason.code, instance.state_reason.message = code, f"{code}: {text}"


def _switch_off(instance: Any) -> None:
    """Let the emulator say that a machine has switched itself off; it is ended where it was launched to be."""
    if instance.instance_initiated_shutdown_behavior == "terminate":
        instance.terminate()
    else:
        instance.stop()
    text = "Client.InstanceInitiatedShutdown"
    instance.state_reason.code, instance.state_reason.message = text, f"{text}: Instance initiated shutdown"


def main(
    folder: Path, region: str, boot_seconds: float, environment: dict[str, str], image: list[str], *, google: bool
) -> None:
    """Keep a cloud until standard input ends."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    keeper = Keeper(folder, region, boot_seconds, environment, image, google=google)
    try:
        keeper.serve()
    finally:
        keeper.close()


if __name__ == "__main__":
    told = json.loads(sys.argv[4])
    main(Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]), told["environment"], sys.argv[5:], google=told["google"])
