"""What came of asking the cloud for machines: troubles in words, kept in a file, and how long to wait after each.

Ray's autoscaler writes a launch error into its log alone, and asks again every few seconds. The provider that it calls
is ours (`cluster.noted`): it notes each error here, and asks the cloud only when the wait is over. The dispatcher reads
the file.
"""

from __future__ import annotations

import json
import logging
import random
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

log = logging.getLogger(__name__)

FIRST_WAIT = 15.0
"""Seconds until a node type is tried again after its first failure in a row; then twice as long each time."""
LONGEST_WAIT = 600.0

_CAPACITY = "The cloud has no such machine to give at present: take further machine types, zones (subnets) or markets."
_QUOTA = "Ask the cloud for a higher quota, or take smaller or fewer machines."
_RIGHTS = "Give the head the right that is named: docs/how-to/from-laptop-to-cloud.md has the list."
_IMAGE = "Put an image of this region that exists and that the account may use into cluster.yaml (ImageId)."
_NETWORK = "Look at subnet, security groups and zone in cluster.yaml."
_SLOWLY = "Nothing is to be done: it is tried again more slowly."
_FIXES = {
    "InsufficientInstanceCapacity": _CAPACITY,
    "InsufficientHostCapacity": _CAPACITY,
    "InsufficientReservedInstanceCapacity": _CAPACITY,
    "InsufficientCapacity": _CAPACITY,
    "SpotMaxPriceTooLow": _CAPACITY,
    "Unsupported": "The zone does not offer this machine type: take another type, or add a subnet of another zone.",
    "MaxSpotInstanceCountExceeded": _QUOTA,
    "VcpuLimitExceeded": _QUOTA,
    "InstanceLimitExceeded": _QUOTA,
    "VolumeLimitExceeded": _QUOTA,
    "UnauthorizedOperation": _RIGHTS,
    "AuthFailure": _RIGHTS,
    "OptInRequired": _RIGHTS,
    "PendingVerification": _RIGHTS,
    "InvalidAMIID.NotFound": _IMAGE,
    "InvalidAMIID.Malformed": _IMAGE,
    "InvalidAMIID.Unavailable": _IMAGE,
    "InvalidSubnetID.NotFound": _NETWORK,
    "InvalidGroup.NotFound": _NETWORK,
    "InsufficientFreeAddressesInSubnet": "Add a subnet with free addresses to cluster.yaml (SubnetIds).",
    # Of Google Cloud.
    "ZONE_RESOURCE_POOL_EXHAUSTED": _CAPACITY,
    "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS": _CAPACITY,
    "QUOTA_EXCEEDED": _QUOTA,
    "PERMISSIONS_ERROR": _RIGHTS,
    "quotaExceeded": _QUOTA,
    "forbidden": _RIGHTS,
    "notFound": "Write image, subnet and service account into the cluster file as they are called in this project.",
    "rateLimitExceeded": _SLOWLY,
    "RESOURCE_OPERATION_RATE_EXCEEDED": _SLOWLY,
    # Of Azure.
    "SkuNotAvailable": _CAPACITY,
    "AllocationFailed": _CAPACITY,
    "ZonalAllocationFailed": _CAPACITY,
    "OverconstrainedAllocationRequest": _CAPACITY,
    "QuotaExceeded": _QUOTA,
    "OperationNotAllowed": _QUOTA,
    "AuthorizationFailed": _RIGHTS,
    "RequestLimitExceeded": _SLOWLY,
    "NoCredentialsError": "Give the head an instance profile (IamInstanceProfile in cluster.yaml).",
}
_OTHER = "Look at the node type in cluster.yaml and at the head's monitor.log."


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """Why machines of a node type cannot be started; moments are seconds since 1970."""

    code: str
    message: str
    since: float
    next_try: float
    count: int = 1
    """How often in a row."""

    @property
    def fix(self) -> str:
        """What to do about it."""
        return _FIXES.get(self.code, _OTHER)


def after(before: Trouble | None, code: str, message: str, now: float, chance: float) -> Trouble:
    """Return the trouble after one more failure; `chance`, from 0 to 1, spreads the next tries."""
    count = 1 if before is None else before.count + 1
    wait = min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(count - 1, 10))
    since = now if before is None else before.since
    return Trouble(code=code, message=message, since=since, next_try=now + wait * (0.75 + chance / 2), count=count)


def read_troubles(path: Path) -> dict[str, Trouble]:
    """Return the troubles by node type; none where the file is not there or is damaged, since they are told anew."""
    try:
        return {str(name): Trouble(**one) for name, one in json.loads(path.read_text()).items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        log.warning("%s cannot be read: %s", path, error)
        return {}


class Launches:
    """Keeps the troubles of the process that asks the cloud; safe to use from several threads.

    Args:
        path: the file that others read.
        now: gives the seconds since 1970.
    """

    def __init__(self, path: Path, now: Callable[[], float]) -> None:
        self._path, self._now = path, now
        self._lock = threading.Lock()
        self._troubles: dict[str, Trouble] = read_troubles(path)

    def waits(self, node_type: str) -> Trouble | None:
        """Return the trouble for which a node type must still wait; None where it may be tried."""
        with self._lock:
            found = self._troubles.get(node_type)
            return found if found is not None and found.next_try > self._now() else None

    def failed(self, node_type: str, code: str, message: str) -> None:
        """Keep that machines could not be started; several that failed together count once."""
        with self._lock:
            before = self._troubles.get(node_type)
            now = self._now()
            if before is not None and before.next_try > now:
                return
            chance = random.random()  # noqa: S311 - chance is for spreading, not for secrets
            self._troubles[node_type] = after(before, code, message, now, chance)
            self._write(self._troubles)

    def succeeded(self, node_type: str) -> None:
        """Forget the trouble of a node type."""
        with self._lock:
            if self._troubles.pop(node_type, None) is not None:
                self._write(self._troubles)

    def _write(self, troubles: Mapping[str, Trouble]) -> None:
        fresh = self._path.with_name(f"{self._path.name}.new")
        try:
            fresh.write_text(json.dumps({name: asdict(one) for name, one in troubles.items()}))
            fresh.replace(self._path)
        except OSError:
            # Machines matter more than the words about them.
            log.exception("%s cannot be written", self._path)
