"""The Ray processes of a machine that is not the head, in a program of their own that ends with the raylet."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

import psutil

from cluster.carriers import carriers_of
from cluster.labels import DISK_LABEL, GROUP_LABEL, LET_GO, MACHINE_LABEL
from simyard.resources import MIB

log = logging.getLogger("simyard.join")

_OBJECT_STORE = 100 * MIB
_STOP_SECONDS = 30.0


@dataclass(frozen=True, kw_only=True)
class MemberPlan:
    """What a machine joins a cluster as."""

    head: str
    """Address of Ray's head, with its port."""
    group: str
    cpus: float
    memory: int
    """Bytes that tasks may take together."""
    disk: int
    """Bytes of the disk with the tasks' folders that they may reserve together."""
    gpus: int | None = None
    """By default those that Ray finds."""
    name: str | None = None
    """What the machine is called; by default its host name."""
    temp_dir: str | None = None
    """Ray's folder for sockets and logs; by default where the head has its own."""


class Member:
    """This machine's Ray processes.

    Args:
        plan: what the machine joins as.
        environment: what is added to this process's environment for them.
    """

    def __init__(self, plan: MemberPlan, environment: Mapping[str, str] | None = None) -> None:
        self.plan = plan
        self._environment = dict(environment or {})
        self._process: subprocess.Popen[str] | None = None

    def is_alive(self) -> bool:
        """Say whether they run."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start them; whether that succeeds is seen by `is_alive`."""
        self.stop()
        plan = self.plan
        named = {} if plan.name is None else {MACHINE_LABEL: plan.name}
        told = {
            "gcs_address": plan.head,
            "cpus": plan.cpus,
            "memory": plan.memory,
            "gpus": plan.gpus,
            "object_store_memory": _OBJECT_STORE,
            "labels": {GROUP_LABEL: plan.group, DISK_LABEL: str(plan.disk)} | named,
            "temp_dir": plan.temp_dir,
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "cluster.bare_member"],
            env=os.environ | self._environment,
            stdin=subprocess.PIPE,
            text=True,
            start_new_session=True,
            cwd="/",
        )
        log.info("joining %s as a machine of group %s", plan.head, plan.group)
        with suppress(BrokenPipeError):
            assert self._process.stdin is not None
            print(json.dumps(told), file=self._process.stdin, flush=True)

    def drain(self, seconds: float) -> None:
        """Take no more work; what goes on has so many seconds."""
        self._tell(f"drain {seconds}")

    def leave(self, seconds: float) -> None:
        """Take no more work, and give back what goes on: the machine is taken away in so many seconds."""
        self._tell(f"leave {seconds}")

    def _tell(self, line: str) -> None:
        if self._process is not None and self._process.stdin is not None:
            with suppress(BrokenPipeError):
                print(line, file=self._process.stdin, flush=True)

    def save(self, seconds: float) -> None:
        """Let what carries runs keep what can be kept; returns when it has ended, or after so many seconds."""
        if self._process is None:
            return
        with suppress(psutil.Error):
            carriers = carriers_of(psutil.Process(self._process.pid))
            for carrier in carriers:
                with suppress(psutil.Error):
                    carrier.terminate()
            _, left = psutil.wait_procs(carriers, timeout=seconds)
            log.info("%d runs were told to end, %d have not", len(carriers), len(left))

    def was_let_go(self) -> bool:
        """Say once whether they have ended since Ray wanted it so, and not by an accident."""
        if self._process is None or self._process.poll() != LET_GO:
            return False
        self._process = None
        return True

    def stop(self) -> None:
        """End them; simulations go on, and another process takes them over."""
        if self._process is not None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_STOP_SECONDS)
            if self._process.poll() is None:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()


def answers(head: str) -> bool:
    """Say whether somebody listens at the address of a head."""
    host, _, port = head.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=5.0).close()
    except OSError:
        return False
    return True
