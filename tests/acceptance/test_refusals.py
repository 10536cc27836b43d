"""Bad input is refused before anything runs: exit status 2, the field and what to do about it, and nothing left."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from simulators import catalogue
from simulators.expectation import load_example
from simyard.resources import MIB
from tasks.keys import StoredKey, new_key
from tasks.store import open_store
from tests.running_server import RunningServer

SWMM = load_example(catalogue.find("swmm")).folder
NO_SUCH_TASK = "t" + "0" * 20


def everything(server: RunningServer) -> dict[str, list[str]]:
    """Return what there is of tasks, of attempts and of objects in the storage."""
    with server.http() as http:
        listed = http.get("/v1/tasks", params={"limit": 1000}).json()["tasks"]
    data = server.data_dir
    return {
        "tasks": sorted(task["id"] for task in listed),
        "scratch": sorted(path.name for path in (data / "scratch").iterdir()),
        "objects": sorted(str(path) for path in (data / "storage").rglob("*") if path.is_file()),
    }


@pytest.fixture(autouse=True)
def nothing_is_left(server: RunningServer) -> Iterator[None]:
    """Every refusal here leaves all as it was."""
    before = everything(server)
    yield
    assert everything(server) == before


@pytest.fixture
def case(tmp_path: Path) -> Path:
    """A folder with a good input of SWMM's that no other test has sent."""
    folder = tmp_path / "my case"
    shutil.copytree(SWMM, folder)
    with (folder / "model.inp").open("a") as file:
        file.write(f"\n; {tmp_path}\n")
    return folder


def refused(server: RunningServer, *arguments: str, status: int = 2, says: Sequence[str]) -> str:
    """Run the command line, check that it refuses in one line of these words, and return what it said."""
    done = server.simyard(*arguments)
    assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    for word in says:
        assert word in done.stderr, f"{word!r} is not in {done.stderr!r}"
    return done.stderr


def run(server: RunningServer, folder: Path, *more: str, says: Sequence[str], simulator: str = "swmm") -> str:
    return refused(server, "run", simulator, str(folder), *more, says=says)


GOOD = ("-p", "input_file=model.inp")


def test_an_unknown_simulator_is_named_with_the_nearest(server: RunningServer, case: Path) -> None:
    run(server, case, *GOOD, simulator="swm", says=["simulator", "'swm'", "swmm"])


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ([*GOOD, "--version", "5.2.3"], ["version: ", "5.2.3", "5.2.4"]),
        ([*GOOD, "-p", "imput_file=x"], ["parameters.imput_file: ", "input_file"]),
        ([], ["parameters.input_file: ", "required"]),
        (["-p", "input_file=modle.inp"], ["parameters.input_file: ", "modle.inp", "model.inp"]),
        (["-p", "input_file=../model.inp"], ["parameters.input_file: ", "../model.inp"]),
        (["-p", "input_file"], ["parameters: ", "-p name=value"]),
        ([*GOOD, "-p", "input_file=model.inp"], ["parameters.input_file: ", "twice"]),
        ([*GOOD, "--cpus", "4000"], ["resources.cpus: ", "4000", "Ask for less"]),
        ([*GOOD, "--cpus", "nan"], ["resources.cpus: "]),
        ([*GOOD, "--memory", "900TiB"], ["resources.memory: ", "Ask for less"]),
        ([*GOOD, "--memory", "lots"], ["resources.memory: ", "'lots'", "2GiB"]),
        ([*GOOD, "--memory", "-5GiB"], ["resources.memory: ", "2GiB"]),
        ([*GOOD, "--disk", "20 Gigs"], ["resources.disk: ", "20 Gigs"]),
        ([*GOOD, "--on", "nowhere"], ["group: ", "nowhere", "local"]),
        ([*GOOD, "--runtime", "apptainer"], ["runtime: "]),
        ([*GOOD, "--time-limit", "soon"], ["limits.run: ", "'soon'", "2h"]),
        ([*GOOD, "--idempotency-key", "two words"], ["dempotency"]),
        ([*GOOD, "--meta", "no-value"], ["metadata: ", "--meta name=value"]),
        (["-c", "sh -c 'echo \"open"], ["commands.0: ", "Close the quote"]),
        (["-c", "echo a > b"], ["commands.0: ", "redirection"]),
        (["-c", ""], ["commands.0: "]),
    ],
    ids=lambda value: " ".join(value)[:60] if value and not value[0].endswith(": ") else "",
)
def test_a_bad_value_is_refused_by_its_field(
    server: RunningServer, case: Path, more: list[str], says: list[str]
) -> None:
    run(server, case, *more, says=says)


