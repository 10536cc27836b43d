"""The errors of this folder.

The tree::

    SimyardError
    └── Unavailable
        ├── ClusterFileBroken   the autoscaler's file on the head cannot be read
        ├── HeadFailed          Ray's head did not start or stop
        ├── ProviderFailed      a cloud did not answer, or not completely
        └── RaySilent           Ray's head does not say which machines it has
"""

from __future__ import annotations

from simyard.errors import Unavailable


class ClusterFileBroken(Unavailable):
    """The autoscaler's file on the head cannot be read."""

    kind = "cluster-file-broken"


class HeadFailed(Unavailable):
    """Ray's head did not start or stop as it should."""

    kind = "head-failed"


class ProviderFailed(Unavailable):
    """A cloud did not answer, or not completely."""

    kind = "provider-failed"


class RaySilent(Unavailable):
    """Ray's head does not say which machines it has."""

    kind = "ray-silent"
