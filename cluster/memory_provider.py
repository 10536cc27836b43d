"""A cloud in memory: what stands behind Provider where there is none."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from threading import Lock

from cluster.errors import ProviderFailed
from cluster.provider import Instance


class MemoryProvider:
    """Machines that only are what they are said to be; safe to use from several threads."""

    def __init__(self, *instances: Instance) -> None:
        self._lock = Lock()
        self._instances = {one.id: one for one in instances}
        self.fails = False
        """Whether it answers nothing at present."""

    def launch(self, instance: Instance) -> None:
        """Let there be a machine, or another state of one."""
        with self._lock:
            self._instances[instance.id] = instance

    def forget(self, instance: str) -> None:
        """Tell of a machine no more."""
        with self._lock:
            self._instances.pop(instance, None)

    def list(self) -> tuple[Instance, ...]:
        """See Provider."""
        with self._lock:
            self._answer()
            return tuple(self._instances.values())

    def end(self, ids: Iterable[str]) -> None:
        """See Provider."""
        with self._lock:
            self._answer()
            for one in set(ids) & self._instances.keys():
                self._instances[one] = replace(self._instances[one], is_ending=True)

    def _answer(self) -> None:
        if self.fails:
            raise ProviderFailed("The cloud in memory was told to fail.")
