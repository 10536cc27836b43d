"""What Ray's errors say of an attempt."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ray.exceptions import ActorDiedError, ActorUnavailableError, ActorUnschedulableError, RayTaskError

from cluster.machines import RayMachine
from simulators.errors import MachineLost
from simulators.work import Superseded
from tasks import ray_holders
from tasks.holders import Broken, Gone, Left, Unreachable
from tasks.ray_holders import RayHolders, left_by


def _raised(cause: Exception) -> RayTaskError:
    return RayTaskError("carry", "no traceback", cause)


@pytest.mark.parametrize(
    ("error", "left"),
    [
        (None, None),
        (ActorDiedError(), Gone()),
        (ActorUnschedulableError("Its machine has gone."), Gone()),
        (ActorUnavailableError("The connection broke.", b"a" * 16), Unreachable()),
        (_raised(Superseded("Another attempt goes on.")), None),
        (_raised(MachineLost("gone", machine="m")), Broken("gone", machine="m")),
        (_raised(ValueError("no")), Broken("ValueError('no')")),
    ],
)
def test_an_actor_that_cannot_be_reached_is_not_a_dead_one(error: BaseException | None, left: Left) -> None:
    assert left_by(error) == left


def test_a_machine_comes_with_all_that_it_offers(monkeypatch: pytest.MonkeyPatch) -> None:
    found = RayMachine(id="a", name="one", group="local", cpus=4, memory=8, gpus=1, disk=99, is_leaving=True)
    monkeypatch.setattr(ray_holders, "list_machines", lambda: (found, replace(found, id="b", is_alive=False)))
    [host] = RayHolders(woken=lambda: None).machines()
    assert (host.id, host.name, host.group, host.is_leaving) == ("a", "one", "local", True)
    assert (host.cpus, host.memory, host.gpus, host.disk) == (4, 8, 1, 99)
