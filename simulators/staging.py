"""Filling a task's folder with its inputs, on each of its machines."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from simulators.chaining import take_outputs
from simulators.patience import PATIENCE, patiently
from storage.inputs import stage
from storage.kept_inputs import KeptInputs
from storage.objects import is_on_this_machine
from storage.settings import load_settings

if TYPE_CHECKING:
    from simulators.work import Work
    from simyard.files import Staged
    from storage.objects import ObjectStore


def kept_inputs(storage: str) -> KeptInputs | None:
    """Return the inputs of a storage that this machine keeps; None where it keeps none, or has the storage itself."""
    settings = load_settings()
    if not settings.keep_inputs or is_on_this_machine(storage):
        return None
    return KeptInputs(settings.kept_inputs, settings.keep_inputs)


def bring_inputs(
    store: ObjectStore, work: Work, folder: Path, kept: KeptInputs | None, given_up: Callable[[], bool]
) -> Staged:
    """Bring an attempt's inputs, those that it takes of other tasks first, and return where its own came from.

    A storage that does not answer is waited for.

    Raises:
        InputMissing, InputDamaged: an input is not there, or not what it should be.
        DiskFull: the folder's disk cannot take them.
        StorageUnavailable: the storage did not answer for a day.
        Stopped: it was given up.
    """

    def bring() -> Staged:
        take_outputs(store, work.taken, work.inputs, folder, stopped=given_up)
        return stage(store, work.inputs, folder, kept=kept, stopped=given_up)

    return patiently(bring, PATIENCE, given_up, work.box)
