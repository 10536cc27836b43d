"""A process that carries an attempt, as a Simulator actor does, so that a test may kill it."""

from __future__ import annotations

import pickle
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simulators import attempt as module
from simulators import execution, staging
from simulators.attempt import AttemptRun
from simulators.execution import Execution
from simulators.outcome import Outcome
from simulators.runtimes import Box, Prepared, SupervisorPlan, runtime_of
from simulators.spec import SimulatorSpec, TableSpec, VersionSpec
from simulators.work import Report, Superseded, Work
from simyard.simulator import RuntimeName
from storage.objects import open_store


def _parse(folder: Path, _: object) -> object:
    import pyarrow as pa

    return pa.table({"value": [float((folder / "result.csv").read_text())]})


VERSION = VersionSpec(version="1", requirements=())
SPEC = SimulatorSpec(
    name="shell",
    title="Shell",
    description="Built-in programs of the machine.",
    homepage="https://example.org",
    versions=(VERSION,),
    parameters=(),
    build=lambda *_: (),
    tables={"result": TableSpec(description="One value.", parse=_parse)},  # type: ignore[arg-type]
)


@dataclass(frozen=True)
class Made:
    """A runtime for which everything has been made ready."""

    name: RuntimeName
    prepared: Prepared

    def available(self) -> str | None:
        return runtime_of(self.name).available()

    def prepare(self, spec: SimulatorSpec, version: VersionSpec, stopped: Callable[[], bool]) -> Prepared:
        return self.prepared

    def has(self, prepared: Prepared) -> bool:
        return runtime_of(self.name).has(prepared)

    def plan(self, prepared: Prepared, box: Box) -> SupervisorPlan:
        return runtime_of(self.name).plan(prepared, box)


@dataclass(frozen=True)
class Desk:
    """Takes reports and writes them down; refuses them from the moment on that a file `refuse` is there."""

    folder: Path

    def renew(self, work: Work) -> None:
        self._take("renewal")

    def report(self, work: Work, reports: Sequence[Report]) -> None:
        for report in reports:
            what = report.what
            self._take(what.model_dump_json() if isinstance(what, Outcome) else str(what))

    def _take(self, report: str) -> None:
        if (self.folder / "refuse").exists():
            raise Superseded
        with (self.folder / "reports").open("a") as file:
            file.write(report + "\n")

    @property
    def reports(self) -> list[str]:
        """What was reported, without the renewals."""
        path = self.folder / "reports"
        return [line for line in path.read_text().splitlines() if line != "renewal"] if path.exists() else []


@dataclass(frozen=True, kw_only=True)
class Carrier:
    """All that a process needs to carry an attempt or to take it over."""

    work: Work
    runtime: Made
    scratch: Path
    desk: Desk
    lease: float = 30.0
    stuck: str | None = None
    """A step of the attempt before which it stays for ever; with a `+`, after which."""
    adoption_seconds: float = 900.0

    @property
    def root(self) -> Path:
        """The attempt's folder on the machine."""
        return self.scratch / self.work.box

    def attempt(self, *, adopting: bool) -> AttemptRun:
        """Return the attempt; raises NotAdoptable."""
        run = Execution(
            box=self.work.box,
            root=self.root,
            spec=SPEC,
            version=VERSION,
            runtime=self.runtime,
            resources=self.work.resources,
            limits=self.work.limits,
            adopting=adopting,
        )
        return AttemptRun(self.work, run, open_store(self.work.storage), self.desk, self.lease)

    def carry(self) -> None:
        """Carry the attempt."""
        module.catalogue.find = lambda name: SPEC  # type: ignore[assignment]
        execution.ADOPTION_SECONDS = self.adoption_seconds
        if self.stuck is not None:
            self._get_stuck(self.stuck)
        self.attempt(adopting=False).carry()

    def _get_stuck(self, step: str) -> None:
        where = staging if step == "stage" else module
        real = getattr(where, step.rstrip("+"))

        def stay(*arguments: Any, **more: Any) -> Any:
            if step.endswith("+"):
                real(*arguments, **more)
            (self.desk.folder / "stuck").touch()
            time.sleep(600)

        setattr(where, step.rstrip("+"), stay)


if __name__ == "__main__":
    carrier: Carrier = pickle.loads(Path(sys.argv[1]).read_bytes())
    try:
        carrier.carry()
    except Superseded:
        sys.exit(3)