def test_a_job_whose_deck_is_missing_is_refused(server: RunningServer, case: Path) -> None:
    (case / "beam.inp").write_text("*NODE\n")
    run(server, case, "-p", "job=baem", simulator="calculix", says=["parameters.job: ", "baem.inp", "beam"])


def fifo(folder: Path) -> None:
    os.mkfifo(folder / "named pipe")


def a_socket(folder: Path) -> None:
    # The address of a socket is short: it is bound from inside of its folder.
    here = Path.cwd()
    os.chdir(folder)
    try:
        with socket.socket(socket.AF_UNIX) as opened:
            opened.bind("s")
    finally:
        os.chdir(here)


def device(folder: Path) -> None:
    try:
        os.mknod(folder / "null", 0o666 | 0o020000, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("only root can make a device")


def link(target: str, name: str = "way out") -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        (folder / name).symlink_to(target)

    return make


def secret_outside(folder: Path) -> None:
    (folder.parent / "my case 2").mkdir()
    (folder.parent / "my case 2" / "secret").write_text("secret")
    (folder / "way out").symlink_to("../my case 2/secret")


def bad_name(folder: Path) -> None:
    (folder / os.fsdecode(b"caf\xe9")).write_text("latin-1")


def own_folder(folder: Path) -> None:
    (folder / ".simyard").mkdir()
    (folder / ".simyard" / "stdout.log").write_text("forged")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (fifo, ["inputs: ", "named pipe", "Remove it"]),
        (a_socket, ["inputs: ", "'s'", "socket", "Remove it"]),
        (device, ["inputs: ", "'null'", "device", "Remove it"]),
        (link("/etc/passwd"), ["inputs: ", "'way out'", "leaves the folder", "/etc/passwd", "Copy"]),
        (secret_outside, ["inputs: ", "'way out'", "leaves the folder"]),
        (link("nothing"), ["inputs: ", "'way out'", "nothing"]),
        (link("way out"), ["inputs: ", "'way out'", "circle"]),
        (link("."), ["inputs: ", "'way out'", "circle"]),
        (bad_name, ["inputs: ", "caf\\\\xe9", "UTF-8"]),
        (own_folder, ["inputs: ", ".simyard"]),
    ],
    ids=["fifo", "socket", "device", "passwd", "sibling", "dangling", "itself", "circle", "name", "own"],
)
def test_a_folder_with_what_cannot_be_sent_is_refused(
    server: RunningServer, case: Path, spoil: Callable[[Path], None], says: list[str]
) -> None:
    spoil(case)
    run(server, case, *GOOD, says=says)


def test_an_empty_folder_a_file_and_no_folder_are_refused(server: RunningServer, tmp_path: Path) -> None:
    (tmp_path / "empty" / "below").mkdir(parents=True)
    run(server, tmp_path / "empty", *GOOD, says=["inputs: ", "no files"])
    run(server, tmp_path / "absent", *GOOD, says=["inputs: ", "does not exist"])
    run(server, SWMM / "model.inp", *GOOD, says=["inputs: ", "not a folder"])


def store_key(server: RunningServer, key: StoredKey) -> None:
    store = open_store(server.data_dir / "simyard.db")
    try:
        store.add_key(key)
    finally:
        store.close()


@pytest.fixture
def expired(server: RunningServer) -> str:
    """A key that was good until a moment ago."""
    now = datetime.now(UTC)
    secret, key = new_key("somebody", now - timedelta(days=1), now - timedelta(seconds=1))
    store_key(server, key)
    return secret


