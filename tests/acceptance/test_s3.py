"""The main job with everything in a real S3 server: inputs go straight there, and results come straight from there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.running_server import RunningServer, running_server
from tests.services.s3 import S3Server


@pytest.mark.timeout(400)
def test_a_folder_goes_through_a_simulator_with_its_files_in_s3(s3_server: S3Server, tmp_path: Path) -> None:
    case = tmp_path / "ca se"
    case.mkdir()
    (case / "small.txt").write_text("small\n")
    # Larger than a part, so that it goes up as a multipart upload.
    (case / "big.bin").write_bytes(bytes(range(256)) * 4096 * 20)
    script = "cp big.bin copy.bin; cat small.txt; echo done > 'out put.txt'"
    storage = f"s3://{s3_server.bucket}/acceptance"
    with running_server(tmp_path, "--storage", storage, **s3_server.environment) as server:
        done = server.simyard(
            "run", "swmm", str(case), "-c", f'sh -c "{script}"', "--memory", "256MiB",
            "--download", str(tmp_path / "results"), "--json",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "results" / "out put.txt").read_text() == "done\n"
        assert (tmp_path / "results" / "copy.bin").read_bytes() == (case / "big.bin").read_bytes()
        [task] = json.loads(server.simyard("tasks", "list", "--json").stdout)["tasks"]
        assert server.simyard("tasks", "logs", task["id"]).stdout == "small\n"
        with server.http() as http:
            listing = http.get(f"/v1/tasks/{task['id']}/outputs").json()
        # The server hands out addresses of the S3 server itself: big results do not pass through it.
        assert all(found["url"].startswith(s3_server.endpoint) for found in listing["objects"].values())
        assert not (server.data_dir / "storage").exists()
        again = server.simyard("run", "swmm", str(case), "-c", "true", "--memory", "256MiB", "--wait")
        assert again.returncode == 0, again.stderr
        _check_that_nothing_is_read_of_inputs_that_the_machine_has(server, s3_server, case)
        _check_that_two_tasks_at_once_fetch_an_input_once(server, case)
    keys = [item["Key"] for item in s3_server.client().list_objects_v2(Bucket=s3_server.bucket)["Contents"]]
    assert any(key.endswith("/1/manifest.parquet") for key in keys)


def _check_that_nothing_is_read_of_inputs_that_the_machine_has(
    server: RunningServer, s3_server: S3Server, case: Path
) -> None:
    gate = server.home / "gate"
    common = ("swmm", str(case), "--runtime", "native", "--memory", "256MiB")
    before = server.simyard("run", *common, "-c", f"sh -c 'until [ -e \"{gate}\" ]; do sleep 0.1; done'").stdout.strip()
    task = server.simyard("run", *common, "-c", "cat small.txt big.bin", "--after", before).stdout.strip()
    bucket = s3_server.client()
    inputs = bucket.list_objects_v2(Bucket=s3_server.bucket, Prefix="acceptance/inputs/")["Contents"]
    for found in inputs:
        bucket.delete_object(Bucket=s3_server.bucket, Key=found["Key"])
    gate.touch()
    [told] = server.ended(task)
    assert told["status"] == "succeeded", told["reason"]
    assert told["attempts"][-1]["staged"] == {"fetched": 0, "kept": sum(found["Size"] for found in inputs)}
    assert "20 MiB of its inputs already; 0 B came to it" in server.simyard("tasks", "info", task).stdout


def _check_that_two_tasks_at_once_fetch_an_input_once(server: RunningServer, case: Path) -> None:
    (case / "big.bin").write_bytes(bytes(range(255, -1, -1)) * 4096 * 20)
    line = (
        "run",
        "swmm",
        str(case),
        "--runtime",
        "native",
        "--cpus",
        "0.5",
        "--memory",
        "256MiB",
        "-c",
        "sh -c 'cat *'",
    )
    tasks = [server.simyard(*line).stdout.strip() for _ in range(2)]
    staged = [told["attempts"][-1]["staged"] for told in server.ended(*tasks)]
    assert sum(one["fetched"] for one in staged) == (case / "big.bin").stat().st_size
    assert sum(one["kept"] for one in staged) == (case / "big.bin").stat().st_size + 2 * len("small\n")
