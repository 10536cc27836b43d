"""What the containers of a task over several machines need of each other: a network, names, and a way to launch."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

from simyard.resources import Resources
from storage.folder import Folder

WHERE = "/simyard"
"""Where a container sees the span's folder."""
_AGENT = Path(__file__).with_name("launch.sh")
_ASKED = ".asked"
_IPV4 = 4
_LONGEST = 4 * 1024**2
"""Bytes of a call: a command with all its variables."""
_PIECE = 256 * 1024


def name_of(number: int) -> str:
    """Return the name by which the machines of a task know the one of that number; the first one has 0."""
    return f"machine-{number}"


@dataclass(frozen=True, kw_only=True)
class Span:
    """The machines of a task over several, and the folder by which its containers on one of them are told of it."""

    folder: Path
    addresses: Mapping[str, str] = field(default_factory=dict)
    """Of each machine, the first one first, by the name that the task's programs know it by."""
    hosts: Mapping[str, str] = field(default_factory=dict)
    """The same by the machines' own names, of which programs tell each other."""

    @property
    def variables(self) -> dict[str, str]:
        """The variables by which a program finds the machines, and Open MPI and MPICH start their ranks there."""
        agent, hosts = f"{WHERE}/launch", f"{WHERE}/hostfile"
        # A machine may have other addresses, by which the others do not reach it.
        network = network_of(self.addresses.values())
        only = ("OMPI_MCA_oob_tcp_if_include", "OMPI_MCA_btl_tcp_if_include", "PRTE_MCA_prte_if_include")
        return {name: network for name in only if network is not None} | {
            "SIMYARD_MACHINES": str(len(self.addresses)),
            "SIMYARD_HOSTFILE": hosts,
            "SIMYARD_LAUNCH": agent,
            "OMPI_MCA_orte_default_hostfile": hosts,
            "OMPI_MCA_plm_rsh_agent": agent,
            "PRTE_MCA_prte_default_hostfile": hosts,
            "PRTE_MCA_plm_ssh_agent": agent,
            # Else it does not see that the first machine is its own, and would have itself launched there.
            "PRTE_MCA_prte_do_not_resolve": "0",
            "HYDRA_LAUNCHER": "ssh",
            "HYDRA_LAUNCHER_EXEC": agent,
            "HYDRA_HOST_FILE": f"{hosts}.mpich",
        }

    def lay_out(self, resources: Resources) -> None:
        """Write what containers read: the launch agent, and the lists of machines with the ranks that each takes."""
        slots = max(1, int(resources.cpus))
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        agent = self.folder / "launch"
        agent.write_text(_AGENT.read_text())
        agent.chmod(0o755)
        (self.folder / "hostfile").write_text("".join(f"{name} slots={slots}\n" for name in self.addresses))
        (self.folder / "hostfile.mpich").write_text("".join(f"{name}:{slots}\n" for name in self.addresses))


def network_of(addresses: Iterable[str]) -> str | None:
    """Return the smallest network that has all of these IPv4 addresses, such as `10.0.0.4/31`; None without one."""
    found = [ip_address(address) for address in addresses]
    if not found or any(one.version != _IPV4 for one in found):
        return None
    first, *others = [int(one) for one in found]
    bits = max(((first ^ other).bit_length() for other in others), default=0)
    return f"{ip_address(first >> bits << bits)}/{32 - bits}"


@dataclass(frozen=True, kw_only=True)
class Call:
    """A command that a program in the container wants to have run on another machine."""

    name: str
    machine: str
    script: str


class Calls:
    """The calls of the launch agent, as files in a span's folder; the container may write whatever it likes there."""

    def __init__(self, folder: Path) -> None:
        self._root = folder
        self._folder = Folder(folder)

    def take(self) -> Iterator[Call]:
        """Give the calls that were asked since the last look."""
        with os.scandir(self._root) as scan:
            asked = sorted(item.name for item in scan if item.name.endswith(_ASKED))
        for name in asked:
            call = name.removesuffix(_ASKED)
            try:
                text = self._read(name)
            except OSError:
                text = ""
            with suppress(OSError):
                (self._root / name).unlink()
            machine, _, script = text.partition("\n")
            yield Call(name=call, machine=machine, script=script)

    def answer(self, call: Call, number: int, out: bytes, err: bytes, status: int | None) -> None:
        """Give the next piece of a call's output, from number 0 on, and its exit status with the last one."""
        told = "" if status is None else str(status)
        # The agent reads the others once the status is there.
        for kind, piece in (("out", out), ("err", err), ("status", told.encode())):
            self._folder.write(f"{call.name}.{number}.{kind}", [piece], mode=0o644)

    def _read(self, name: str) -> str:
        pieces, length = [], 0
        with os.fdopen(self._folder.open(name), "rb") as file:
            while (piece := file.read(_PIECE)) and length < _LONGEST:
                pieces.append(piece)
                length += len(piece)
        return b"".join(pieces).decode(errors="surrogateescape") if length < _LONGEST else ""


__all__ = ["WHERE", "Call", "Calls", "Span", "name_of"]
