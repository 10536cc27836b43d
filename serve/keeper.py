"""The keeper as a program of its own: `python -m serve.keeper PORT` is what `simyard up --detach` leaves behind."""

from __future__ import annotations

import logging
import sys

from serve.server import ServerState, keep
from simyard.errors import SimyardError
from storage.settings import load_settings


def main(port: int) -> int:
    """Keep the server alive until this process is asked to end; returns the exit status."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s")

    def say(text: str) -> None:
        print(f"simyard: {text}", flush=True)  # noqa: T201 - the log that `simyard up --detach` reads

    def ready(state: ServerState) -> None:
        say(f"ready at {state.url}")

    try:
        keep(load_settings(), port, say, ready)
    except SimyardError as error:
        print(f"error: {error}", flush=True)  # noqa: T201 - likewise
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
