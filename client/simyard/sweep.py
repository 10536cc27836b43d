"""A sweep: many tasks from one template and a table of parameters."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from simyard.status import Status
from simyard.task import TaskSpec, Value
from simyard.words import Moment, Sha256, SweepIdText, Word

SUFFIX = ".jinja"
"""Template files end so; their inputs have the same path without it."""

SweepName = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class TableForm(StrEnum):
    """How a file holds a table of parameters."""

    CSV = "csv"
    """UTF-8 text: a line of names, then a line for each case; separated by commas."""
    PARQUET = "parquet"


class TableFile(Word):
    """A file with a table of parameters, in the storage like any input."""

    sha256: Sha256
    size: int = Field(ge=0)
    """Bytes."""
    form: TableForm


class SweepSpec(Word):
    """What a user submits: one task as a template, and the values that its cases have.

    The cases are those of `rows` or `table`, each with every combination of the values of `grid`.
    """

    task: TaskSpec
    """Inputs that end in `.jinja` are rendered for each case, and so are texts of its parameters, commands, metadata
    and name that have `{{`, `{%` or `{#` in them."""
    grid: dict[str, tuple[Value, ...]] = Field(default_factory=dict)
    """Values by parameter; the last parameter changes fastest."""
    rows: tuple[dict[str, Value], ...] = ()
    """Values by parameter, one row a case."""
    table: TableFile | None = None
    """The same as a file."""
    name: SweepName | None = None


class Sweep(Word):
    """What the server says of a sweep."""

    id: SweepIdText
    name: str | None
    project: str
    simulator: str
    version: str
    columns: tuple[str, ...]
    """The names of the parameters."""
    cases: int
    """How many tasks it has."""
    counts: dict[Status, int]
    """How many of them stand in each status."""
    ended: int
    """How many of them have ended."""
    created_at: Moment
    cost_usd: float | None = None
    """US dollars that the attempts at its tasks which have ended cost; None where no price of any is known."""
    latest: int
    """The number of an event after which the counts may be other ones: where to follow the sweep from."""

    @property
    def is_over(self) -> bool:
        """Say whether every task has ended."""
        return self.ended == self.cases

    @property
    def succeeded(self) -> bool:
        """Say whether every task has succeeded."""
        return self.counts.get(Status.SUCCEEDED, 0) == self.cases
