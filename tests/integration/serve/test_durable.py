from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import pytest

from storage.objects import open_store
from tasks.store import open_store as open_task_store
from tests.integration.serve.server import serving
from tests.unit.serve.face import Face, sha256_of
from tests.unit.serve.test_events import parse


@pytest.fixture
def replicas(tmp_path: Path) -> Iterator[tuple[Face, Face]]:
    """Two applications over one database and one folder, as two replicas have them."""
    made = [
        Face(
            store=cast(Any, open_task_store(tmp_path / "simyard.db")),
            storage=cast(Any, open_store((tmp_path / "storage").as_uri())),
        )
        for _ in range(2)
    ]
    yield made[0], made[1]
    for face in made:
        face.close()


def test_a_task_goes_through_the_api_over_disk_and_folder(replicas: tuple[Face, Face], tmp_path: Path) -> None:
    first, second = replicas
    task = first.submit(name="größe\n'x'")
    first.finish(task, tmp_path / "made", {"out put.csv": b"1,2\n" * 9999}, {"stdout.log": b"done\n"})
    assert second.get(f"/v1/tasks/{task}", key=first.key).json()["status"] == "succeeded"
    events = parse(second.get(f"/v1/tasks/{task}/events", key=first.key).text)
    assert events[-1].status == "succeeded"
    assert second.get(f"/v1/tasks/{task}/logs?follow=true", key=first.key).content == b"done\n"
    listed = second.get(f"/v1/tasks/{task}/outputs", key=first.key).json()
    # A URL that one replica signs is good at the other: they share the secret.
    signed = listed["objects"]["pack-0000.zip"]
    assert len(first.get(signed["url"], key=None).content) == signed["size"]
    content = first.get(f"/v1/tasks/{task}/outputs/content", params={"path": "out put.csv"})
    assert sha256_of(content.content) == sha256_of(b"1,2\n" * 9999)


def test_many_clients_of_two_replicas_with_one_key_get_one_task(replicas: tuple[Face, Face]) -> None:
    import httpx

    first, second = replicas
    spec, headers = first.spec(), {"Authorization": f"Bearer {first.key}", "Idempotency-Key": "once"}
    with serving(first.app) as one, serving(second.app) as two, httpx.Client(trust_env=False, timeout=20) as client:

        def submit(i: int) -> tuple[int, str]:
            answer = client.post(f"{(one, two)[i % 2]}/v1/tasks", json=spec, headers=headers)
            return answer.status_code, answer.json()["id"]

        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(submit, range(24)))
    assert sorted(status for status, _ in answers) == [200] * 23 + [201]
    assert len({task for _, task in answers}) == 1
    assert first.store.counts()["queued"] == 1
