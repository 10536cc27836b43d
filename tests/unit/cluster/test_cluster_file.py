"""The cluster file that `ray up` reads."""

from __future__ import annotations

from pathlib import Path

import yaml
from ray.autoscaler._private.util import fillout_defaults, validate_config

from cluster.machines import GROUP_LABEL
from simyard.task import LOCAL_GROUP

FILE = Path(__file__).parents[3] / "cluster.yaml"


def test_ray_accepts_the_cluster_file() -> None:
    validate_config(fillout_defaults(yaml.safe_load(FILE.read_text())))


def test_its_machines_belong_to_the_group_that_tasks_ask_for_by_default() -> None:
    types = yaml.safe_load(FILE.read_text())["available_node_types"]
    assert [t["labels"] for name, t in types.items() if name != "head"] == [{GROUP_LABEL: LOCAL_GROUP}]


def test_it_holds_no_secret() -> None:
    assert not any(word in FILE.read_text().lower() for word in ("secret_access_key", "aws_access_key_id", "password"))