@pytest.mark.parametrize("key", ["sy_" + "A" * 43, "sy_" + "A" * 500, "sy_é"], ids=["unknown", "long", "odd"])
def test_a_bad_key_is_refused(server: RunningServer, case: Path, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setitem(server.environment, "SIMYARD_URL", server.url)
    monkeypatch.setitem(server.environment, "SIMYARD_KEY", key)
    run(server, case, *GOOD, says=["key", "simyard login"])


def test_an_expired_key_is_refused(
    server: RunningServer, case: Path, monkeypatch: pytest.MonkeyPatch, expired: str
) -> None:
    monkeypatch.setitem(server.environment, "SIMYARD_KEY", expired)
    run(server, case, *GOOD, says=["key has expired", "simyard login"])
    refused(server, "tasks", "list", says=["key has expired"])
    with httpx.Client(base_url=server.url, trust_env=False) as http:
        answer = http.get("/v1/tasks", headers={"Authorization": f"Bearer {expired}"})
    assert answer.status_code == 401
    assert "expired" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("command", "task"),
    [(command, NO_SUCH_TASK) for command in ("info", "wait", "logs", "files", "download", "cancel", "explain")]
    + [("info", "no-such"), ("download", "../../v1/groups"), ("cancel", "é")],
)
def test_a_task_that_does_not_exist_is_refused(server: RunningServer, command: str, task: str) -> None:
    refused(server, "tasks", command, task, says=["task"])
    assert not (server.home / task).exists()


def test_a_task_of_another_user_does_not_exist(server: RunningServer) -> None:
    secret, key = new_key("somebody else", datetime.now(UTC))
    store_key(server, key)
    with server.http() as http:
        theirs = [task["id"] for task in http.get("/v1/tasks").json()["tasks"]][:1]
        http.headers["Authorization"] = f"Bearer {secret}"
        assert http.get("/v1/tasks").json()["tasks"] == []
        for task in theirs:
            assert http.get(f"/v1/tasks/{task}").status_code == 404
            assert http.post(f"/v1/tasks/{task}:cancel").status_code == 404


# Over HTTP, as `curl` sends it.


def good_spec() -> dict[str, Any]:
    return {
        "simulator": "swmm",
        "parameters": {"input_file": "a.inp"},
        "inputs": [{"path": "a.inp", "sha256": "0" * 64, "size": 1}],
    }


def spoilt(**changes: Any) -> dict[str, Any]:
    return good_spec() | changes


def inputs(path: str) -> list[dict[str, Any]]:
    return [*good_spec()["inputs"], {"path": path, "sha256": "0" * 64, "size": 1}]


def problem(answer: httpx.Response, status: int, field: str | None) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    told: dict[str, Any] = answer.json()
    assert (told["status"], told["field"]) == (status, field), told
    assert told["detail"]
    assert told["type"].startswith("urn:simyard:problem:")
    return told


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (spoilt(simulator=5), "simulator"),
        (spoilt(simulator="swm"), "simulator"),
        (spoilt(version="9"), "version"),
        (spoilt(priority="high"), "priority"),
        (spoilt(parameters=[]), "parameters"),
        (spoilt(parameters={"input_file": 3}), "parameters.input_file"),
        (spoilt(parameters={"input_file": ["a.inp"]}), "parameters.input_file"),
        (spoilt(parameters={"input_file": "b.inp"}), "parameters.input_file"),
        (spoilt(parameters={"inputfile": "a.inp"}), "parameters.inputfile"),
        (spoilt(resources={"cpus": "many"}), "resources.cpus"),
        (spoilt(resources={"cpus": 4000}), "resources.cpus"),
        (spoilt(resources={"memory": "12 elephants"}), "resources.memory"),
        (spoilt(resources={"memory": 10**15}), "resources.memory"),
        (spoilt(resources={"gpus": 60}), "resources.gpus"),
        (spoilt(resources={"cpus": 0}), "resources.cpus"),
        (spoilt(resources={"memory": 1}), "resources.memory"),
        (spoilt(retries=-1), "retries"),
        (spoilt(priority=101), "priority"),
        (spoilt(project="a/../b"), "project"),
        (spoilt(parameters={"input_file": "/etc/passwd"}), "parameters.input_file"),
        (spoilt(parameters={"input_file": ""}), "parameters.input_file"),
        (spoilt(resources={"cores": 1}), "resources.cores"),
        (spoilt(limits={"run": 0}), "limits.run"),
        (spoilt(group="nowhere"), "group"),
        (spoilt(inputs=[]), "inputs"),
        (spoilt(inputs=inputs("../x")), "inputs.1.path"),
        (spoilt(inputs=inputs("/etc/passwd")), "inputs.1.path"),
        (spoilt(inputs=inputs("a/../../x")), "inputs.1.path"),
        (spoilt(inputs=inputs("nul\0")), "inputs.1.path"),
        (spoilt(inputs=inputs(".simyard/stdout.log")), "inputs.1.path"),
        (spoilt(inputs=inputs("a.inp")), "inputs"),
        (spoilt(inputs=inputs("a.inp/b")), "inputs"),
        (spoilt(inputs=[{"path": "a.inp", "sha256": "x", "size": 1}]), "inputs.0.sha256"),
        (spoilt(inputs=[{"path": "a.inp", "sha256": "0" * 64, "size": -1}]), "inputs.0.size"),
        (good_spec(), "inputs"),  # the file was never sent
        (spoilt(commands=[{"argv": []}]), "commands.0.argv"),
        (spoilt(commands=[{"argv": ["sh"], "shell": True}]), "commands.0.shell"),
        (spoilt(colour="blue"), "colour"),
        ({}, "simulator"),
        ([], None),
        ("swmm", None),
    ],
    ids=lambda value: json.dumps(value)[:70] if not isinstance(value, str | None) else None,
)
def test_a_bad_field_is_a_problem_that_names_it(server: RunningServer, body: Any, field: str | None) -> None:
    with server.http() as http:
        told = problem(http.post("/v1/tasks", json=body), 422, field)
    assert told["fix"]


