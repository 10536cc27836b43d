from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tasks import ray_live
from tasks.ray_live import RayDispatcher


class Woken:
    """A dispatcher's handle, as far as a wake-up needs it."""

    def __init__(self) -> None:
        self.count = 0
        self.called = asyncio.Event()

    @property
    def wake(self) -> Woken:
        return self

    async def remote(self) -> None:
        self.count += 1
        self.called.set()


async def woken_by_a_burst() -> tuple[int, int]:
    dispatcher, handle = RayDispatcher(), Woken()
    dispatcher._handle = handle
    await dispatcher.wake()
    await handle.called.wait()
    first = handle.count
    for _ in range(50):
        await dispatcher.wake()
    assert dispatcher._waking is not None
    await dispatcher._waking
    return first, handle.count


def test_a_first_wake_up_goes_out_at_once_and_a_burst_shares_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    pause = asyncio.sleep

    async def note(seconds: float, result: Any = None) -> Any:
        pauses.append(seconds)
        return await pause(0, result)

    monkeypatch.setattr(ray_live.asyncio, "sleep", note)
    assert asyncio.run(woken_by_a_burst()) == (1, 2)
    assert pauses == [ray_live._BETWEEN_WAKES] * 2
