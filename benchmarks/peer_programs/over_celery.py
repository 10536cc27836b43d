"""Celery with two worker processes over a Redis of its own that flushes every write.

`python -m benchmarks.peer_programs.over_celery FOLDER`
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time

import redis
from celery import Celery, group

from benchmarks.peer_programs.turns import DEADLINE, take_turns

app = Celery("peers")
# A task that a worker had begun when it died is given out again, as the other durable queues do.
app.conf.update(task_acks_late=True, task_reject_on_worker_lost=True, broker_connection_retry_on_startup=True)


@app.task(name="true")
def true() -> None:
    """Start the process and wait for it."""
    subprocess.run(["/bin/true"], check=True)


def run(count: int) -> None:
    """Run so many tasks."""
    results = group(true.s() for _ in range(count)).apply_async()
    results.get(timeout=DEADLINE)
    results.forget()


def free_port() -> int:
    """Return a TCP port of the loopback address that nobody uses at present."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main(folder: str) -> None:
    """Serve until there are no more lines."""
    port = free_port()
    url = f"redis://127.0.0.1:{port}/0"
    # Celery's own names, which this process and the workers read.
    os.environ |= {"CELERY_BROKER_URL": url, "CELERY_RESULT_BACKEND": url}
    server = ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--dir", folder]
    flushed = ["--save", "", "--appendonly", "yes", "--appendfsync", "always"]
    worker = [sys.executable, "-m", "celery", "--app", __spec__.name, "worker"]
    started: list[subprocess.Popen[bytes]] = []
    try:
        started.append(subprocess.Popen([*server, *flushed], stdout=subprocess.DEVNULL))
        answer(port)
        two = ["--concurrency", "2", "--loglevel", "WARNING"]
        started.append(subprocess.Popen([*worker, *two], stdout=subprocess.DEVNULL))
        take_turns(run)
    finally:
        for process in reversed(started):
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(20)


def answer(port: int) -> None:
    """Wait until Redis answers."""
    deadline = time.monotonic() + 30
    with redis.Redis(port=port) as client:
        while time.monotonic() < deadline:
            try:
                client.ping()
            except redis.ConnectionError:
                time.sleep(0.02)
            else:
                return
    raise SystemExit("Redis did not answer")


if __name__ == "__main__":
    main(sys.argv[1])
