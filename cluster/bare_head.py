"""The program that starts a Ray head, whose workers are forked from a process beside it.

`python -m cluster.bare_head` reads what to start, a JSON object of the keyword arguments of
:func:`cluster.bare_node.start_node` and `fork_server`, that process's socket, from its standard input.
"""

from __future__ import annotations

import json
import os
import sys

from cluster.bare_node import start_node
from cluster.forked import ADDRESS


def main() -> None:
    """Start the head; it goes on without this process."""
    told = json.load(sys.stdin)
    os.environ[ADDRESS] = told.pop("fork_server")
    start_node(**told)


if __name__ == "__main__":
    main()
