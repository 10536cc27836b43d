"""Private Python environments of native simulators: each made once per machine, by pip, in its final place.

A folder counts only when its marker is there, which is written last: what a crash left half made is made again.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from simulators.errors import ImageError, Stopped
from simulators.programs import install_programs
from simulators.runtimes.runtime import Prepared

if TYPE_CHECKING:
    from simulators.spec import VersionSpec

_MARKER = "ready.json"
_POLL = 0.1
_INSTALL_SECONDS = 1800.0
_TAIL = 2000
# Credentials and our own settings stay with us; the Python ones would change which packages are found.
_SECRET = ("AWS_", "AZURE_", "GOOGLE_", "RAY_", "SIMYARD_")
_PYTHON = {"PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__"}


def base_python() -> Path:
    """Return the interpreter below our own environment: it sees the standard library and none of our packages."""
    return Path(getattr(sys, "_base_executable", sys.executable))


def prepare_environment(root: Path, simulator: str, version: VersionSpec, stopped: Callable[[], bool]) -> Prepared:
    """Return the environment of a version below `root`; two callers at a time make it once.

    Raises:
        ImageError: it could not be made; the text ends with pip's last lines.
        Stopped: `stopped` became true before it was there.
    """
    if not version.requirements and not version.programs:
        return Prepared(python=base_python())
    recipe = {
        "requirements": list(version.requirements or ()),
        "programs": {name: path.read_text(encoding="utf-8") for name, path in sorted(version.programs.items())},
        "python": f"{base_python()} {platform.python_version()} {platform.machine()}",
    }
    digest = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:16]
    folder = root.resolve() / f"{simulator}-{version.version}-{digest}"
    prepared = Prepared(python=folder / "bin" / "python", programs=folder / "bin")
    if _is_ready(folder):
        return prepared
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock = hold(folder.with_name(folder.name + ".lock"), stopped)
    except OSError as error:
        raise ImageError(f"The folder {root} for environments cannot be used: {error}") from error
    try:
        if not _is_ready(folder):
            _make(folder, recipe, version, stopped)
    finally:
        lock.release()
    return prepared


def hold(path: Path, stopped: Callable[[], bool]) -> FileLock:
    """Return a lock between processes, held; any thread may release it.

    Raises:
        Stopped: `stopped` became true while another held it.
    """
    lock = FileLock(path, thread_local=False)
    while True:
        if stopped():
            raise Stopped
        try:
            lock.acquire(timeout=_POLL)
        except Timeout:
            continue
        return lock


def _is_ready(folder: Path) -> bool:
    # The interpreter is a link to the base Python, which may have been taken away since.
    return (folder / _MARKER).exists() and (folder / "bin" / "python").exists()


def _make(folder: Path, recipe: Mapping[str, object], version: VersionSpec, stopped: Callable[[], bool]) -> None:
    try:
        shutil.rmtree(folder, ignore_errors=True)
        requirements = list(version.requirements or ())
        _run([sys.executable, "-m", "venv", *([] if requirements else ["--without-pip"]), str(folder)], stopped)
        if requirements:
            pip = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--no-input"]
            _run([*pip, "install", "--no-warn-script-location", "--", *requirements], stopped)
        install_programs(version, folder)
        # A power failure must not leave the marker without all that it speaks for.
        os.sync()
        marker = folder / (_MARKER + ".tmp")
        marker.write_text(json.dumps(recipe, indent=1))
        marker.rename(folder / _MARKER)
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise ImageError(f"The environment of the simulator could not be made in {folder}: {error}") from error
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _installer_environment() -> dict[str, str]:
    """Return the operator's environment, which holds pip's settings, without what no installer needs to see."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_SECRET) and name not in _PYTHON}


def _run(argv: list[str], stopped: Callable[[], bool]) -> None:
    """Run a tool to its end; it is ended with all its children when `stopped` becomes true."""
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=_installer_environment(),
            cwd="/",
            start_new_session=True,
        )
        waited = 0.0
        try:
            while True:
                try:
                    code = process.wait(_POLL)
                    break
                except subprocess.TimeoutExpired:
                    waited += _POLL
                if stopped():
                    raise Stopped
                if waited > _INSTALL_SECONDS:
                    raise ImageError(f"{shlex.join(argv[:3])} did not end within {_INSTALL_SECONDS:g} s.")
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if code != 0:
            output.seek(max(0, output.seek(0, os.SEEK_END) - _TAIL))
            tail = output.read().decode(errors="replace").strip()
            raise ImageError(f"The environment of the simulator could not be made (exit code {code}): {tail}")
