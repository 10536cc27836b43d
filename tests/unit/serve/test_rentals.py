"""The cloud's machines and what they have cost, over HTTP."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cluster.cluster_file import ClusterFile
from cluster.ledger import Rental
from serve.api import build_app
from simyard.errors import Unavailable
from tests.unit.serve.face import START, Face, problem
from tests.unit.tasks.store_suite import rental

FILE = Path(__file__).parents[3] / "cluster.yaml"


def at(hours: float) -> Any:
    return START + timedelta(hours=hours)


def kept(face: Face, name: str, **fields: Any) -> Rental:
    one = rental(name, **({"launched_at": at(-2), "last_seen_at": START, "price_per_hour": 3.0} | fields))
    face.store.keep_rentals([one])
    return one


def test_machines_are_told_with_their_hours_price_and_cost(face: Face) -> None:
    kept(face, "i-1")
    over = at(-1)
    kept(face, "i-2", ended_at=over, last_seen_at=over, why_ended="it switched itself off", price_per_hour=None)
    told = face.get("/v1/machines").json()
    assert (told["more"], told["has_cloud"]) == (False, True)
    [there] = told["machines"]
    assert there == {
        "id": "i-1",
        "group": "cloud",
        "machine_type": "m5.large",
        "market": "spot",
        "zone": "a",
        "launched_at": "2026-03-01T10:00:00Z",
        "last_seen_at": "2026-03-01T12:00:00Z",
        "ended_at": None,
        "why_ended": None,
        "hours": 2.0,
        "price_per_hour": 3.0,
        "cost": 6.0,
    }
    [gone] = face.get("/v1/machines?ended=true").json()["machines"]
    assert (gone["id"], gone["hours"], gone["cost"], gone["why_ended"]) == ("i-2", 1.0, None, "it switched itself off")


def test_so_many_of_a_group_are_told_and_whether_there_are_more(face: Face) -> None:
    for number in range(3):
        kept(face, f"i-{number}", launched_at=at(number - 3), group="g" if number else "h")
    told = face.get("/v1/machines?limit=1&group=g").json()
    assert ([one["id"] for one in told["machines"]], told["more"]) == (["i-2"], True)
    told = face.get("/v1/machines?limit=2&group=g").json()
    assert ([one["id"] for one in told["machines"]], told["more"]) == (["i-2", "i-1"], False)
    problem(face.get("/v1/machines?limit=0"), 422, "limit")


def test_the_cost_of_a_group_is_the_sum_over_its_machines(face: Face) -> None:
    kept(face, "i-1")
    kept(face, "i-2", ended_at=at(-1), price_per_hour=1.0)
    kept(face, "i-3", price_per_hour=None)
    kept(face, "i-4", group="other")
    told = face.get("/v1/groups/cloud/cost").json()
    assert told == {
        "group": "cloud",
        "since": None,
        "machines": 3,
        "hours": 5.0,
        "cost": 7.0,
        "unpriced": 1,
        "has_cloud": True,
    }
    since = face.get("/v1/groups/cloud/cost", params={"since": "2026-03-01T11:30:00Z"}).json()
    assert (since["machines"], since["hours"], since["cost"]) == (2, 1.0, 1.5)
    later = face.get("/v1/groups/cloud/cost", params={"since": START.isoformat()}).json()
    assert (later["machines"], later["cost"]) == (0, 0.0)


def test_a_group_without_a_cloud_has_no_known_cost_and_one_of_a_cloud_that_had_no_machine_has_cost_nothing(
    face: Face, tmp_path: Path
) -> None:
    told = face.get("/v1/groups/local/cost").json()
    assert (told["cost"], told["machines"], told["has_cloud"]) == (None, 0, False)
    assert face.get("/v1/machines").json() == {"machines": [], "more": False, "has_cloud": False}
    shutil.copy(FILE, tmp_path / "live.yaml")
    cluster = ClusterFile(tmp_path / "live.yaml", tmp_path / "kept.yaml")
    face.app = build_app(replace(face.context, cluster=cluster))
    assert face.get("/v1/groups/local/cost").json()["cost"] == 0.0
    assert face.get("/v1/machines").json()["has_cloud"] is True


def test_a_group_that_there_is_not_and_never_was_is_refused_with_those_that_there_are(face: Face) -> None:
    body = problem(face.get("/v1/groups/nowhere/cost"), 404, "group")
    assert body["fix"] == "Known: local."
    kept(face, "i-1", group="gone", ended_at=START)
    assert face.get("/v1/groups/gone/cost").json()["machines"] == 1


def test_the_cost_is_told_while_nobody_knows_the_groups(face: Face) -> None:
    async def silent() -> Any:
        raise Unavailable("The dispatcher is away.")

    face.app = build_app(replace(face.context, groups=silent))
    assert face.get("/v1/groups/nowhere/cost").json()["machines"] == 0


@pytest.mark.parametrize("since", ["2026-03-01T12:00:01Z", "2026-03-01T10:00:00", "soon"])
def test_a_moment_that_lies_in_the_future_or_is_none_is_refused(face: Face, since: str) -> None:
    problem(face.get("/v1/groups/local/cost", params={"since": since}), 422, "since")
