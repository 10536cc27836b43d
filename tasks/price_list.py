"""The prices of a cluster's machines, from its cluster file and the catalogue of machine types."""

from __future__ import annotations

import logging
from pathlib import Path

from cluster.cluster_file import ClusterFile, groups_of, stamp_of
from cluster.machine_types import list_types, prices_in
from cluster.provider import region_of
from simyard.errors import SimyardError
from tasks.prices import Prices, Sold

log = logging.getLogger(__name__)


class PriceList:
    """What the machines of a cluster cost; both files are read again when they have changed.

    Args:
        file: the autoscaler's file; None for a server that starts no machines, whose tasks cost nothing.
        types: the file of what was refreshed of the machine types, where there is one.
    """

    def __init__(self, file: ClusterFile | None, types: Path | None) -> None:
        self._file, self._types = file, types
        self._seen: object = None
        self.prices = Prices()
        """As they were when they were looked at last."""

    def look(self) -> Prices:
        """Return the prices as they are now; where the files cannot be read, those of before."""
        if self._file is None:
            return self.prices
        try:
            seen = self._file.stamp(), self._types and stamp_of(self._types)
            if seen != self._seen:
                self.prices, self._seen = self._read(self._file), seen
        except SimyardError as error:
            log.warning("the prices of machines cannot be read: %s", error)
        return self.prices

    def _read(self, file: ClusterFile) -> Prices:
        document = file.live()
        price_of = prices_in(region_of(document), list_types(self._types))
        return Prices(
            machines={
                one.name: Sold(group=group.name, offers=one.shape, usd_per_hour=price)
                for group in groups_of(document)
                for one in group.types
                if (price := price_of(one.machine_type, one.market)) is not None
            }
        )
