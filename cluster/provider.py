"""What a cloud has for one cluster, in our words, and how machines of it are ended."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal, Protocol

from cluster.labels import GENERATION_TAG, GROUP_LABEL, KIND_TAG, PROVIDERS

Market = Literal["on-demand", "spot"]


class Kind(StrEnum):
    """What a machine is for its cluster."""

    HEAD = "head"
    """It runs the server, and is never ended by it."""
    WORKER = "worker"
    """It carries tasks."""
    OTHER = "other"
    """Its tags do not say that it is one of the two."""


@dataclass(frozen=True, kw_only=True)
class Instance:
    """A machine that a provider has for this cluster, or had until a short time ago."""

    id: str
    """As the provider calls it."""
    cluster: str
    """The name of the cluster that its tags say."""
    kind: Kind
    node_type: str
    """Of the cluster file; empty where its tags name none."""
    machine_type: str
    """As the provider calls it."""
    market: Market
    zone: str
    launched_at: datetime
    address: str
    """Where other machines of the cluster find it; empty while it has none."""
    is_ending: bool = False
    """It is being ended or has been: nobody pays for its time any more."""
    is_left_over: bool = False
    """It has ended, and its disk is paid for until it is deleted."""
    ended_at: datetime | None = None
    """Where the provider says it."""
    why_ended: str = ""
    """Likewise."""
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def group(self) -> str:
        """Its machine group, as its tags say; the node type where they do not."""
        return self.tags.get(GROUP_LABEL, self.node_type)

    @property
    def generation(self) -> str | None:
        """The server that launched it; None where its tags do not say."""
        return self.tags.get(GENERATION_TAG)


def kind_of(tags: Mapping[str, str]) -> Kind:
    """Return what a machine is by the tags that Ray's autoscaler gave it."""
    return _KINDS.get(tags.get(KIND_TAG, ""), Kind.OTHER)


_KINDS = {"head": Kind.HEAD, "worker": Kind.WORKER}


class Provider(Protocol):
    """A cloud, as far as one cluster has machines there."""

    def list(self) -> tuple[Instance, ...]:
        """Return all machines that carry this cluster's tag, those that are ending or have just ended among them.

        Raises:
            ProviderFailed: not all of the answer came, whatever the cause; an incomplete one is never returned.
        """
        ...

    def end(self, ids: Iterable[str]) -> None:
        """Let machines be ended; one that has ended already, or is not there any more, is no error.

        Raises:
            ProviderFailed: it is not sure that this was heard; doing it again does no harm.
        """
        ...


def cloud_name(document: Mapping[str, Any]) -> str:
    """Return what the cloud of a cluster file is called, as `ray up` left the file or as we write it."""
    provider = document.get("provider") or {}
    ours = {module: name for name, module in PROVIDERS.items()}
    return ours.get(str(provider.get("module")), str(provider.get("type", "")))


def region_of(document: Mapping[str, Any]) -> str:
    """Return the region of a cluster file as its cloud calls it; empty where it names none."""
    provider = document.get("provider") or {}
    return str(provider.get("region") or provider.get("location") or "")


def provider_of(document: Mapping[str, Any]) -> Provider | None:
    """Return the cloud of a cluster file; None where there is no way to ask it."""
    make = _MAKERS.get(cloud_name(document))
    return None if make is None else make(str(document["cluster_name"]), document["provider"])


def has_provider(document: Mapping[str, Any]) -> bool:
    """Say whether the cloud of a cluster file can be asked for its machines."""
    return cloud_name(document) in _MAKERS


# Late, so that only a head on a cloud pays for its client.
def _aws(cluster: str, told: Mapping[str, Any]) -> Provider:
    from cluster.aws import AwsProvider

    return AwsProvider(cluster, str(told["region"]))


def _gcp(cluster: str, told: Mapping[str, Any]) -> Provider:
    from cluster.compute_engine import GcpProvider

    return GcpProvider(cluster, str(told["project_id"]), str(told["availability_zone"]))


def _azure(cluster: str, told: Mapping[str, Any]) -> Provider:
    from cluster.virtual_machines import AzureProvider

    return AzureProvider(cluster, str(told["subscription_id"]), str(told["resource_group"]))


_MAKERS: dict[str, Callable[[str, Mapping[str, Any]], Provider]] = {"aws": _aws, "azure": _azure, "gcp": _gcp}
