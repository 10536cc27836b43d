"""The program that a machine of a cluster runs: it joins Ray, and joins again whenever Ray has let it go.

`python -m cluster.join` reads what to do from its standard input: a JSON object with the `plan` that the head made and
the `environment` of all of the machine's processes. It is the last line of the script that a machine boots with. When
the head has not been heard of for some minutes, or for one after the plan's `ends_at`, the machine is switched off, so
that nobody pays for one that was forgotten. Before that its runs keep their restart files in the storage.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cluster import instance
from cluster.clouds import cloud_named
from cluster.disk import task_disk
from cluster.member import Member, MemberPlan, answers
from storage.objects import is_on_this_machine
from storage.settings import load_settings

log = logging.getLogger("simyard.join")

LOST_SECONDS = 600.0
"""How long the head may not answer before the machine is switched off, where the plan has no `lost_seconds`."""
_SAVE_SECONDS = 30.0
"""How long the runs of a machine that is about to be switched off may take to keep what can be kept."""
OVER_SECONDS = 60.0
"""How long it may not answer after the moment at which the machine is to end."""
_LET_GO_SECONDS = 120.0
"""How long a machine that Ray has let go waits to be ended, before it joins again."""
_TICK = 1.0
_PAUSES = (1.0, 2.0, 5.0, 10.0)
"""Seconds between two tries to join, the last one again and again."""


def main() -> int:
    """Keep this machine in the cluster until it is asked to leave, or the head is lost."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    told = json.load(sys.stdin)
    plan, environment = told["plan"], dict(told["environment"])
    leaving = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: leaving.set())
    # The head of the release before knew one cloud only.
    cloud = cloud_named(plan.get("cloud", "aws"))
    environment |= instance.identity(cloud, plan["type"])
    os.environ.update(environment)
    images = _images(plan["group"])
    member = Member(_member_plan(plan))
    watchdog = Watchdog.of(plan)
    tries, heard, let_go = 0, time.monotonic(), 0.0
    notices = instance.Notices(cloud)
    while not leaving.is_set():
        if (seconds := notices.look()) is not None:
            log.warning("this machine is taken away in %.0f s", seconds)
            member.leave(seconds)
            let_go = time.monotonic() + seconds + _LET_GO_SECONDS
        has_head = answers(plan["head"])
        heard = time.monotonic() if has_head else heard
        if (why := watchdog.why_off(datetime.now(UTC), time.monotonic() - heard)) is not None:
            log.error("switching this machine off: %s", why)
            member.save(_SAVE_SECONDS)
            member.stop()
            instance.switch_off(cloud)
            return 1
        if has_head:
            if member.is_alive():
                tries = 0
            elif member.was_let_go():
                # Idle, or taken away: the machine is about to be ended, and only where it is not it joins again.
                log.info("this machine was let go")
                let_go = max(let_go, time.monotonic() + _LET_GO_SECONDS)
            elif time.monotonic() >= let_go:
                if tries:
                    leaving.wait(_PAUSES[min(tries, len(_PAUSES)) - 1])
                tries += 1
                member.start()
        leaving.wait(_TICK)
    if images is not None:
        images.terminate()
    member.stop()
    return 0


def _images(group: str) -> subprocess.Popen[bytes] | None:
    """Begin to fetch the images that tasks of the group wait for, while this machine joins; None where nobody told."""
    if is_on_this_machine(load_settings().storage_uri):
        return None
    return subprocess.Popen(
        [sys.executable, "-m", "simulators.wanted_images", group], stdin=subprocess.DEVNULL, cwd="/"
    )


@dataclass(frozen=True, kw_only=True)
class Watchdog:
    """When a machine switches itself off."""

    lost_seconds: float = LOST_SECONDS
    """For so long the head may not answer."""
    ends_at: datetime | None = None
    """After this a short silence is enough; a head that answers ends its machines itself, maybe later."""

    @classmethod
    def of(cls, plan: Mapping[str, Any]) -> Watchdog:
        """Return what a plan says.

        Raises:
            ValueError: its `ends_at` is no moment with a zone.
        """
        ends_at = None if plan.get("ends_at") is None else datetime.fromisoformat(plan["ends_at"])
        if ends_at is not None and ends_at.tzinfo is None:
            raise ValueError(f"ends_at is {plan['ends_at']}, which has no zone")
        return cls(lost_seconds=float(plan.get("lost_seconds", LOST_SECONDS)), ends_at=ends_at)

    def why_off(self, now: datetime, silent: float) -> str | None:
        """Return why the machine is to be switched off now, where the head was last heard so many seconds ago."""
        if silent > self.lost_seconds:
            return f"the head has not answered for {silent:.0f} s"
        if self.ends_at is not None and now >= self.ends_at and silent > OVER_SECONDS:
            return f"its time is over since {self.ends_at.isoformat()}, and the head does not answer"
        return None


def _member_plan(plan: Mapping[str, Any]) -> MemberPlan:
    # Measured once: what runs here when it joins again has its part of the disk already.
    settings = load_settings()
    disk = task_disk(settings.scratch, settings.kept_inputs)
    return MemberPlan(head=plan["head"], group=plan["group"], cpus=plan["cpus"], memory=plan["memory"], disk=disk)


if __name__ == "__main__":
    sys.exit(main())
