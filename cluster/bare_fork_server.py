"""The program that starts a head's fork server again, where it has died and its raylet has not.

`python -m cluster.bare_fork_server` reads a JSON object with the folder of Ray's sockets, `temp_dir`, and the raylet's
process id, `raylet`, from its standard input. The fork server goes on without this process.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from cluster.fork_server import head_fork_server


def main() -> None:
    """Start it."""
    told = json.load(sys.stdin)
    head_fork_server(Path(told["temp_dir"])).end_with(told["raylet"])


if __name__ == "__main__":
    main()
