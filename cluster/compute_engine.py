"""The machines of a cluster on Google Cloud, asked of Compute Engine with Google's own client.

Ray's autoscaler labels what it launches with the cluster's name, the node type and whether it is a head or a worker. An
instance that has stopped, since it switched itself off or was taken away, stays until it is deleted, and its disk is
paid for.
"""

from __future__ import annotations

import builtins
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from http import HTTPStatus
from typing import Any

import google.auth
import httplib2
from google.auth.exceptions import GoogleAuthError
from google_auth_httplib2 import AuthorizedHttp
from googleapiclient import discovery
from googleapiclient.errors import Error, HttpError

from cluster.errors import ProviderFailed
from cluster.labels import CLUSTER_TAG, NODE_TYPE_TAG
from cluster.provider import Instance, kind_of

_SECONDS = 20
_RETRIES = 2
"""Of a request that Google answers with an error of its own, each after some seconds."""
_PAGE = 500
_SCOPE = "https://www.googleapis.com/auth/compute"
_STOPPED = frozenset({"TERMINATED", "STOPPED", "SUSPENDED"})
_ENDING = _STOPPED | {"STOPPING", "SUSPENDING", "PENDING_STOP", "DEPROVISIONING"}


class GcpProvider:
    """The machines of Compute Engine that carry a cluster's name, in one zone.

    A call ends within about a minute and a half, whatever the network does.
    """

    def __init__(self, cluster: str, project: str, zone: str) -> None:
        self._cluster = cluster
        self._where = {"project": project, "zone": zone}
        self._client: Any = None

    def list(self) -> tuple[Instance, ...]:
        """See Provider."""
        found: builtins.list[Instance] = []
        with _translated("list this cluster's machines"):
            instances = self._instances()
            ours = f"labels.{CLUSTER_TAG} = {self._cluster}"
            request = instances.list(filter=ours, maxResults=_PAGE, **self._where)
            while request is not None:
                answer = request.execute(num_retries=_RETRIES)
                if (code := answer.get("warning", {}).get("code", "NO_RESULTS_ON_PAGE")) != "NO_RESULTS_ON_PAGE":
                    raise ValueError(f"it did not tell of all: {code}")
                found.extend(map(_instance_of, answer.get("items", ())))
                request = instances.list_next(request, answer)
        return tuple(found)

    def end(self, ids: Iterable[str]) -> None:
        """See Provider."""
        with _translated("end machines"):
            for one in ids:
                try:
                    # That it was heard is enough: whether it has ended tells the list.
                    self._instances().delete(instance=one, **self._where).execute(num_retries=_RETRIES)
                except HttpError as error:
                    if error.resp.status != HTTPStatus.NOT_FOUND:
                        raise

    def _instances(self) -> Any:
        if self._client is None:
            credentials, _ = google.auth.default(scopes=[_SCOPE])
            http = AuthorizedHttp(credentials, http=httplib2.Http(timeout=_SECONDS))
            self._client = discovery.build("compute", "v1", http=http, cache_discovery=False)
        return self._client.instances()


@contextmanager
def _translated(what: str) -> Iterator[None]:
    try:
        yield
    except (Error, GoogleAuthError, httplib2.HttpLib2Error, OSError, KeyError, ValueError) as error:
        fix = "The head's service account must have the role roles/compute.instanceAdmin.v1."
        if isinstance(error, GoogleAuthError):
            fix = "Give the head a service account: serviceAccounts of its node_config in the cluster file."
        raise ProviderFailed(f"Google Cloud did not {what}: {error}", fix=fix) from error


def _instance_of(told: Mapping[str, Any]) -> Instance:
    labels = told.get("labels", {})
    status = told["status"]
    scheduling = told.get("scheduling", {})
    is_spot = scheduling.get("provisioningModel") == "SPOT" or scheduling.get("preemptible") is True
    networks = told.get("networkInterfaces") or [{}]
    stopped = told.get("lastStopTimestamp")
    return Instance(
        id=told["name"],
        cluster=labels.get(CLUSTER_TAG, ""),
        kind=kind_of(labels),
        node_type=labels.get(NODE_TYPE_TAG, ""),
        machine_type=told["machineType"].rpartition("/")[2],
        market="spot" if is_spot else "on-demand",
        zone=told["zone"].rpartition("/")[2],
        launched_at=datetime.fromisoformat(told["creationTimestamp"]),
        address=networks[0].get("networkIP", ""),
        is_ending=status in _ENDING,
        is_left_over=status in _STOPPED,
        ended_at=datetime.fromisoformat(stopped) if status in _STOPPED and stopped else None,
        why_ended="it switched itself off or was taken away" if status in _STOPPED else "",
        tags=labels,
    )
