"""Networks of machines: a switch without an uplink, whose namespace lives only as long as the process that made it."""

from __future__ import annotations

import ctypes
import ipaddress
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

METADATA_ADDRESS = "169.254.169.254"
_RANGES = range(100, 200)
"""The n of the addresses 10.n.0.0/16 that a cloud may take."""
_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments: int) -> None:
    if getattr(_libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def _own_network() -> int:
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


@contextmanager
def inside(network: int) -> Iterator[None]:
    """Let this thread, and the processes that it starts, be in a network namespace."""
    home = _own_network()
    try:
        _call("setns", network, _CLONE_NEWNET)
        try:
            yield
        finally:
            _call("setns", home, _CLONE_NEWNET)
    finally:
        os.close(home)


def new_network() -> int:
    """Return a descriptor of a new network namespace, which is gone when nobody holds it any more."""
    home = _own_network()
    try:
        _call("unshare", _CLONE_NEWNET)
        try:
            return _own_network()
        finally:
            _call("setns", home, _CLONE_NEWNET)
    finally:
        os.close(home)


def _path(network: int) -> str:
    return f"/proc/{os.getpid()}/fd/{network}"


def _ip(*commands: str) -> None:
    """Carry out commands of `ip` where this thread is."""
    argv = ["ip", "-batch", "-"]
    done = subprocess.run(argv, input="\n".join(commands) + "\n", capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise OSError(f"ip: {done.stderr.strip()} in {commands}")


def _asked(*argv: str) -> list[dict[str, str]]:
    done = subprocess.run(["ip", "-json", *argv], capture_output=True, text=True, check=True)
    told: list[dict[str, str]] = json.loads(done.stdout or "[]")
    return told


def _is_free(number: int) -> bool:
    wanted = ipaddress.ip_network(f"10.{number}.0.0/16")
    routes = (route["dst"] for route in _asked("route", "show", "table", "all") if "dst" in route)
    return not any(
        wanted.overlaps(ipaddress.ip_network(to))
        for to in routes
        if to != "default" and ":" not in to and to not in ("0.0.0.0/0", "10.0.0.0/8")
    )


def links_of(folder: Path) -> list[str]:
    """Return the names of this host's links that belong to the cloud of a folder."""
    return [link["ifname"] for link in _asked("link") if link.get("ifalias") == str(folder)]


class Switch:
    """A switch to which this host and all machines of a cloud are connected; nothing else can be reached over it."""

    def __init__(self, folder: Path) -> None:
        self.network = new_network()
        self.number = self._claim()
        self.host_link = f"simyard-{self.number}"
        self.host_address = f"10.{self.number}.0.1"
        self.gateway = f"10.{self.number}.0.2"
        self._folder = folder
        with inside(self.network):
            _ip(
                "link set lo up",
                "link add switch type bridge",
                f"addr add {self.gateway}/16 dev switch",
                "link set host master switch up",
                "link set switch up",
                "route add unreachable default",
            )
            # What asks for the world outside shall hear at once that there is none.
            Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        _ip(
            f"addr add {self.host_address}/16 dev {self.host_link}",
            f"link set {self.host_link} alias {folder}",
            f"link set {self.host_link} up",
        )

    def _claim(self) -> int:
        """Make this host's cable, whose name says which addresses it takes: of two clouds only one can have it."""
        for number in _RANGES:
            if not _is_free(number):
                continue
            try:
                _ip(f"link add simyard-{number} type veth peer name host netns {_path(self.network)}")
            except OSError as error:
                if "File exists" not in str(error):
                    raise
            else:
                return number
        raise OSError("no range of addresses is free for a cloud")

    def connect(self, network: int, address: str, public: str = "") -> None:
        """Lay a cable to a machine's network, in which it gets its addresses and that of the metadata service.

        At its public address other machines find it, and this host does not.
        """
        port = _port(address)
        with inside(self.network):
            _ip(
                f"link add {port} type veth peer name eth0 netns {_path(network)}",
                f"link set {port} master switch up",
                *([f"route replace {public}/32 dev switch"] if public else []),
            )
        with inside(network):
            _ip(
                "link set lo up",
                f"addr add {METADATA_ADDRESS}/32 dev lo scope host",
                f"addr add {address}/16 dev eth0",
                "link set eth0 up",
                f"route add default via {self.gateway}",
                *([f"addr add {public}/32 dev eth0"] if public else []),
            )

    def pull(self, address: str) -> None:
        """Pull a machine's cable: what is sent to it or by it is lost in silence."""
        with inside(self.network):
            _ip(f"link set {_port(address)} down")

    def plug(self, address: str) -> None:
        """Plug a machine's cable in again."""
        with inside(self.network):
            _ip(f"link set {_port(address)} up")

    def disconnect(self, address: str) -> None:
        """Take a machine's cable away."""
        with inside(self.network):
            _ip(f"link del {_port(address)}")

    def close(self) -> None:
        """Take the switch away, and this host's cable with it."""
        _ip(f"link del {self.host_link}")
        os.close(self.network)


def _port(address: str) -> str:
    return "to-" + address.split(".", 2)[2]
