"""`simyard admin`: keeping the store of this machine's server safe and small."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from filelock import FileLock, Timeout

from cluster.head import server_processes
from serve import dashboard_commands, join_commands, machine_type_commands, retention_commands, sharing_commands
from serve.administration import answer, bar
from serve.secret import load_server_id
from simyard.cli.options import Json
from simyard.cli.text import size
from simyard.errors import Conflict, InvalidInput, NotFound
from simyard.status import Status
from storage.objects import ObjectStore, open_store
from storage.parallel import each
from storage.paths import Paths
from storage.settings import Settings, load_settings
from tasks.record import TaskQuery, TaskRecord
from tasks.recovery import reclaim
from tasks.sqlite import upkeep
from tasks.store import Store
from tasks.store import open_store as open_task_store

commands = typer.Typer(
    help="Keep the store of this machine's server safe and small, and share it fairly.", no_args_is_help=True
)
sharing_commands.register(commands)
commands.add_typer(retention_commands.commands, name="retention")
commands.add_typer(machine_type_commands.commands, name="machine-types")
commands.add_typer(join_commands.commands, name="join-token")
commands.command("ray-dashboard")(dashboard_commands.ray_dashboard_command)

_PAGE = 500


@commands.command("backup")
def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A new file.", show_default=False)], json_: Json = False
) -> None:
    """Copy the store into a new file, also while the server runs; outputs stay where they are, in the storage."""
    database = _file(load_settings())
    with bar("copying", shown=not json_) as step:
        count = upkeep.backup(database, file, step)
    answer(json_, {"file": str(file), "bytes": count}, f"The store is in {file} ({size(count)}).")


@commands.command("restore")
def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `backup` has written.", show_default=False)],
    json_: Json = False,
) -> None:
    """Put a backup in the place of the store; results that were stored since then are found again, not computed.

    The server must be stopped. What was there is kept beside it.
    """
    settings = load_settings()
    database = _file(settings, new=True)
    if not file.is_file():
        raise InvalidInput(f"{file} is no file.", field="FILE", fix="Give a file that `simyard admin backup` wrote.")
    if trouble := list(upkeep.check(file)):
        raise InvalidInput(f"{file} cannot be restored: {trouble[0]}", field="FILE", fix="Take another backup.")
    with _stopped(settings):
        aside = database.with_name(f"simyard-before-{datetime.now(UTC):%Y%m%dT%H%M%S%f}.db")
        with bar("copying", shown=not json_) as step:
            upkeep.replace(database, file, aside, step)
        ended = _reclaim(settings, shown=not json_)
    kept = str(aside) if aside.exists() else None
    said = f"The store is the one of {file}. {ended} tasks had ended since then; their results were found."
    answer(
        json_,
        {"file": str(file), "kept": kept, "found": ended},
        said + (f"\nThe store that was there is {kept}." if kept else ""),
    )


@commands.command("check")
def check(json_: Json = False) -> None:
    """Look whether the store is sound, and whether the storage has the result that each task names."""
    settings = load_settings()
    troubles = [*upkeep.check(_file(settings)), *_missing_results(settings, shown=not json_)]
    for trouble in troubles if not json_ else ():
        typer.echo(trouble)
    answer(json_, {"troubles": troubles}, "" if troubles else "The store is sound, and every result is in the storage.")
    if troubles:
        raise typer.Exit(1)


@commands.command("vacuum")
def vacuum(json_: Json = False) -> None:
    """Give room that the store does not need back to the disk. The server must be stopped."""
    settings = load_settings()
    database = _file(settings)
    with _stopped(settings):
        before, after = upkeep.vacuum(database)
    answer(json_, {"before": before, "after": after}, f"The store had {size(before)} and has {size(after)}.")


def _file(settings: Settings, *, new: bool = False) -> Path:
    """Return the file of the store; with `new` it need not exist.

    Raises:
        InvalidInput: there is none, or the store is in PostgreSQL.
    """
    if settings.store is not None:
        fix = "Use pg_dump, pg_restore and vacuumdb; `simyard admin retention` works with it, too."
        raise InvalidInput("The store is in PostgreSQL, which has tools of its own for this.", fix=fix)
    if not new and not settings.database.exists():
        raise InvalidInput(f"There is no database {settings.database}.", fix="Start the server once.")
    return settings.database


def _reclaim(settings: Settings, *, shown: bool) -> int:
    """Return how many tasks the storage knows the end of and the restored store did not."""
    store, objects = open_task_store(settings.task_store), open_store(settings.storage_uri)
    try:
        ended = 0
        with bar("looking for results", shown=shown) as step:
            while True:
                todo = [r.id for status in Status if not status.is_end for r in _all(store, status)]
                for i, task in enumerate(todo, 1):
                    ended += reclaim(store, objects, task, datetime.now(UTC)).status.is_end
                    step(i, len(todo))
                # Who waited for those that have ended may have results as well.
                if not store.settle(datetime.now(UTC), _PAGE):
                    return ended
    finally:
        store.close()


def _missing_results(settings: Settings, *, shown: bool) -> Iterator[str]:
    store, objects = open_task_store(settings.task_store), open_store(settings.storage_uri)
    try:
        total = sum(store.counts().values())
        seen = 0
        with bar("asking the storage", shown=shown) as step:
            for page in _pages(store, None):
                named = [(r.outputs_of, r.task.result) for r in page if r.task.result and not r.task.outputs_removed_at]
                there = each(lambda found: _has_result(objects, *found), named)
                for (task, number), present in zip(named, there, strict=True):
                    if not present and _still_there(store, task):
                        yield f"The storage has no result of attempt {number} of task {task}."
                seen += len(page)
                step(seen, total)
    finally:
        store.close()


def _has_result(objects: ObjectStore, task: str, number: int) -> bool:
    return objects.head(Paths.manifest(task, number)) is not None


def _still_there(store: Store, task: str) -> bool:
    """Say whether a task is still known: retention may have removed it meanwhile, result first."""
    try:
        store.get(task)
    except NotFound:
        return False
    return True


def _all(store: Store, status: Status) -> Iterator[TaskRecord]:
    for page in _pages(store, status):
        yield from page


def _pages(store: Store, status: Status | None) -> Iterator[list[TaskRecord]]:
    before: int | None = None
    while page := store.list(TaskQuery(status=status, before=before, limit=_PAGE)):
        yield page
        before = page[-1].seq


@contextmanager
def _stopped(settings: Settings) -> Iterator[None]:
    """Keep the server from starting meanwhile.

    Raises:
        Conflict: it runs.
    """
    settings.server_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = FileLock(settings.server_dir / "lock")
    running = Conflict("The server of this data folder is running.", fix="Stop it with `simyard down`.")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise running from None
    try:
        # A server whose keeper was killed has nobody who holds the lock.
        if server_processes(load_server_id(settings)):
            raise running
        yield
    finally:
        lock.release()
