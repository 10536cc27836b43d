"""What users do, from a folder to numbers: by the command line and from Python."""

from __future__ import annotations

import getpass
import json
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from simulators import catalogue
from simulators.expectation import Example, deviations, load_example
from simyard import Client, Conflict, NotFound, Stage, Transferred
from tests.leftovers import nothing_left
from tests.running_server import SIMYARD, RunningServer, running_server, until

IN_PODMAN = [pytest.mark.podman, pytest.mark.images, pytest.mark.timeout(1500)]
CASES = [
    pytest.param("swmm", "native", id="swmm-native"),
    pytest.param("openseespy", "native", id="openseespy-native"),
    pytest.param("swmm", "podman", id="swmm-podman", marks=IN_PODMAN),
    pytest.param("openseespy", "podman", id="openseespy-podman", marks=IN_PODMAN),
    pytest.param("calculix", "podman", id="calculix-podman", marks=IN_PODMAN),
]


def case_of(simulator: str, folder: Path) -> tuple[Example, list[str]]:
    """Copy a simulator's example without what it should give; return it and the parameters as users type them."""
    example = load_example(catalogue.find(simulator))
    shutil.copytree(example.folder, folder, ignore=shutil.ignore_patterns("expected.*"))
    return example, [word for name, value in example.parameters.items() for word in ("-p", f"{name}={value}")]


@pytest.fixture
def client(server: RunningServer) -> Iterator[Client]:
    with Client(server.url, server.key) as found:
        yield found


@pytest.fixture
def case(tmp_path: Path) -> Path:
    """A folder with a small file."""
    folder = tmp_path / "a case"
    folder.mkdir()
    (folder / "in put.txt").write_text("input\n")
    return folder


def whole_machine(server: RunningServer) -> str:
    """Return the cores of the largest machine."""
    with server.http() as http:
        groups = http.get("/v1/groups").json()["groups"]
    return str(max(machine["cpus"] for group in groups for machine in group["machines"]))


@pytest.mark.parametrize(("simulator", "runtime"), CASES)
def test_a_folder_becomes_numbers_in_one_command(
    request: pytest.FixtureRequest, server: RunningServer, client: Client, tmp_path: Path, simulator: str, runtime: str
) -> None:
    if runtime == "podman":
        request.getfixturevalue("images")
    folder, out = tmp_path / "it's a case", tmp_path / "results"
    example, parameters = case_of(simulator, folder)
    arguments = [simulator, str(folder), *parameters, "--runtime", runtime, "--wait", "--download", str(out), "--json"]
    done = server.simyard("run", *arguments, timeout=300)
    assert done.returncode == 0, done.stderr + done.stdout
    told = json.loads(done.stdout)
    assert (told["status"], told["runtime"], told["simulator"]) == ("succeeded", runtime, simulator)

    # From the files that were downloaded.
    spec = catalogue.find(simulator)
    parsed, warnings = catalogue.tables(spec, out, example.parameters)
    assert warnings == []
    assert deviations(example, parsed) == []
    check_files(simulator, example, out)

    # From the tables of the server.
    task = client.tasks.get(told["id"])
    assert deviations(example, {name: task.table(name) for name in task.tables}) == []
    nothing_left(server, task.id)


def check_files(simulator: str, example: Example, out: Path) -> None:
    match simulator:
        case "swmm":
            report = (out / "model.rpt").read_text()
            errors = [float(line.split()[-1]) for line in report.splitlines() if "Continuity Error (%)" in line]
            assert len(errors) == 2
            assert all(abs(error) < 1 for error in errors)
        case "openseespy":
            log = (out / ".simyard" / "stdout.log").read_text()
            assert "0.530093" in log
            assert "-0.177894" in log
        case "calculix":
            lines = [p.read_text().splitlines() for p in (out / "cantilever.dat", example.folder / "expected.dat")]
            assert len(lines[0]) == len(lines[1]) > 40
            for line, reference in zip(*lines, strict=True):
                words, wanted = line.split(), reference.split()
                if words and words[0].isdigit():
                    # What is zero by symmetry differs by rounding.
                    assert [float(w) for w in words] == pytest.approx([float(w) for w in wanted], rel=1e-5, abs=1e-7)
                elif words and words[0][0] not in "-.0123456789":
                    assert words == wanted


def test_a_user_of_python_gets_the_same(client: Client, tmp_path: Path) -> None:
    example, _ = case_of("swmm", tmp_path / "case")
    with (tmp_path / "case" / "model.inp").open("a") as file:
        file.write(f"\n; {tmp_path}\n")  # a file that nobody has sent before
    told: list[Transferred] = []
    task = client.run("swmm", tmp_path / "case", parameters=example.parameters, name="é storm", progress=told.append)
    assert {one.stage for one in told} == {Stage.HASH, Stage.UPLOAD}
    assert task.wait() == "succeeded"
    assert b"SWMM" in b"".join(task.logs()).upper()
    assert {entry.path for entry in task.outputs} == {"model.rpt", "model.out"}
    assert task.table("summary").num_rows == 1
    assert deviations(example, {name: task.table(name) for name in task.tables}) == []
    found = task.download(tmp_path / "out")
    assert (tmp_path / "out" / "model.rpt").read_bytes() == task.read("model.rpt")
    assert found.already_there == 0
    assert task.download(tmp_path / "out").already_there == len(found.files)
    with pytest.raises(NotFound):
        task.table("no-such")
    with pytest.raises(NotFound):
        task.read("no-such")
    [same] = client.tasks.list(name="é storm")
    assert same.id == task.id
    assert task.samples()


