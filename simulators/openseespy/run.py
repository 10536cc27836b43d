"""Runs a Python script with OpenSees ready to be imported.

    opensees SCRIPT.py [ARGUMENT]...

The script runs in the current folder as `python SCRIPT.py` would run it; its exit status is this program's. Runs inside
the simulator's own environment: standard library and openseespy only.
"""

from __future__ import annotations

import ctypes
import importlib.util
import io
import os
import runpy
import sys
from pathlib import Path


def main(arguments: list[str]) -> int:
    """Run the script that the arguments name and return the exit status."""
    if not arguments:
        print("usage: opensees SCRIPT.py [ARGUMENT]...", file=sys.stderr)
        return 2
    script = Path(arguments[0])
    if not script.is_file():
        print(f"opensees: there is no file {script}", file=sys.stderr)
        return 2
    _load_libraries()
    # Whoever follows the log sees each line when it is printed.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True)
    sys.argv = [str(script), *arguments[1:]]
    sys.path.insert(0, str(script.parent.resolve()))
    runpy.run_path(str(script), run_name="__main__")
    return 0


def _load_libraries() -> None:
    """Load the libraries that OpenSees' own library cannot find by itself, because it does not say where they are."""
    package = importlib.util.find_spec("openseespylinux")
    if package is None or package.origin is None:
        return
    folder = Path(package.origin).parent / "lib"
    # Each after those that it needs itself.
    for name in ("libquadmath.so.0", "libgfortran.so.4", "libgomp.so.1", "libblas.so.3", "liblapack.so.3"):
        if (folder / name).is_file():
            ctypes.CDLL(str(folder / name), mode=ctypes.RTLD_GLOBAL)
    # For the processes that the script may start.
    paths = [str(folder), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
    os.environ["LD_LIBRARY_PATH"] = ":".join(paths)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
