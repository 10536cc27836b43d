"""Which machines of the ledger are asked for."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, kw_only=True)
class RentalQuery:
    """Machines of the ledger, those launched last first."""

    group: str | None = None
    ended: bool | None = None
    """Whether only those that have ended are asked for, or only the others."""
    since: datetime | None = None
    """Only those that were still there after that."""
    limit: int | None = None
    """None: all of them."""
