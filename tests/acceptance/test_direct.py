"""The Simulator actor without the queue: a folder or a storage URI in, a folder or a storage URI out."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from simulators import catalogue
from simulators.expectation import load_example
from storage.inputs import put_input
from storage.manifest import read_manifest
from storage.objects import open_store
from storage.reader import read_entry, restore
from tests.running_server import until

ROOT = Path(__file__).parents[2]
SWMM = load_example(catalogue.find("swmm")).folder
CALCULIX = load_example(catalogue.find("calculix")).folder

# Runs in a process of its own, as a user's program does: asks the actors what stdin says, and prints the answers.
PROGRAM = """
import json, sys, traceback
import ray
from simulators import Simulator
from simulators.expectation import deviations, load_example
from simulators import catalogue
from simyard import Command, Limits, Resources, SimyardError

ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False)

def asked(one):
    limits = Limits(**one.pop("limits")) if "limits" in one else None
    commands = [Command(argv=argv) for argv in one.pop("commands", ())]
    make = one.pop("make", {})
    if "resources" in make:
        make["resources"] = Resources(**make["resources"])
    name = one.pop("simulator")
    actor = Simulator.options(num_cpus=one.pop("cpus", 2)).remote(name, **make)
    try:
        result = ray.get(actor.run.remote(**one, commands=commands, limits=limits), timeout=500)
        tables = {name: table.num_rows for name, table in result.tables.items()}
        wrong = deviations(load_example(catalogue.find(name)), result.tables) if result.tables else []
        return {"succeeded": result.succeeded, "outcome": result.outcome.model_dump(mode="json"), "task": result.task,
                "output": result.output, "tables": tables, "wrong": wrong}
    except ray.exceptions.RayTaskError as error:
        cause = error.cause
        return {"error": type(cause).__name__, "is_ours": isinstance(cause, SimyardError),
                "field": getattr(cause, "field", None), "fix": getattr(cause, "fix", None), "text": str(cause)}
    except ray.exceptions.ActorDiedError as error:
        return {"error": "died", "text": str(error)}
    finally:
        ray.kill(actor)

