"""The graph of who waits for whom, for a store in memory."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from dataclasses import replace

from tasks.dependencies import Edge, Tie


class Graph:
    """Edges between tasks by their ids, and the ended tasks of which not everybody has been told who waits for them."""

    def __init__(self) -> None:
        self._edges: dict[str, dict[str, Edge]] = {}
        # Dictionaries, since they keep the order in which the tasks came.
        self._children: defaultdict[str, dict[str, None]] = defaultdict(dict)
        self._open: defaultdict[str, dict[str, None]] = defaultdict(dict)
        self._unmet: Counter[str] = Counter()
        self._unsettled: dict[str, None] = {}

    def add(self, child: str, edges: Iterable[Edge]) -> None:
        """Keep what a new task waits for."""
        for edge in edges:
            self._edges.setdefault(child, {})[edge.parent] = edge
            self._children[edge.parent][child] = None
            self._unmet[child] += edge.tie is not Tie.MET
            if edge.tie is Tie.OPEN:
                self._open[edge.parent][child] = None

    def forget(self, task: str) -> None:
        """Forget a task and what it has to do with others."""
        for parent in self._edges.pop(task, {}):
            self._children[parent].pop(task, None)
            self._told(parent, task)
        for child in self._children.pop(task, ()):
            edge = self._edges[child].pop(task)
            self._unmet[child] -= edge.tie is not Tie.MET
        self._open.pop(task, None)
        self._unsettled.pop(task, None)
        self._unmet.pop(task, None)

    def children(self, task: str) -> Collection[str]:
        """Return who waits or has waited for a task."""
        return self._children.get(task, ())

    def end(self, task: str) -> None:
        """Take note that a task has ended, where somebody waits for it."""
        if self._open.get(task):
            self._unsettled[task] = None

    def unsettled(self) -> tuple[str, str, Edge] | None:
        """Return an ended task, one that waits for it and has not been told, and how; None where there is none."""
        for parent in self._unsettled:
            child = next(iter(self._open[parent]))
            return parent, child, self._edges[child][parent]
        return None

    def tie(self, child: str, parent: str, tie: Tie) -> None:
        """Take note of how a task stands to an ended one that it has waited for."""
        edge = self._edges[child][parent]
        self._edges[child][parent] = replace(edge, tie=tie)
        self._unmet[child] -= tie is Tie.MET
        self._told(parent, child)

    def _told(self, parent: str, child: str) -> None:
        """Take note that a task need not be told any more of the end of one that it waits for."""
        self._open[parent].pop(child, None)
        if not self._open[parent]:
            self._unsettled.pop(parent, None)

    def release(self, child: str) -> None:
        """Let a task wait no more for those that have failed."""
        for parent, edge in list(self._edges.get(child, {}).items()):
            if edge.tie is Tie.FAILED:
                self.tie(child, parent, Tie.MET)

    def is_free(self, child: str) -> bool:
        """Say whether a task waits for no other one."""
        return not self._unmet[child]
