from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from simyard.cli.app import build
from simyard.client import Client
from simyard.profile import Profile, save_profile
from tasks.record import TaskQuery
from tests.integration.serve.server import serving, wait_for
from tests.unit.client.conftest import WEIRD
from tests.unit.serve.face import Face


@dataclass
class Served:
    """The real application under a real HTTP server, whose tasks move when the test says so."""

    face: Face
    url: str
    folder: Path

    @property
    def client(self) -> Client:
        return Client(self.url, self.face.key)

    def cli(self, *arguments: str, text: str | None = None) -> Result:
        return CliRunner().invoke(build(arguments), list(arguments), input=text)

    def newest(self) -> str:
        """Return the id of the task that was submitted last."""
        return str(self.face.store.list(TaskQuery(limit=1))[0].id)

    def meanwhile(self, act: Callable[[str], object]) -> threading.Thread:
        """Do something with the next task that comes, in another thread."""
        known = len(self.face.store.list(TaskQuery(limit=1000)))

        def run() -> None:
            wait_for(lambda: len(self.face.store.list(TaskQuery(limit=1000))) > known)
            act(self.newest())

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    def finish(self, task: str) -> None:
        """Carry a task to success with files of awkward names."""
        self.face.finish(task, self.folder / "made", WEIRD, {"stdout.log": b"10 %\r20 %\n", "stderr.log": b"\xff"})


@pytest.fixture(autouse=True)
def no_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("SIMYARD_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SIMYARD_CONFIG", str(tmp_path / "config" / "profile.json"))


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    face = Face()
    try:
        with serving(face.app) as url:
            save_profile(Profile.model_validate({"url": url, "key": face.key}))
            yield Served(face, url, tmp_path)
    finally:
        face.close()


@pytest.fixture
def case(tmp_path: Path) -> Path:
    """The input folder of a town."""
    folder = tmp_path / "case"
    (folder / "rain").mkdir(parents=True)
    (folder / "town.inp").write_bytes(b"[TITLE]\na town\n")
    for name, data in WEIRD.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder
