"""The cluster file that `ray up` reads."""

from __future__ import annotations

from pathlib import Path

import yaml
from ray.autoscaler._private.util import fillout_defaults, validate_config

from cluster.cluster_file import groups_of
from simyard.task import LOCAL_GROUP

FILE = Path(__file__).parents[3] / "cluster.yaml"


def test_ray_accepts_the_cluster_file() -> None:
    validate_config(fillout_defaults(yaml.safe_load(FILE.read_text())))


def test_one_of_its_groups_is_the_one_that_tasks_ask_for_by_default() -> None:
    assert LOCAL_GROUP in {one.name for one in groups_of(yaml.safe_load(FILE.read_text()))}


def test_it_holds_no_secret() -> None:
    assert not any(word in FILE.read_text().lower() for word in ("secret_access_key", "aws_access_key_id", "password"))
