"""What clouds sell, over HTTP: as the server's own cloud has it, and all of it where it has none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.cluster_file import ClusterFile
from tests.unit.serve.face import Face

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("file", "changes", "providers", "first"),
    [
        ("cluster.yaml", {}, {"aws"}, "us-east-1"),
        ("cluster/launch/gcp.yaml", {}, {"gcp"}, "europe-west4"),
        ("cluster/launch/gcp.yaml", {"region": "mars-north1"}, {"gcp"}, "us-central1"),
        ("cluster/launch/azure.yaml", {}, {"azure"}, None),
        ("cluster/launch/on-premise.yaml", {}, {"aws", "gcp"}, "us-east-1"),
        (None, {}, {"aws", "gcp"}, "us-east-1"),
    ],
)
def test_a_cluster_tells_what_its_own_cloud_sells_and_its_own_prices_first(
    file: str | None, changes: dict[str, str], providers: set[str], first: str | None, tmp_path: Path
) -> None:
    cluster = None
    if file is not None:
        document: dict[str, Any] = yaml.safe_load((ROOT / file).read_text())
        document["provider"] |= changes
        (tmp_path / "live.yaml").write_text(yaml.safe_dump(document))
        cluster = ClusterFile(tmp_path / "live.yaml", tmp_path / "kept.yaml")
    face = Face(cluster=cluster)
    try:
        found = face.get("/v1/machine-types").json()["machine_types"]
    finally:
        face.close()
    assert {one["provider"] for one in found} == providers
    assert [price["region"] for price in found[0]["prices"][:1]] == ([] if first is None else [first])
