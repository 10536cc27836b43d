from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from simulators.outcome import Outcome
from simyard.event import LogStream
from simyard.profile import profile_path, stored_profile
from simyard.reason import Reason, ReasonCode
from simyard.status import Status
from tasks.stimulus import End
from tests.integration.client.conftest import Served
from tests.integration.serve.server import wait_for
from tests.unit.client.conftest import WEIRD
from tests.unit.tasks.samples import NOW, later
from tests.unit.tasks.store_suite import rental

INPUT = ("-p", "input_file=town.inp")


def _fail(served: Served, task: str) -> None:
    served.face.run(task)
    reason = Reason(code=ReasonCode.EXIT_CODE, message="The command ended with exit code 3.", evidence={"exit_code": 3})
    outcome = Outcome(status=Status.FAILED, reason=reason, exit_code=3, stored=False)
    served.face.store.apply(task, End(1, outcome), served.face.clock.now)


def test_login_checks_the_key_and_keeps_it_for_this_user_only(served: Served) -> None:
    profile_path().unlink()
    refused = served.cli("login", served.url, "--key", "sy_wrong")
    assert refused.exit_code == 2
    assert refused.stderr.startswith("error: ")
    assert not profile_path().exists()
    done = served.cli("login", served.url.removeprefix("http://"), "--json", text=served.face.key + "\n")
    assert done.exit_code == 0
    assert json.loads(done.stdout)["url"] == served.url
    stored = stored_profile()
    assert stored is not None
    assert stored.secret == served.face.key
    assert stat.S_IMODE(profile_path().stat().st_mode) == 0o600
    assert served.face.key not in done.output


@pytest.mark.parametrize("url", ["ftp://x", "http://u:p@x", "", "not a url"])
def test_login_refuses_what_is_no_address(served: Served, url: str) -> None:
    result = served.cli("login", url, "--key", "k")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: url: ")


def test_a_server_that_is_not_there_is_said_with_what_to_do() -> None:
    from typer.testing import CliRunner

    from simyard.cli.app import build

    for arguments in (["login", "http://127.0.0.1:9", "--key", "k"], ["tasks", "list"]):
        result = CliRunner().invoke(build(arguments), arguments)
        assert result.exit_code == 3
        assert "simyard up" in result.stderr
        assert "Traceback" not in result.output


def test_run_prints_just_the_id(served: Served, case: Path) -> None:
    result = served.cli("run", "swmm", str(case), *INPUT, "--cpus", "2", "--meta", "who=ada", "--time-limit", "2h")
    assert result.exit_code == 0
    assert result.stdout == served.newest() + "\n"
    assert f"simyard tasks wait {served.newest()}" in result.stderr
    task = served.face.store.get(served.newest()).task
    assert (task.resources.cpus, task.metadata, task.limits.run) == (2, {"who": "ada"}, 7200)


def test_run_waits_downloads_and_ends_with_0_after_success(served: Served, case: Path, tmp_path: Path) -> None:
    mover = served.meanwhile(served.finish)
    result = served.cli("run", "swmm", str(case), *INPUT, "--download", str(tmp_path / "out"), "--json")
    mover.join()
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["status"] == "succeeded"
    assert not result.stderr
    assert {name: (tmp_path / "out" / name).read_bytes() for name in WEIRD} == WEIRD


def test_run_says_how_the_task_goes(served: Served, case: Path) -> None:
    mover = served.meanwhile(served.finish)
    result = served.cli("run", "swmm", str(case), *INPUT, "--wait")
    mover.join()
    assert result.exit_code == 0
    assert result.stdout == served.newest() + "\n"
    assert f"{served.newest()} queued" in result.stderr
    assert f"{served.newest()} succeeded" in result.stderr
    assert "\x1b" not in result.stderr