def test_a_body_that_is_no_json_is_refused(server: RunningServer) -> None:
    headers = {"Content-Type": "application/json"}
    with server.http() as http:
        for body in (b"{", b"\xff\xfe", b"[" * 100_000, b""):
            assert "fix" in problem(http.post("/v1/tasks", content=body, headers=headers), 422, None)


def endless(size: int) -> Iterator[bytes]:
    for _ in range(0, size, MIB):
        yield b" " * MIB


@pytest.mark.parametrize(
    ("path", "limit"), [("/v1/tasks", 32 * MIB), ("/v1/tasks:batch", 32 * MIB), ("/v1/inputs", 16 * MIB)]
)
@pytest.mark.parametrize("announced", [True, False], ids=["announced", "chunked"])
def test_a_body_too_large_is_refused(server: RunningServer, path: str, limit: int, announced: bool) -> None:
    size = limit + 2 * MIB
    headers = {"Content-Length": str(size)} if announced else {}
    with server.http() as http:
        told = problem(http.post(path, content=endless(size), headers=headers), 413, None)
    assert told["fix"]


def test_a_request_without_a_good_key_is_refused(server: RunningServer) -> None:
    with httpx.Client(base_url=server.url, trust_env=False) as http:
        for header in (None, "Bearer sy_" + "A" * 43, "Bearer", "Basic c3k6c3k=", f"bearer{server.key}"):
            headers = {} if header is None else {"Authorization": header}
            for method, path in (("GET", "/v1/tasks"), ("POST", "/v1/tasks"), ("POST", "/v1/inputs")):
                answer = http.request(method, path, headers=headers, content=b"{}" if method == "POST" else None)
                assert answer.status_code == 401, (header, method, path, answer.text)
                assert answer.headers["www-authenticate"].startswith("Bearer")
                assert answer.json()["fix"]


@pytest.mark.parametrize(
    "path",
    ["", "/events", "/logs", "/files", "/files/content?path=x", "/outputs", "/outputs:download", "/tables", "/explain"],
)
def test_what_does_not_exist_is_a_problem(server: RunningServer, path: str) -> None:
    with server.http() as http:
        problem(http.get(f"/v1/tasks/{NO_SUCH_TASK}{path}"), 404, "task")


def test_bytes_that_are_not_what_was_announced_are_dropped(server: RunningServer) -> None:
    wanted = {"sha256": "1" * 64, "size": 5}
    with server.http() as http:
        [plan] = http.post("/v1/inputs:negotiate", json={"files": [wanted]}).json()["uploads"]
        [part] = plan["parts"]
        answer = http.put(part["url"], content=b"wrong", headers={"Authorization": ""})
        assert answer.status_code < 300, answer.text
        done = http.post(plan["complete"], json={"etags": {"1": answer.headers["etag"]}})
        assert done.status_code == 422
        assert "hash" in done.text


def test_an_address_that_was_tampered_with_is_refused(server: RunningServer) -> None:
    wanted = {"sha256": "2" * 64, "size": 5}
    with server.http() as http:
        [plan] = http.post("/v1/inputs:negotiate", json={"files": [wanted]}).json()["uploads"]
        url = plan["parts"][0]["url"].replace("2" * 64, "3" * 64)
        answer = http.put(url, content=b"bytes", headers={"Authorization": ""})
    assert answer.status_code in {401, 403}, answer.text
    assert answer.json()["fix"]