answers = [asked(one) for one in json.load(sys.stdin)]
ray.shutdown()
print("ANSWERS", json.dumps(answers))
"""


class Program:
    """A user's program with a data folder of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.data_dir = home / "data"
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith(("SIMYARD_", "RAY_"))} | {
            "SIMYARD_DATA_DIR": str(self.data_dir),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "client")]),
        }

    def ask(self, *questions: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the answers of actors; every process of the program has ended then."""
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            env=self.environment,
            cwd=self.home,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            out, err = process.communicate(json.dumps(questions), timeout=550)
            assert process.returncode == 0, err[-3000:]
        finally:
            if process.poll() is None:
                process.kill()
        until(lambda: self.processes() == [], what=f"the end of {self.processes()}")
        [line] = [line for line in out.splitlines() if line.startswith("ANSWERS ")]
        answers: list[dict[str, Any]] = json.loads(line.removeprefix("ANSWERS "))
        return answers

    def processes(self) -> list[str]:
        """Return what still runs of it, Ray included."""
        return [
            " ".join(process.info["cmdline"])[:200]
            for process in psutil.process_iter(["environ", "cmdline"])
            if (process.info["environ"] or {}).get("SIMYARD_DATA_DIR") == str(self.data_dir)
        ]

    def scratch(self) -> list[str]:
        folder = self.data_dir / "scratch"
        return [path.name for path in folder.iterdir()] if folder.exists() else []


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    yield Program(tmp_path_factory.mktemp("direct"))


def copied(source: Path, target: Path) -> Path:
    return Path(shutil.copytree(source, target, ignore=shutil.ignore_patterns("expected.*")))


def swmm(source: Path | str, target: Path | str, **more: Any) -> dict[str, Any]:
    asked = {"simulator": "swmm", "input": str(source), "output": str(target)}
    return asked | {"parameters": {"input_file": "model.inp"}} | more


def shell(source: Path, target: Path | str, script: str, **more: Any) -> dict[str, Any]:
    return swmm(source, target, parameters={}, commands=[["sh", "-c", script]], **more)


def files_of(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.timeout(600)
def test_runs_end_as_they_should_and_leave_only_their_outputs(program: Program, tmp_path: Path) -> None:
    case = copied(SWMM, tmp_path / "it's a case é")
    before = {path: (case / path).read_bytes() for path in files_of(case)}
    store = open_store((tmp_path / "in store").as_uri())
    store.put("case/model.inp", (SWMM / "model.inp").read_bytes())
    put_input(store, b"something else")
    awkward = (
        "echo out; echo err >&2; mkdir 'a b'; echo 1 > 'a b/new\nline'; ln -s /etc/passwd leak; "
        "ln -s 'a b' near; mkfifo pipe; echo + >> model.inp"
    )
    good, uri, from_uri, failed, limited, hungry, kept = program.ask(
        swmm(case, tmp_path / "out"),
        swmm(case, (tmp_path / "store").as_uri()),
        swmm((tmp_path / "in store" / "case").as_uri(), tmp_path / "from uri"),
        shell(case, tmp_path / "failed", "echo half > half; exit 7"),
        shell(case, tmp_path / "limited", "setsid sleep 300 & echo up; sleep 300", limits={"run": 1.0}),
        swmm(
            case,
            tmp_path / "hungry",
            parameters={},
            commands=[["python3", "-c", "x = []\nwhile True: x.append(b'x' * 5_000_000)"]],
            make={"resources": {"memory": "64MiB"}},
        ),
        shell(case, tmp_path / "kept", awkward),
    )
    for one, folder in ((good, tmp_path / "out"), (from_uri, tmp_path / "from uri")):
        assert (one["succeeded"], one["wrong"], one["output"]) == (True, [], str(folder))
        assert set(one["tables"]) >= {"summary", "outfalls"}
        assert files_of(folder) == {"model.rpt", "model.out", ".simyard/stdout.log", ".simyard/stderr.log"}

    # A storage gets packs and a manifest, from which all can be had again.
    assert (uri["succeeded"], uri["wrong"], uri["output"]) == (True, [], (tmp_path / "store").as_uri())
    stored = open_store(uri["output"])
    entries = {entry.path: entry for entry in read_manifest(stored, uri["task"], 1)}
    assert set(entries) >= {"model.rpt", "model.out", ".simyard/stdout.log"}
    report = b"".join(read_entry(stored, uri["task"], 1, entries["model.rpt"]))
    assert b"Continuity Error" in report
    restore(stored, uri["task"], 1, list(entries.values()), tmp_path / "restored")
    assert (tmp_path / "restored" / "model.rpt").read_bytes() == report

    assert (failed["succeeded"], failed["outcome"]["reason"]["code"]) == (False, "exit-code")
    assert failed["outcome"]["exit_code"] == 7
    assert (tmp_path / "failed" / "half").read_text() == "half\n"
    assert (limited["outcome"]["status"], limited["outcome"]["reason"]["code"]) == ("timed-out", "time-limit")
    assert (tmp_path / "limited" / ".simyard" / "stdout.log").read_text() == "up\n"
    assert hungry["outcome"]["reason"]["code"] == "out-of-memory"

    assert kept["succeeded"]
    assert (tmp_path / "kept" / "a b" / "new\nline").read_text() == "1\n"
    assert (tmp_path / "kept" / ".simyard" / "stderr.log").read_text() == "err\n"
    assert (tmp_path / "kept" / "near").readlink() == Path("a b")
    assert not (tmp_path / "kept" / "leak").is_symlink()
    assert {"leak", "pipe"} == {
        line.split(":")[0] for line in (tmp_path / "kept" / ".simyard" / "not-stored.txt").read_text().splitlines()
    }
    assert (tmp_path / "kept" / "model.inp").read_text().endswith("+\n")

    # The user's own folder is as it was, and nothing is left on the machine.
    assert {path: (case / path).read_bytes() for path in files_of(case)} == before
    assert program.scratch() == []


@pytest.mark.timeout(600)
def test_a_bad_argument_is_refused_before_anything_runs(program: Program, tmp_path: Path) -> None:
    case, out = copied(SWMM, tmp_path / "case"), tmp_path / "out"
    (tmp_path / "empty").mkdir()
    (copied(SWMM, tmp_path / "pipe") / "fifo").unlink(missing_ok=True)
    os.mkfifo(tmp_path / "pipe" / "fifo")
    copied(SWMM, tmp_path / "link")
    (tmp_path / "link" / "way out").symlink_to("/etc/passwd")
    copied(SWMM, tmp_path / "circle")
    (tmp_path / "circle" / "circle").symlink_to(".")
    (tmp_path / "a file").write_text("")
    cases: Sequence[tuple[dict[str, Any], str]] = (
        (swmm(case, out, parameters={"imput_file": "model.inp"}), "parameters.imput_file"),
        (swmm(case, out, parameters={}), "parameters.input_file"),
        (swmm(case, out, parameters={"input_file": "modle.inp"}), "parameters.input_file"),
        (swmm(case, out, parameters={"input_file": 5}), "parameters.input_file"),
        (swmm(tmp_path / "absent", out), "input"),
        (swmm(tmp_path / "empty", out), "input"),
        (swmm(tmp_path / "pipe", out), "input"),
        (swmm(tmp_path / "link", out), "input"),
        (swmm(tmp_path / "circle", out), "input"),
        (swmm("nothing://here", out), "input"),
        (swmm(case, "nothing://here"), "output"),
        (swmm(case, tmp_path / "a file"), "output"),
    )
    answers = program.ask(*(question for question, _ in cases))
    for (question, field), answer in zip(cases, answers, strict=True):
        assert (answer.get("error"), answer.get("field")) == ("InvalidInput", field), (question, answer)
        assert answer["is_ours"]
        assert answer["fix"]
    assert not out.exists()
    assert program.scratch() == []


@pytest.mark.podman
@pytest.mark.images
@pytest.mark.timeout(1500)
def test_calculix_runs_in_its_container(program: Program, tmp_path: Path) -> None:
    case = copied(CALCULIX, tmp_path / "beam")
    [found, unknown] = program.ask(
        {
            "simulator": "calculix",
            "input": str(case),
            "output": str(tmp_path / "out"),
            "parameters": {"job": "cantilever"},
            "make": {"runtime": "podman"},
        },
        {"simulator": "calculiks", "input": str(case), "output": str(tmp_path / "out 2"), "parameters": {}},
    )
    assert (found.get("succeeded"), found.get("wrong")) == (True, []), found
    assert found["tables"] == {"displacements": 8, "stresses": 27, "forces": 1}
    assert "cantilever.dat" in files_of(tmp_path / "out")
    assert unknown["error"] == "died"
    assert "calculix" in unknown["text"]
    assert program.scratch() == []
