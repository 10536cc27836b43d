"""What containers over several machines are told of each other, and the agent that programs launch others by."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from simulators.span import Call, Calls, Span, network_of
from simyard.resources import Resources

ADDRESSES = {"machine-0": "10.0.0.1", "machine-1": "10.0.0.2"}


@pytest.fixture
def span(tmp_path: Path) -> Span:
    made = Span(folder=tmp_path / "a span", addresses=ADDRESSES)
    made.lay_out(Resources(cpus=2.5, machines=2))
    return made


def test_each_machine_takes_as_many_ranks_as_it_has_whole_cores(span: Span) -> None:
    assert (span.folder / "hostfile").read_text() == "machine-0 slots=2\nmachine-1 slots=2\n"
    assert (span.folder / "hostfile.mpich").read_text() == "machine-0:2\nmachine-1:2\n"
    assert span.variables["SIMYARD_MACHINES"] == "2"


@pytest.mark.parametrize(
    ("addresses", "network"),
    [
        (("10.0.0.4", "10.0.0.5"), "10.0.0.4/31"),
        (("10.0.0.4", "10.0.1.4", "10.0.0.9"), "10.0.0.0/23"),
        (("10.0.0.4", "10.0.0.4"), "10.0.0.4/32"),
        (("10.0.0.4", "192.168.0.1"), "0.0.0.0/0"),
        (("10.0.0.4", "fe80::1"), None),
    ],
)
def test_programs_use_the_network_that_has_all_machines(addresses: tuple[str, ...], network: str | None) -> None:
    assert network_of(addresses) == network


@contextmanager
def answering(span: Span, answer: Callable[[Calls, Call], None]) -> Iterator[list[Call]]:
    """Take the agent's calls until the block ends."""
    calls, over, seen = Calls(span.folder), threading.Event(), list[Call]()

    def look() -> None:
        while not over.wait(0.02):
            for call in calls.take():
                seen.append(call)
                answer(calls, call)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def launch(span: Span, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    agent = str(span.folder / "launch")
    environment = {"PATH": os.environ["PATH"], "SIMYARD_BOX": "mine", **variables}
    return subprocess.run([agent, *words], env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_a_command_is_run_there_with_all_variables_and_its_output_and_status_come_back(span: Span) -> None:
    def run_here(calls: Calls, call: Call) -> None:
        done = subprocess.run(["sh", "-c", call.script], env={"PATH": "/bin"}, capture_output=True, check=False)
        calls.answer(call, 0, done.stdout, b"", None)
        calls.answer(call, 1, b"", done.stderr, done.returncode)

    word = 'it\'s a "$word"\n of two lines'
    with answering(span, run_here) as seen:
        told = launch(span, "-x", "-q", "machine-1", 'echo "$WORD$SIMYARD_BOX";', "echo no >&2; exit", "7", WORD=word)
    assert (told.returncode, told.stdout, told.stderr) == (7, word + "\n", "no\n")
    assert [call.machine for call in seen] == ["machine-1"]
    left = {path.name for path in span.folder.iterdir()}
    assert left == {"launch", "hostfile", "hostfile.mpich"}, "it leaves no files"


def test_without_a_command_it_says_how_it_is_called(span: Span) -> None:
    told = launch(span, "machine-1")
    assert (told.returncode, told.stderr) == (255, "usage: launch MACHINE COMMAND...\n")


def test_what_a_container_puts_in_the_place_of_a_call_leads_nowhere(span: Span, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("machine-1\nsecret")
    (span.folder / "call.a.asked").symlink_to(secret)
    os.mkfifo(span.folder / "call.b.asked")
    (span.folder / "call.c.asked").mkdir()
    (span.folder / "call.d.asked").write_bytes(b"x" * (5 * 1024**2))
    calls = Calls(span.folder)
    assert [(call.machine, call.script) for call in calls.take()] == [("", "")] * 4
    for number, victim in enumerate(("out", "err", "status")):
        (span.folder / f"call.e.{number}.{victim}").symlink_to(secret)
        calls.answer(Call(name="call.e", machine="", script=""), number, b"o", b"e", 0)
    assert secret.read_text() == "machine-1\nsecret"
