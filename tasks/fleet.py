"""Lets the machine groups of a cluster follow the queue, by way of Ray's autoscaler."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

from cluster.cluster_file import ClusterFile, GroupType, groups_of, live_document
from cluster.fleet import Demand, wanted
from simyard.errors import SimyardError
from simyard.group import MachineGroup, Offer

log = logging.getLogger(__name__)


class Fleet:
    """Asks the autoscaler for as many machines of each group as its tasks need.

    Args:
        file: the autoscaler's file.
        head: address of Ray's head, for machines that join.
        environment: what the processes of a machine need to know.
    """

    def __init__(self, file: ClusterFile, head: str, environment: Mapping[str, str]) -> None:
        self._file, self._head, self._environment = file, head, environment
        self.groups: tuple[GroupType, ...] = ()
        """The groups that there are, with or without machines."""

    def look(self, demands: Callable[[], Mapping[str, Demand]]) -> None:
        """Write what is wanted now, where that has changed; a file that cannot be read is left as it is."""
        try:
            document = self._file.read()
            self.groups = groups_of(document)
            asked = demands()
            sizes = {
                one.group: wanted(asked.get(one.group, Demand()), one.shape, one.least, one.most) for one in self.groups
            }
            if self._file.write(live_document(document, sizes, self._head, self._environment)):
                log.info("machines wanted: %s", sizes)
        except SimyardError as error:
            log.warning("the groups' sizes cannot be changed: %s", error)


def with_declared(groups: Sequence[MachineGroup], declared: Sequence[GroupType]) -> tuple[MachineGroup, ...]:
    """Return the groups, those that have no machine now among them, with what the cluster file says of each."""
    found = {group.name: group for group in groups}
    for one in declared:
        offers = Offer(cpus=one.shape.cpus, memory=one.shape.memory, gpus=one.shape.gpus)
        said = {"machine_type": one.machine_type, "min": one.least, "max": one.most, "offers": offers}
        found[one.group] = found.get(one.group, MachineGroup(name=one.group)).model_copy(update=said)
    return tuple(found[name] for name in sorted(found))