def test_run_ends_with_1_when_the_task_failed(served: Served, case: Path, tmp_path: Path) -> None:
    mover = served.meanwhile(lambda task: _fail(served, task))
    result = served.cli("run", "swmm", str(case), *INPUT, "--wait", "--download", str(tmp_path / "out"))
    mover.join()
    assert result.exit_code == 1
    assert "exit code 3" in result.stderr
    assert f"simyard tasks explain {served.newest()}" in result.stderr
    waited = served.cli("tasks", "wait", served.newest(), "--json")
    assert (waited.exit_code, json.loads(waited.stdout)["reason"]["code"]) == (1, "exit-code")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("swmn", "CASE"), "swmm"),
        (("swmm", "CASE", "--version", "0.0.1"), "0.0.1"),
        (("swmm", "CASE", "-p", "input_fil=x"), "Did you mean input_file?"),
        (("swmm", "CASE", "-p", "input_file=none.inp"), "none.inp"),
        (("swmm", "CASE", "-p", "input_file=../town.inp"), "parameters.input_file"),
        (("swmm", "CASE", *INPUT, "-c", "a | b"), "not run by a shell"),
        (("swmm", "CASE", *INPUT, "--memory", "2 apples"), "resources.memory"),
        (("swmm", "CASE", *INPUT, "--cpus", "4000"), "resources.cpus"),
        (("swmm", "CASE", *INPUT, "--on", "nowhere"), "group"),
        (("swmm", "CASE", *INPUT, "--runtime", "vmware"), "runtime"),
        (("swmm", "CASE", *INPUT, "--priority", "1000"), "priority"),
        (("swmm", "CASE", *INPUT, "--meta", "x"), "--meta name=value"),
        (("swmm", "CASE", *INPUT, "--download", "CASE/town.inp"), "is not a folder"),
        (("swmm", "EMPTY", *INPUT), "holds no files"),
        (("swmm", "NONE", *INPUT), "does not exist"),
        (("swmm", "LINK", *INPUT), "leaves the folder"),
        (("swmm", "PIPE", *INPUT), "named pipe"),
    ],
)
def test_bad_input_is_refused_with_2_and_nothing_left_behind(
    served: Served, case: Path, tmp_path: Path, arguments: tuple[str, ...], says: str
) -> None:
    folders = {name: tmp_path / name for name in ("EMPTY", "NONE", "LINK", "PIPE")} | {"CASE": case}
    for name in ("EMPTY", "LINK", "PIPE"):
        folders[name].mkdir()
    (folders["LINK"] / "out").symlink_to("/etc/hostname")
    os.mkfifo(folders["PIPE"] / "p")
    words = [word.partition("/") for word in arguments]
    result = served.cli("run", *(str(folders.get(top, top)) + slash + rest for top, slash, rest in words))
    assert result.exit_code == 2, result.output
    assert says in result.stderr
    if "--download" not in arguments:
        assert result.stderr.startswith("error: ")
        assert len(result.stderr.splitlines()) == 1
    assert not result.stdout
    assert served.cli("tasks", "list", "--json").stdout.count('"id"') == 0


def test_list_fits_80_columns_and_keeps_ids_whole(served: Served, case: Path) -> None:
    name = "a very long name \x1b[31m that does not fit into any column of a table at all, really"
    for _ in range(3):
        assert served.cli("run", "swmm", str(case), *INPUT, "--name", name).exit_code == 0
    result = served.cli("tasks", "list")
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines[1:]] == [task["id"] for task in _json(served, "tasks", "list")["tasks"]]
    assert max(len(line) for line in lines) <= 80
    assert len(lines) == 4
    assert "\x1b" not in result.stdout
    assert len(_json(served, "tasks", "list", "--limit", "2")["tasks"]) == 2
    assert len(_json(served, "tasks", "list", "--all", "--status", "queued")["tasks"]) == 3
    assert _json(served, "tasks", "list", "--status", "failed") == {"tasks": []}
    assert served.cli("tasks", "list", "--status", "lost").exit_code == 2


