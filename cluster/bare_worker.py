"""The program that Ray's workers on a server's machine are: Ray's own, but without Arrow where nobody asks for it.

Ray imports Arrow and NumPy into every worker, to pickle slices of tables better. We never send tables through Ray, and
they hold 55 MiB in each process. Decision 0023 has the figures.
"""

from __future__ import annotations

import runpy
import sys
from contextlib import suppress
from pathlib import Path

from ray._private import arrow_serialization


def leave_arrow_out() -> None:
    """Keep Ray from importing Arrow when this process connects to it."""
    arrow_serialization._register_custom_datasets_serializers = lambda _: None


if __name__ == "__main__":
    # This file's folder, whose modules' names are not meant for everybody; Ray puts another one before it.
    with suppress(ValueError):  # of a fork it is none
        sys.path.remove(str(Path(__file__).parent))
    leave_arrow_out()
    runpy.run_module("ray._private.workers.default_worker", run_name="__main__", alter_sys=True)
