"""Snapshots beside a run: a folder, a store in memory, and a thread that nobody waits for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from simulators import checkpoints as module
from simulators.checkpoints import Changed, Checkpoints, copy_stable
from simulators.errors import Stopped
from simulators.work import News, NoSnapshot, Superseded, Work
from simyard.checkpoint import Checkpoint
from simyard.resources import Limits, Resources
from simyard.simulator import RuntimeName
from storage.errors import StorageUnavailable
from storage.folder import Folder
from storage.memory import MemoryStore
from storage.snapshots import bring_snapshot, complete_snapshots, put_snapshot

TASK = "t000000000001"


class Run:
    """A run's folder and what is told of its snapshots."""

    def __init__(self, root: Path, every: float = 1e6) -> None:
        self.folder = root / "work"
        self.folder.mkdir()
        self.store = MemoryStore()
        self.news: list[News] = []
        self.told = threading.Event()
        self.is_superseded = self.is_cut_off = False
        self.waiting = threading.Event()
        rule = Checkpoint.model_construct(files=("restart/**", "*.state"), every=every, resume=())
        work = Work(
            task=TASK,
            attempt=2,
            simulator="none",
            version="1",
            runtime=RuntimeName.NATIVE,
            parameters={},
            commands=(),
            inputs=(),
            resources=Resources(),
            limits=Limits(),
            project="default",
            storage="memory://none",
            checkpoint=rule,
        )
        self.checkpoints = Checkpoints(
            work, rule, self.store, folder=self.folder, copy=root / "copies", confirm=self._confirm, tell=self._tell
        )

    def _confirm(self, given_up: Callable[[], bool]) -> None:
        while self.is_cut_off and not given_up():
            self.waiting.set()
            threading.Event().wait(0.01)
        if self.is_superseded:
            raise Superseded
        if given_up():
            raise Stopped

    def _tell(self, news: News) -> None:
        self.news.append(news)
        self.told.set()

    def write(self, path: str, text: str) -> None:
        file = self.folder / path
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    run = Run(tmp_path)
    run.checkpoints.start()
    yield run
    run.checkpoints.close()


def test_what_matches_is_kept_and_told(run: Run, tmp_path: Path) -> None:
    run.write("restart/a", "one")
    run.write("b.state", "two")
    run.write("result.csv", "not asked for")
    (run.folder / "restart" / "link").symlink_to("a")
    made = run.checkpoints.take(30)
    assert (made.attempt, made.number, made.files, made.size) == (2, 1, 2, 6)
    [news] = run.news
    assert (news.made, news.resumed_from) == (made, None)
    bring_snapshot(run.store, TASK, (2, 1), tmp_path / "back")
    assert sorted(p.name for p in (tmp_path / "back").rglob("*") if p.is_file()) == ["a", "b.state"]
    assert not (tmp_path / "copies").exists()


def test_files_that_did_not_change_make_no_second_snapshot(run: Run) -> None:
    run.write("a.state", "one")
    assert run.checkpoints.take(30) == run.checkpoints.take(30)
    run.write("a.state", "other")
    assert run.checkpoints.take(30).number == 2
    assert [news.made.number for news in run.news if news.made] == [1, 2]


def test_it_is_taken_on_the_interval_without_being_asked(tmp_path: Path) -> None:
    run = Run(tmp_path, every=0.01)
    run.write("a.state", "one")
    run.checkpoints.start()
    assert run.told.wait(30)
    run.checkpoints.close()
    assert complete_snapshots(run.store, TASK) == [(2, 1)]


def test_nothing_to_keep_is_said_only_to_who_asks(run: Run) -> None:
    with pytest.raises(NoSnapshot, match="restart"):
        run.checkpoints.take(30)
    assert run.news == []


def test_numbers_go_on_where_a_process_that_died_had_stopped(run: Run) -> None:
    run.write("a.state", "one")
    put_snapshot(run.store, TASK, 2, 7, run.folder)
    assert run.checkpoints.take(30).number == 8


def test_a_storage_that_is_away_is_told_once_and_ends_nothing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object, **__: object) -> None:
        raise StorageUnavailable("The network went away.")

    run.write("a.state", "one")
    with monkeypatch.context() as patch:
        patch.setattr(module, "put_snapshot", away)
        for _ in range(2):
            with pytest.raises(NoSnapshot, match="went away"):
                run.checkpoints.take(30)
    [news] = run.news
    assert "went away" in news.message
    assert run.checkpoints.take(30).files == 1
    assert complete_snapshots(run.store, TASK)


def test_an_attempt_that_was_replaced_keeps_nothing(run: Run) -> None:
    run.write("a.state", "one")
    run.is_superseded = True
    with pytest.raises(NoSnapshot):
        run.checkpoints.take(30)
    assert complete_snapshots(run.store, TASK) == []
    assert run.news == []


def test_the_last_one_is_kept_also_where_nobody_can_say_who_is_current(run: Run) -> None:
    run.write("a.state", "one")
    run.is_cut_off = True
    with pytest.raises(NoSnapshot, match="takes longer"):
        run.checkpoints.take(0.2)
    assert run.waiting.wait(30), "the thread stands in the question"
    assert run.checkpoints.take(30, last=True).files == 1
    assert len(complete_snapshots(run.store, TASK)) == 1


def test_files_that_never_stand_still_are_given_up_until_the_next_time(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def changed(*_: object) -> None:
        raise Changed

    monkeypatch.setattr(module, "_PAUSE", 0.001)
    monkeypatch.setattr(module, "copy_stable", changed)
    with pytest.raises(NoSnapshot, match="whenever they were copied"):
        run.checkpoints.take(30)


def test_before_the_commands_and_after_their_end_there_is_nothing_to_ask(tmp_path: Path) -> None:
    run = Run(tmp_path)
    with pytest.raises(NoSnapshot, match="do not run"):
        run.checkpoints.take(30)
    run.checkpoints.start()
    run.checkpoints.close()
    with pytest.raises(NoSnapshot, match="do not run"):
        run.checkpoints.take(30)


@pytest.mark.parametrize("change", ["written", "new", "gone"])
def test_a_copy_of_files_that_change_meanwhile_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    (tmp_path / "copies").mkdir()
    for name in ("a.state", "b.state"):
        (folder / name).write_text("old")
    real = Folder.write

    def write(self: Folder, path: str, *arguments: object, **more: object) -> None:
        real(self, path, *arguments, **more)  # type: ignore[arg-type]
        if path == "a.state":
            match change:
                case "written":
                    (folder / "a.state").write_text("new")
                case "new":
                    (folder / "c.state").write_text("new")
                case _:
                    (folder / "b.state").unlink()

    monkeypatch.setattr(Folder, "write", write)
    with pytest.raises(Changed):
        copy_stable(folder, ("*.state",), tmp_path / "copies")
    monkeypatch.setattr(Folder, "write", real)
    assert copy_stable(folder, ("*.state",), tmp_path / "copies").stamps