def test_the_same_key_at_once_gives_one_task(server: RunningServer, case: Path, client: Client) -> None:
    key = f"storm-{os.urandom(4).hex()}"
    arguments = [SIMYARD, "run", "swmm", str(case), "-c", "sleep 0.1", "--idempotency-key", key, "--name", key]
    both = [
        subprocess.Popen(arguments, env=server.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    ids = {process.communicate(timeout=60)[0].strip() for process in both}
    assert [process.returncode for process in both] == [0, 0, 0]
    assert len(ids) == 1
    assert [task.id for task in client.tasks.list(name=key)] == list(ids)
    with pytest.raises(Conflict):
        client.run("swmm", case, commands="sleep 9", idempotency_key=key)


def test_ctrl_c_while_waiting_leaves_the_task_running(server: RunningServer, case: Path, tmp_path: Path) -> None:
    arguments = [SIMYARD, "run", "swmm", str(case), "-c", "sleep 300", "--wait", "--download", str(tmp_path / "out")]
    with subprocess.Popen(
        arguments,
        env=server.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Tests that run in the background of a shell ignore Ctrl-C, and so would what they start.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        assert process.stdout
        assert process.stderr
        task = process.stdout.readline().strip()
        for line in process.stderr:
            if "running" in line:
                break
        process.send_signal(signal.SIGINT)
        try:
            _, said = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130
    assert f"simyard tasks wait {task}" in said
    assert f"simyard tasks cancel {task}" in said
    assert "Traceback" not in said
    assert server.task(task)["status"] == "running"
    assert not (tmp_path / "out").exists()

    # And back: the same words lead to the end.
    with subprocess.Popen(
        [SIMYARD, "tasks", "wait", task], env=server.environment, stderr=subprocess.PIPE, text=True
    ) as back:
        assert server.simyard("tasks", "cancel", task).returncode == 0
        assert "cancelled" in back.communicate(timeout=60)[1]
    assert back.returncode == 1
    nothing_left(server, task)


def test_with_json_there_is_one_document_and_nothing_else(server: RunningServer, case: Path, tmp_path: Path) -> None:
    def told(*arguments: str, status: int = 0) -> Any:
        done = server.simyard(*arguments, "--json")
        assert done.returncode == status, (arguments, done.stderr)
        return json.loads(done.stdout)

    run = told("run", "swmm", str(case), "-c", "cp 'in put.txt' out.txt", "--wait", "--download", str(tmp_path / "a"))
    task = run["id"]
    assert run["status"] == "succeeded"
    assert [told("run", "swmm", str(case), "-c", "false", "--wait", status=1)["status"]] == ["failed"]
    assert told("tasks", "info", task) == run == told("tasks", "wait", task) == told("tasks", "cancel", task)
    assert task in {one["id"] for one in told("tasks", "list", "--limit", "50")["tasks"]}
    assert told("tasks", "list", "--name", "no such name") == {"tasks": []}
    assert {file["path"] for file in told("tasks", "files", task)["files"]} >= {"out.txt"}
    found = told("tasks", "download", task, str(tmp_path / "b"))
    assert "out.txt" in found["files"]
    assert told("tasks", "explain", task)["status"] == "succeeded"
    assert {one["name"] for one in told("simulators", "list")["simulators"]} >= {"swmm", "openseespy", "calculix"}
    assert told("simulators", "info", "swmm")["name"] == "swmm"
    assert told("groups", "list")["groups"][0]["name"] == "local"
    gpus = told("machines", "types", "--gpus", "1", "--memory", "64GiB", "--region", "us-east-1")["machine_types"]
    assert {one["gpu"] for one in gpus} >= {"L4", "H100"}
    prices = [one["prices"][0]["on_demand"] for one in gpus]
    assert prices == sorted(prices)


def test_logs_and_files_are_seen_while_the_task_runs(server: RunningServer, case: Path, tmp_path: Path) -> None:
    go = tmp_path / "go"
    (case / "run.sh").write_text(
        "printf 'first, no newline'; echo complaint >&2; mkdir 'a b'; echo 41 > 'a b/partial.txt'\n"
        f"until [ -e '{go}' ]; do sleep 0.05; done; echo 42 >> 'a b/partial.txt'; echo last\n"
    )
    done = server.simyard("run", "swmm", str(case), "-c", "sh run.sh", "--json")
    task = json.loads(done.stdout)["id"]
    log = subprocess.Popen([SIMYARD, "tasks", "logs", "-f", task], env=server.environment, stdout=subprocess.PIPE)
    try:
        assert log.stdout
        assert log.stdout.read(17) == b"first, no newline"
        until(lambda: server.task(task)["status"] == "running", what="a running task")
        # Without --follow it prints what there is, and ends.
        assert server.simyard("tasks", "logs", task).stdout == "first, no newline"
        assert server.simyard("tasks", "logs", "--stderr", task).stdout == "complaint\n"

        def listed() -> dict[str, int]:
            found = json.loads(server.simyard("tasks", "files", task, "--json").stdout)["files"]
            return {file["path"]: file["size"] for file in found}

        assert until(lambda: listed().get("a b/partial.txt") == 3, what="the file")
        assert server.simyard("tasks", "files", task, "a b/partial.txt").stdout == "41\n"
        assert server.simyard("tasks", "files", task, "../control/plan.json").returncode == 2
        assert server.simyard("tasks", "files", task, "no such").returncode == 2
        early = server.simyard("tasks", "download", task, str(tmp_path / "early"))
        assert early.returncode == 2
    finally:
        go.touch()
        rest, _ = log.communicate(timeout=60)
    assert (log.returncode, rest) == (0, b"last\n")
    assert server.ended(task)[0]["status"] == "succeeded"
    assert server.simyard("tasks", "files", task, "a b/partial.txt").stdout == "41\n42\n"


def test_of_those_that_wait_the_higher_priority_runs_first(server: RunningServer, client: Client, case: Path) -> None:
    cores = float(whole_machine(server))
    hold = client.run("swmm", case, commands=[["sh", "-c", "sleep 300"]], cpus=cores)
    until(lambda: hold.refresh().status == "running", what="the first task to run")
    later = [
        client.run("swmm", case, commands="true", cpus=cores, priority=priority, name=f"priority {priority}")
        for priority in (0, -5, 10, 5, 10)
    ]
    told = client.tasks.get(later[0].id).explain()
    assert told.status == "queued"
    hold.cancel()
    for task in later:
        assert task.wait(120) == "succeeded"
    begun = sorted((task.info.started_at, i) for i, task in enumerate(later) if task.info.started_at)
    assert [i for _, i in begun] == [2, 4, 3, 0, 1]


def test_a_full_storage_holds_a_task_up_until_outputs_are_removed(server: RunningServer, tmp_path: Path) -> None:
    def said(*words: str) -> Any:
        done = server.simyard(*words, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    owner = ("--user", getpass.getuser(), "--project", "full")
    _, parameters = case_of("swmm", tmp_path / "case")
    run = ("run", "swmm", str(tmp_path / "case"), *parameters)
    old = said(*run, "--project", "full", "--wait")["id"]
    [attempt] = said("tasks", "info", old)["attempts"]
    assert attempt["output_bytes"] > 0
    said("admin", "quota", "set", *owner, "--storage", str(attempt["output_bytes"]))
    try:
        new = said(*run, "--project", "full")["id"]
        assert "stored outputs" in said("tasks", "explain", new)["summary"]
        asked = server.simyard("tasks", "remove-outputs", old)
        assert (asked.returncode, "--yes" in asked.stderr) == (2, True)
        assert said("tasks", "remove-outputs", "--yes", old)["outputs_removed_at"] is not None
        assert said("tasks", "wait", new)["status"] == "succeeded"
        assert "removed at" in server.simyard("tasks", "download", old, str(tmp_path / "out")).stderr
        [project] = [one for one in said("projects", "list")["projects"] if one["name"] == "full"]
        assert project["stored"] == said("tasks", "info", new)["attempts"][0]["output_bytes"]
    finally:
        said("admin", "quota", "remove", *owner)


def test_equal_tasks_share_a_warm_actor(server: RunningServer) -> None:
    resources = {"cpus": 0.2, "memory": "111MiB"}
    [first] = server.submit(("true",), resources=resources)
    assert server.ended(first)[0]["status"] == "succeeded"
    before = {p.pid for p in server.processes("ray::SimulatorActor")}
    assert before
    for _ in range(3):
        [again] = server.submit(("true",), resources=resources)
        assert server.ended(again)[0]["status"] == "succeeded"
    assert {p.pid for p in server.processes("ray::SimulatorActor")} <= before


def test_a_task_of_every_awkward_parameter_is_shown_as_it_was_given(server: RunningServer, case: Path) -> None:
    name = "two\nlines \x1b[31mred\x1b[0m é"
    options = ["--name", name, "--meta", "why=a=b c", "--project", "dam-7", "--memory", "300MB", "--time-limit", "2m"]
    command = "printf '[%s]' 'a b' \"c'd\" '$HOME' '*'"
    done = server.simyard("run", "swmm", str(case), *options, "-c", command, "-c", "sleep 0", "--wait", "--json")
    told = json.loads(done.stdout)
    assert (told["name"], told["metadata"], told["project"]) == (name, {"why": "a=b c"}, "dam-7")
    assert (told["resources"]["memory"], told["limits"]["run"]) == (300_000_000, 120)
    assert server.simyard("tasks", "logs", told["id"]).stdout == "[a b][c'd][$HOME][*]"
    # A terminal is not coloured by what a user wrote.
    for shown in (server.simyard("tasks", "list"), server.simyard("tasks", "info", told["id"])):
        assert "\x1b[31m" not in shown.stdout


# A server of one's own, for what would disturb others.


@pytest.fixture(scope="module")
def brief(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server whose idle actors end after a second."""
    with running_server(tmp_path_factory.mktemp("brief"), SIMYARD_WARM_SECONDS="1") as running:
        yield running


def test_idle_actors_end(brief: RunningServer) -> None:
    [task] = brief.submit(("true",))
    assert brief.ended(task)[0]["status"] == "succeeded"
    until(lambda: not brief.processes("ray::SimulatorActor"), what="the end of idle actors")
    [again] = brief.submit(("true",))
    assert brief.ended(again)[0]["status"] == "succeeded"


def test_tasks_that_wait_and_run_outlive_a_stop_of_the_server(brief: RunningServer, tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    cores = float(whole_machine(brief))
    resources = {"cpus": cores, "memory": "256MiB"}
    script = f"echo $SIMYARD_BOX >> {journal}; sleep 3"
    tasks = brief.submit(("sh", "-c", script), count=3, resources=resources)
    until(journal.exists, what="the first task to run")
    followed: list[bytes] = []
    brief.stop()
    nothing_left(brief, *tasks)
    brief.start()
    watcher = threading.Thread(
        target=lambda: followed.append(brief.simyard("tasks", "wait", tasks[-1]).stderr.encode()), daemon=True
    )
    watcher.start()
    ended = brief.ended(*tasks)
    watcher.join(60)
    assert [task["status"] for task in ended] == ["succeeded"] * 3
    assert all(task["result"] == len(task["attempts"]) for task in ended)
    # Each ran to its end once; one that the stop had broken off began twice.
    boxes = journal.read_text().split()
    assert len(set(boxes)) == len(boxes) == sum(len(task["attempts"]) for task in ended) <= 4
    assert b"succeeded" in followed[0]


def test_a_store_that_is_restored_finds_what_ended_after_its_backup(brief: RunningServer, tmp_path: Path) -> None:
    journal, copy, go = tmp_path / "journal", tmp_path / "copy.db", tmp_path / "go"
    wait = f"until [ -e {go} ]; do sleep 0.1; done"
    [task] = brief.submit(("sh", "-c", f"echo $SIMYARD_BOX >> {journal}; {wait}; echo done > made.txt"))
    until(journal.exists, what="the task to run")
    assert brief.simyard("admin", "backup", str(copy)).returncode == 0
    go.touch()
    assert brief.ended(task)[0]["status"] == "succeeded"
    refused = brief.simyard("admin", "restore", str(copy))
    assert (refused.returncode, "simyard down" in refused.stderr) == (2, True)
    brief.stop()
    restored = brief.simyard("admin", "restore", str(copy), "--json")
    assert json.loads(restored.stdout)["found"] == 1, restored.stderr
    brief.start()
    told = brief.task(task)
    assert (told["status"], told["result"], len(told["attempts"])) == ("succeeded", 1, 1)
    assert brief.simyard("tasks", "download", task, str(tmp_path / "made")).returncode == 0
    assert (tmp_path / "made" / "made.txt").read_text() == "done\n"
    assert len(journal.read_text().split()) == 1
    checked = brief.simyard("admin", "check")
    assert checked.returncode == 0, checked.stdout
