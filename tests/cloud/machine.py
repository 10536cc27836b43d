"""A machine: namespaces with an address, a disk and processes of their own on this host."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import psutil

from tests.cloud.network import Switch, new_network

_INIT = Path(__file__).with_name("machine.sh")
_PROJECT = Path(__file__).parents[2]
_SEEN = sorted({str(_PROJECT), sys.prefix, sys.base_prefix})
"""What a machine sees of the host even where its own folders would cover it."""
_PATH = f"/run/bin:{sys.prefix}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Machine:
    """A machine on a switch; it has a network as soon as it is made, and runs once it has booted."""

    def __init__(self, switch: Switch, address: str, public: str, disk: Path, *, key: str, host_key: Path) -> None:
        self.address = address
        self.name = "ip-" + address.replace(".", "-")
        self.disk = disk
        self.network = new_network()
        self._switch = switch
        self._process: subprocess.Popen[bytes] | None = None
        self._pid = 0
        for folder in ("root/.ssh", "run/sshd", "run/lock", "tmp"):
            (disk / folder).mkdir(parents=True, exist_ok=True)
        for mark in ("booted", "off"):
            (disk / "run" / mark).unlink(missing_ok=True)
        (disk / "root/.ssh/authorized_keys").write_text(key)
        shutil.copy(host_key, disk / "run/host-key")
        switch.connect(self.network, address, public)

    def boot(
        self, environment: Mapping[str, str], user_data: str, console: Path, image: Iterable[str], hosts: str = ""
    ) -> None:
        """Start the machine's first process, which ends with the thread that calls this, at the latest.

        `hosts` are lines for its `/etc/hosts`.
        """
        (self.disk / "run/hosts").write_text(hosts)
        variables = {"PATH": _PATH, "HOME": "/root", "USER": "root", "SHELL": "/bin/bash", "LANG": "C.UTF-8"}
        variables |= environment
        lines = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items())
        (self.disk / "root/.bashrc").write_text(lines)
        (self.disk / "root/.profile").write_text(". ~/.bashrc\n")
        if user_data:
            script = self.disk / "run/user-data"
            script.write_text(user_data)
            script.chmod(0o755)
        argv = ["setpriv", "--pdeathsig=KILL", "nsenter", f"--net=/proc/{os.getpid()}/fd/{self.network}"]
        argv += ["unshare", "--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child", "--mount-proc"]
        argv += ["bash", str(_INIT), self.name, self.address, str(self.disk), *_SEEN, *image]
        with console.open("ab") as out:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=variables,
                start_new_session=True,
            )

    def first_process(self) -> int:
        """Return the host's id of the machine's first process, or 0 where it has not booted or is dead."""
        if self._process is None or self._process.poll() is not None or not (self.disk / "run/booted").exists():
            return 0
        if self._pid == 0:
            [init] = psutil.Process(self._process.pid).children()
            self._pid = init.pid
        return self._pid

    def is_off(self) -> bool:
        """Say whether it was switched off from within."""
        return self._process is not None and self._process.poll() is not None and (self.disk / "run/off").exists()

    def kill(self) -> None:
        """Kill all processes of the machine at once, and wait until they are gone."""
        if self._process is None or self._process.poll() is not None:
            return
        cgroups = _cgroups(psutil.Process(self._process.pid).children(recursive=True))
        # The kernel kills all others with the first one, and the process above it ends after all of them.
        for first in psutil.Process(self._process.pid).children():
            first.kill()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:  # it was killed before it had a child
            self._process.kill()
            self._process.wait()
        for cgroup in sorted(cgroups, reverse=True):
            with contextlib.suppress(OSError):  # others may be in it
                cgroup.rmdir()

    def remove(self) -> None:
        """Kill the machine and take its network away."""
        self.kill()
        self._switch.disconnect(self.address)
        os.close(self.network)


def _cgroups(processes: Iterable[psutil.Process]) -> set[Path]:
    """Return the folders of the cgroups that were made for some of these processes: all of a host have one tree."""
    top = Path("/sys/fs/cgroup")
    own = set(Path("/proc/self/cgroup").read_text().splitlines())
    found = set()
    for process in processes:
        try:
            lines = Path(f"/proc/{process.pid}/cgroup").read_text().splitlines()
        except OSError:
            continue
        for line in set(lines) - own:
            _, controllers, path = line.split(":", 2)
            hierarchy = controllers.removeprefix("name=") or ("unified" if (top / "unified").exists() else "")
            found.add(top / hierarchy / path.lstrip("/"))
    return found
