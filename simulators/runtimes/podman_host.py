"""What podman must be told so that it works on this host."""

from __future__ import annotations

import os
import resource
import shutil
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from simulators.errors import RuntimeUnavailable
from storage.settings import load_settings

_PASSED = (
    "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TMPDIR", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_DATA_HOME",
    "DBUS_SESSION_BUS_ADDRESS", "CONTAINERS_CONF", "CONTAINERS_STORAGE_CONF", "CONTAINERS_REGISTRIES_CONF",
    "REGISTRY_AUTH_FILE", "DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG",
    "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR",
)  # fmt: skip
"""The variables that an engine's client may need; it gets nothing else of ours."""
_SYSTEM_PATH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
_CAP_SYS_RESOURCE = 24
# What podman gives a container of root's when nothing is configured.
_DEFAULT_LIMITS = {"nofile": 1_048_576, "nproc": 4_194_304}


@dataclass(frozen=True, kw_only=True)
class Host:
    """What of this host decides how podman must be told to run; `limits` holds the hard limits of this process."""

    hybrid_cgroups: bool
    may_raise_limits: bool
    limits: dict[str, int]
    pids: int
    has_runc: bool

    @staticmethod
    def probe() -> Host:
        """Return this host."""
        return Host(
            hybrid_cgroups=_is_hybrid(Path("/proc/self/mounts").read_text()),
            may_raise_limits=os.geteuid() != 0 or _has_capability(_CAP_SYS_RESOURCE),
            limits={
                "nofile": resource.getrlimit(resource.RLIMIT_NOFILE)[1],
                "nproc": resource.getrlimit(resource.RLIMIT_NPROC)[1],
            },
            pids=int(Path("/proc/sys/kernel/pid_max").read_text()),
            has_runc=shutil.which("runc", path=_search_path()) is not None,
        )


def engine_environment() -> dict[str, str]:
    """Return the variables for a container engine's client: the search path and what it may need of ours."""
    passed = {name: os.environ[name] for name in _PASSED if name in os.environ}
    return passed | {"PATH": _search_path()}


@cache
def podman_environment() -> dict[str, str]:
    """Return the variables with which podman works on this host; a configuration file is written where it needs one.

    Raises:
        RuntimeUnavailable: podman is not installed, or the host needs a container program that is not.
    """
    environment = engine_environment()
    if shutil.which("podman", path=environment["PATH"]) is None:
        raise RuntimeUnavailable("podman is not installed.", fix="Install it: apt-get install podman.")
    configured = read_configuration(environment)
    changes = needed_changes(Host.probe(), configured)
    if not changes:
        return environment
    path = load_settings().data_dir / "containers.conf"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = to_toml(_merge(configured, changes))
    if not path.is_file() or path.read_text() != text:
        new = path.with_suffix(f".{os.getpid()}")
        new.write_text(text)
        new.replace(path)
    return environment | {"CONTAINERS_CONF": str(path)}


def needed_changes(host: Host, configured: dict[str, Any]) -> dict[str, Any]:
    """Return what must be configured differently from `configured` for containers to start on a host.

    crun refuses hosts with both versions of cgroups, where runc works; and without CAP_SYS_RESOURCE a container's
    limits cannot be above our own. What the operator configured is left alone.

    Raises:
        RuntimeUnavailable: the host needs runc and has none.
    """
    changes: dict[str, Any] = {}
    if host.hybrid_cgroups and configured.get("engine", {}).get("runtime", "crun") == "crun":
        if not host.has_runc:
            raise RuntimeUnavailable(
                "this host mounts both versions of cgroups, with which crun does not work, and has no runc.",
                fix="Install it: apt-get install runc.",
            )
        changes["engine"] = {"runtime": "runc"}
    if not host.may_raise_limits and "default_ulimits" not in configured.get("containers", {}):
        limits = {
            "nofile": _lowest(_DEFAULT_LIMITS["nofile"], host.limits["nofile"]),
            "nproc": _lowest(_DEFAULT_LIMITS["nproc"], host.limits["nproc"], host.pids),
        }
        if limits != _DEFAULT_LIMITS:
            changes["containers"] = {"default_ulimits": [f"{name}={n}:{n}" for name, n in limits.items()]}
    return changes


def read_configuration(environment: dict[str, str]) -> dict[str, Any]:
    """Return podman's configuration as its own files give it, a later file over an earlier one."""
    if "CONTAINERS_CONF" in environment:
        files = [Path(environment["CONTAINERS_CONF"])]
    else:
        home = Path(environment.get("XDG_CONFIG_HOME") or Path(environment.get("HOME", "/")) / ".config")
        own = [home / "containers"] if os.geteuid() != 0 else []
        files = [Path("/usr/share/containers/containers.conf")]
        for folder in (Path("/etc/containers"), *own):
            files += [folder / "containers.conf", *sorted(folder.glob("containers.conf.d/*.conf"))]
    merged: dict[str, Any] = {}
    for file in files:
        if file.is_file():
            merged = _merge(merged, tomllib.loads(file.read_text()))
    return merged


def to_toml(tables: dict[str, Any], prefix: str = "") -> str:
    """Return TOML text for nested tables of texts, numbers, booleans and lists of these."""
    values = {key: value for key, value in tables.items() if not isinstance(value, dict)}
    lines = [f"[{prefix}]"] if prefix else []
    lines += [f"{_toml_value(key)} = {_toml_value(value)}" for key, value in values.items()]
    text = "\n".join(lines) + "\n" if lines else ""
    for key, value in tables.items():
        if isinstance(value, dict):
            text += to_toml(value, f"{prefix}.{_toml_value(key)}" if prefix else _toml_value(key))
    return text


def _toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(_toml_value(item) for item in value)}]"
    if isinstance(value, int | float):
        return str(value)
    escaped = "".join(c if c.isprintable() and c not in '"\\' else f"\\U{ord(c):08x}" for c in str(value))
    return f'"{escaped}"'


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _lowest(*limits: int) -> int:
    return min(limit for limit in limits if limit != resource.RLIM_INFINITY)


def _search_path() -> str:
    # A service's PATH often lacks the sbin folders, where runc, iptables and newuidmap helpers live.
    given = [folder for folder in os.environ.get("PATH", "").split(":") if folder]
    return ":".join(dict.fromkeys((*given, *_SYSTEM_PATH)))


def _is_hybrid(mounts: str) -> bool:
    kinds = {line.split()[1]: line.split()[2] for line in mounts.splitlines()}
    return kinds.get("/sys/fs/cgroup") == "tmpfs" and kinds.get("/sys/fs/cgroup/unified") == "cgroup2"


def _has_capability(number: int) -> bool:
    status = Path("/proc/self/status").read_text().splitlines()
    effective = next(line.split()[1] for line in status if line.startswith("CapEff:"))
    return bool(int(effective, 16) >> number & 1)
