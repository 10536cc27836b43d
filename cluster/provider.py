"""What a cloud has for one cluster, in our words, and how machines of it are ended."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal, Protocol

from cluster.labels import EC2_PROVIDER, GENERATION_TAG, GROUP_LABEL

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
    """It is being ended or has been: nobody pays for it any more."""
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


def has_provider(document: Mapping[str, Any]) -> bool:
    """Say whether the cloud of a cluster file can be asked for its machines."""
    provider = document.get("provider") or {}
    return provider.get("type") == "aws" or provider.get("module") == EC2_PROVIDER


def provider_of(document: Mapping[str, Any]) -> Provider | None:
    """Return the cloud of a cluster file; None where there is no way to ask it."""
    if not has_provider(document):
        return None
    # Late, so that only a head on AWS pays for its client.
    from cluster.aws import AwsProvider

    return AwsProvider(str(document["cluster_name"]), str(document["provider"]["region"]))
