"""What Ray's errors say of an attempt."""

from __future__ import annotations

import pytest
from ray.exceptions import ActorDiedError, ActorUnavailableError, ActorUnschedulableError, RayTaskError

from simulators.work import Superseded
from tasks.holders import Broken, Gone, Left, Unreachable
from tasks.ray_holders import left_by


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
        (_raised(ValueError("no")), Broken("ValueError('no')")),
    ],
)
def test_an_actor_that_cannot_be_reached_is_not_a_dead_one(error: BaseException | None, left: Left) -> None:
    assert left_by(error) == left
