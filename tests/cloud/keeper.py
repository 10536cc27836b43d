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
from typing import Any

from moto.ec2.models import ec2_backends
from moto.ec2.models.instance_types import InstanceTypeBackend
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

from tests.cloud.faults import Fault, FaultyApi, Order
from tests.cloud.foreign import AzureCloud, Foreign, ForeignInstance, GoogleCloud
from tests.cloud.machine import Machine
from tests.cloud.metadata import AzureMetadata, GoogleMetadata, Metadata, MetadataServer
from tests.cloud.network import Switch
from tests.services.price_list import price_list

ACCOUNT = "123456789012"
_PERIOD_SECONDS = 0.2
_FAMILIES = ("t3", "m5", "c5", "r5", "m7i", "c7i")
"""The types of machines that are to be had: to list all of AWS's 1,400 takes the emulator and a client 10 s."""

FOREIGN: dict[str, Callable[[str], Foreign]] = {"azure": AzureCloud, "gcp": GoogleCloud}


class Place:
    """An instance of the emulator with its machine and its metadata service."""

    def __init__(self, machine: Machine, metadata: Metadata | GoogleMetadata | AzureMetadata, boots_at: float) -> None:
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


class Keeper:
    """A cloud: the API, the switch and the machines; `foreign` names another one whose APIs are there beside AWS's."""

    def __init__(
        self,
        folder: Path,
        region: str,
        boot_seconds: float,
        environment: dict[str, str],
        image: list[str],
        *,
        foreign: str | None = None,
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
        self._foreign = None if foreign is None else FOREIGN[foreign](f"10.{self._switch.number}.16.0/24")
        if self._foreign is not None:
            self._closing.enter_context(self._foreign.answering(folder, self._switch.host_address))
            kept = {name: value for name, value in environment.items() if not name.startswith("AWS_")}
            self._environment = kept | dict(self._foreign.variables)
        self._places: dict[str, Place] = {}
        Thread(target=self._server.serve_forever, daemon=True).start()
        self._desk = self._machine("desk", f"10.{self._switch.number}.0.3", "", (folder / "key.pub").read_text())
        if self._foreign is not None:
            self._foreign.furnish(self._desk, self.endpoint)
        self._boot(self._desk, "desk", "")

    def serve(self) -> None:
        """Keep the machines as the emulator says, and carry out commands, until standard input ends."""
        commands: dict[str, Callable[..., Any]] = {
            "calls": self.calls,
            "cut": self.cut,
            "heal": self.heal,
            "inject": self.inject,
            "foreign_calls": self.foreign_calls,
            "foreign_inject": self.foreign_inject,
            "foreign_left": self.foreign_left,
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

    def foreign_calls(self) -> list[str]:
        """Return all calls of the other cloud's APIs."""
        assert self._foreign is not None
        return self._foreign.calls()

    def foreign_inject(self, fault: str, action: str, count: int, spot_alone: bool) -> None:
        """Let the next calls of the other cloud's APIs meet a fault; none, where it is empty, any more."""
        assert self._foreign is not None
        self._foreign.inject(fault, action, count, spot_alone=spot_alone)

    def foreign_left(self) -> list[str]:
        """Return all that the other cloud still has, and charges for."""
        assert self._foreign is not None
        return self._foreign.left()

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
                if name not in known:  # others than AWS forget at once what has ended
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
        return found if self._foreign is None else [*found, *self._foreign.instances()]

    def _placed(self, instance: Any) -> Place:
        if isinstance(instance, ForeignInstance):
            assert self._foreign is not None
            machine = self._machine(instance.id, instance.private_ip, "", instance.root_keys)
            self._foreign.furnish(machine, self.endpoint)
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
        if self._foreign is not None:
            hosts = self._foreign.lines(self._switch.host_address)
            shutil.copy(self._folder / "authority.pem", machine.disk / "run")
        machine.boot(self._environment, user_data, self._folder / f"{name}.log", self._image, hosts)

    def _shown(self, machine: Machine) -> dict[str, Any]:
        return {"pid": machine.first_process(), "home": str(machine.disk / "root")}

    def _say(self, told: dict[str, Any]) -> None:
        print(json.dumps(told), flush=True)  # noqa: T201 - the answer that the test waits for


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
    folder: Path,
    region: str,
    boot_seconds: float,
    environment: dict[str, str],
    image: list[str],
    *,
    foreign: str | None,
) -> None:
    """Keep a cloud until standard input ends."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    keeper = Keeper(folder, region, boot_seconds, environment, image, foreign=foreign)
    try:
        keeper.serve()
    finally:
        keeper.close()


if __name__ == "__main__":
    told = json.loads(sys.argv[4])
    main(Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]), told["environment"], sys.argv[5:], foreign=told["foreign"])
