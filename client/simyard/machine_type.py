"""What a cloud sells: a type of machine with its cores, memory, GPUs, local disk and prices."""

from __future__ import annotations

from datetime import date as Date  # noqa: N812 - a field is called date

from pydantic import Field

from simyard.words import Word


class Price(Word):
    """What a machine type costs in one region, in US dollars an hour."""

    region: str
    on_demand: float | None = Field(default=None, ge=0)
    """None where it is not sold there, or not known."""
    spot: float | None = Field(default=None, ge=0)
    """The lowest of the region's zones at that moment; None where it is not sold so, or not known."""
    source: str
    """Who says so."""
    date: Date


class MachineType(Word):
    """A machine as its provider sells it."""

    name: str
    provider: str
    cpus: int = Field(ge=1)
    """Virtual cores, which Ray and the tasks count."""
    threads_per_core: int = Field(ge=1)
    """How many of them share a physical core."""
    memory: int = Field(ge=0)
    """Bytes."""
    gpus: int = Field(default=0, ge=0)
    gpu: str | None = None
    """What the GPUs are."""
    gpu_memory: int = Field(default=0, ge=0)
    """Bytes of each."""
    local_disk: int = Field(default=0, ge=0)
    """Bytes of disks that are in the machine and go with it; others are asked for with the group."""
    has_spot: bool = False
    """Whether it is sold as spot."""
    prices: tuple[Price, ...] = ()
    """By region."""

    def price(self, region: str) -> Price | None:
        """Return what it costs in a region; None where that is not known."""
        return next((price for price in self.prices if price.region == region), None)
