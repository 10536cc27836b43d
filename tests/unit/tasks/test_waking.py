"""The face rings the dispatcher's bell: at once for who comes alone, and seldom for a burst."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tasks import ray_live
from tasks.ray_live import RayDispatcher

Bells = list[Path]


@pytest.fixture
def rung(monkeypatch: pytest.MonkeyPatch) -> Bells:
    bells: Bells = []
    monkeypatch.setattr(ray_live, "ring", bells.append)
    return bells


async def _wake_again_and_again(rung: Bells, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    loop = asyncio.get_running_loop()
    dispatcher, now, counts = RayDispatcher(Path("bell")), loop.time(), []
    monkeypatch.setattr(loop, "time", lambda: now)

    async def wake(times: int = 1) -> None:
        for _ in range(times):
            await dispatcher.wake()
        counts.append(len(rung))

    async def pass_time(seconds: float) -> None:
        nonlocal now
        now += seconds
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        counts.append(len(rung))

    await wake()
    await wake(50)
    await pass_time(ray_live._BETWEEN_WAKES)
    await wake()
    await pass_time(ray_live._BETWEEN_WAKES)
    await pass_time(60.0)
    await wake()
    return counts


def test_a_first_wake_up_goes_out_at_once_and_a_burst_shares_the_next(
    rung: Bells, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert asyncio.run(_wake_again_and_again(rung, monkeypatch)) == [1, 1, 2, 2, 3, 3, 4]
    assert set(rung) == {Path("bell")}


def test_a_dispatcher_that_is_not_there_is_told_of_and_nobody_waits(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    asyncio.run(RayDispatcher(tmp_path / "bell").wake())
    assert "could not be woken" in caplog.text