def _json(served: Served, *arguments: str) -> dict[str, object]:
    result = served.cli(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    assert not result.stderr
    return dict(json.loads(result.stdout))


def test_info_and_explain_tell_people_and_programs(served: Served, case: Path) -> None:
    served.cli("run", "swmm", str(case), *INPUT)
    task = served.newest()
    _fail(served, task)
    shown = served.cli("tasks", "info", task)
    assert shown.exit_code == 0
    assert "exit code 3" in shown.stdout
    assert "input_file=town.inp" in shown.stdout
    assert _json(served, "tasks", "info", task)["status"] == "failed"
    assert task in served.cli("tasks", "explain", task).stdout
    assert _json(served, "tasks", "explain", task)["status"] == "failed"


def test_files_downloads_and_logs_keep_every_byte(
    served: Served, case: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served.cli("run", "swmm", str(case), *INPUT)
    task = served.newest()
    served.finish(task)
    assert "line\\nbreak.txt" in served.cli("tasks", "files", task).stdout
    listed = _json(served, "tasks", "files", task)["files"]
    assert isinstance(listed, list)
    assert {file["path"] for file in listed} == set(WEIRD)
    assert served.cli("tasks", "files", task, "line\nbreak.txt").stdout_bytes == WEIRD["line\nbreak.txt"]
    assert served.cli("tasks", "logs", task).stdout_bytes == b"10 %\r20 %\n"
    assert served.cli("tasks", "logs", task, "--follow", "--stderr").stdout_bytes == b"\xff"
    line = json.loads(served.cli("tasks", "logs", task, "--json").stdout)
    assert line == {"stream": "stdout", "offset": 0, "text": "10 %\r20 %\n"}
    monkeypatch.chdir(tmp_path)
    assert served.cli("tasks", "download", task).exit_code == 0
    assert {name: (tmp_path / task / name).read_bytes() for name in WEIRD} == WEIRD
    told = _json(served, "tasks", "download", task, "some", "--glob", "*.dat")
    assert told["files"] == ["größe ☃.dat"]
    assert served.cli("tasks", "download", task, "none", "--glob", "*.vtk").exit_code == 2
    assert not (tmp_path / "none").exists()


def test_cancel_ends_several_and_wait_says_so(served: Served, case: Path) -> None:
    tasks = [served.cli("run", "swmm", str(case), *INPUT).stdout.strip() for _ in range(2)]
    result = served.cli("tasks", "cancel", *tasks)
    assert result.exit_code == 0
    assert all(f"{task} cancelled" in result.stderr for task in tasks)
    assert served.cli("tasks", "wait", tasks[0]).exit_code == 1
    assert _json(served, "tasks", "cancel", tasks[0])["status"] == "cancelled"


def test_wait_with_a_limit_gives_up_and_says_that_the_task_goes_on(served: Served, case: Path) -> None:
    served.cli("run", "swmm", str(case), *INPUT)
    result = served.cli("tasks", "wait", served.newest(), "--timeout", "0.2")
    assert result.exit_code == 2
    assert "still queued" in result.stderr


@pytest.mark.parametrize(
    "command", ["info", "wait", "logs", "files", "download", "cancel", "hold", "release", "explain"]
)
def test_an_id_that_does_not_exist_is_refused(served: Served, command: str) -> None:
    for task in ("t0123456789ab", "nonsense"):
        result = served.cli("tasks", command, task)
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr.startswith("error: ")


def test_machines_and_their_cost_fit_a_terminal(served: Served) -> None:
    there = rental(
        "i-0123456789abcdef0", group="weather-and-waves", machine_type="c7i.metal-24xl", launched_at=later(-9e6)
    )
    gone = replace(
        there, id="i-0123456789abcdef1", ended_at=NOW, why_ended="it has not joined Ray within 9 min of its launch"
    )
    served.face.store.keep_rentals([there, gone, replace(there, id="i-2", group="dear", price_per_hour=None)])
    for arguments in (("machines", "list"), ("machines", "list", "--ended")):
        said = served.cli(*arguments).stdout
        assert "i-0123456789abcdef" in said
        assert max(len(line) for line in said.splitlines()) <= 80, said
    why = " ".join(line[46:].strip() for line in served.cli("machines", "list", "--ended").stdout.splitlines())
    assert "ago: it has not joined Ray within 9 min of its launch" in why
    assert "i-2" not in served.cli("machines", "list", "--group", "weather-and-waves").stdout
    assert "--limit" in served.cli("machines", "list", "--limit", "1").stderr
    assert [one["id"] for one in _json(served, "machines", "list", "--ended")["machines"]] == [gone.id]
    cost: Any = _json(served, "groups", "cost", "weather-and-waves")
    assert cost["machines"] == 2
    assert cost["cost"] == pytest.approx(cost["hours"] * 0.5)
    said = served.cli("groups", "cost", "weather-and-waves", "--since", "20000d").stdout
    assert re.search(r"^cost +[0-9.]+ USD$", said, re.MULTILINE), said
    assert "no price is known" in served.cli("groups", "cost", "dear").stdout
    for text in ("soon", "9" * 400):
        refused = served.cli("groups", "cost", "dear", "--since", text)
        assert (refused.exit_code, "since" in refused.stderr) == (2, True)


def test_without_a_cloud_no_cost_is_shown(served: Served) -> None:
    for arguments in (("machines", "list"), ("machines", "list", "--ended"), ("groups", "cost", "local")):
        said = served.cli(*arguments).stderr
        assert said.startswith("No prices are known: ")
        assert max(len(line) for line in said.splitlines()) <= 110
    assert _json(served, "groups", "cost", "local")["cost"] is None
    assert served.cli("groups", "cost", "nowhere").exit_code == 2


def test_catalogue_and_groups(served: Served) -> None:
    assert "swmm" in served.cli("simulators", "list").stdout
    assert "input_file" in served.cli("simulators", "info", "swmm").stdout
    assert _json(served, "simulators", "info", "swmm")["name"] == "swmm"
    assert "swmm" in json.dumps(_json(served, "simulators", "list"))
    assert served.cli("simulators", "info", "swmn").exit_code == 2
    assert "m1" in served.cli("groups", "list").stdout
    assert "m1" in json.dumps(_json(served, "groups", "list"))
    for arguments in (("simulators", "list"), ("groups", "list"), ("simulators", "info", "swmm")):
        table = [line for line in served.cli(*arguments).stdout.splitlines() if "  " in line]
        assert max(len(line) for line in table) <= 80


def test_ctrl_c_while_waiting_leaves_the_task_running_and_says_how_to_come_back(served: Served, case: Path) -> None:
    command = [sys.executable, "-m", "simyard", "run", "swmm", str(case), *INPUT, "--wait"]
    mover = served.meanwhile(served.face.run)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        task = process.stdout.readline().strip()
        mover.join()
        assert process.stderr is not None
        while "running" not in process.stderr.readline():
            pass
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
        assert process.wait(20) == 130
    assert f"simyard tasks wait {task}" in said
    assert f"simyard tasks cancel {task}" in said
    assert "Traceback" not in said
    assert served.face.store.get(task).status is Status.RUNNING


def test_a_live_log_is_followed_to_the_end_on_a_terminal(served: Served, case: Path) -> None:
    served.cli("run", "swmm", str(case), *INPUT)
    task = served.newest()
    served.face.run(task)
    served.face.live.logs[task, 1, LogStream.STDOUT] = b"step 1\rstep 2"
    leader, follower = os.openpty()
    command = [sys.executable, "-m", "simyard", "tasks", "wait", task]
    environment = os.environ | {"TERM": "xterm", "NO_COLOR": "1", "COLUMNS": "80"}
    with subprocess.Popen(command, stdin=follower, stdout=follower, stderr=follower, env=environment) as process:
        os.close(follower)
        seen = bytearray()
        wait_for(lambda: seen.extend(os.read(leader, 4096)) or b"step 2" in seen)
        served.face.store_files(task, served.folder / "made", {}, {"stdout.log": b"step 1\rstep 2"})
        served.face.end(task)
        try:
            while chunk := os.read(leader, 4096):
                seen += chunk
        except OSError:  # the other end is closed
            pass
        assert process.wait(20) == 0
    os.close(leader)
    assert b"running" in seen
    assert f"{task} succeeded".encode() in seen
    assert b"\x1b[1m" not in seen or b"\x1b[36m" not in seen
