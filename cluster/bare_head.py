"""The program that starts a Ray head, whose workers are forked from a process beside it.

`python -m cluster.bare_head` reads what to start, a JSON object of the keyword arguments of
:func:`cluster.bare_node.start_node`, from its standard input.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from cluster.fork_server import head_fork_server


def main() -> None:
    """Start the head; it goes on without this process."""
    told = json.load(sys.stdin)
    fork_server = head_fork_server(Path(told["temp_dir"]))
    # Only now: that process takes seconds to import Ray, and so does this one.
    from cluster.bare_node import start_node

    fork_server.end_with(start_node(**told))


if __name__ == "__main__":
    main()
