"""The errors of this folder.

The tree::

    SimyardError
    └── Unavailable
        └── HeadFailed      Ray's head did not start or stop
"""

from __future__ import annotations

from simyard.errors import Unavailable


class HeadFailed(Unavailable):
    """Ray's head did not start or stop as it should."""

    kind = "head-failed"
