from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from simyard import errors
from simyard.cli import app as app_module
from simyard.cli import main
from simyard.cli.app import build


class _Plugin:
    name, value = "extra", "somewhere:register"

    def __init__(self, register: object) -> None:
        self.loaded = 0
        self._register = register

    def load(self) -> object:
        self.loaded += 1
        if isinstance(self._register, Exception):
            raise self._register
        return self._register


def _with_command(command: object) -> _Plugin:
    return _Plugin(lambda app: app.command("extra")(command))


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> object:
    def install(plugin: _Plugin) -> _Plugin:
        monkeypatch.setattr(app_module, "entry_points", lambda group: [plugin] * (group == "simyard.commands"))
        return plugin

    return install


def test_the_version_is_said_with_next_to_nothing_imported(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--version"])
    assert capsys.readouterr().out == f"simyard {importlib.metadata.version('simyard')}\n"
    code = (
        "import sys; from simyard.cli import main; main(['--version']);"
        "print(sorted({'httpx', 'rich', 'pydantic', 'typer'} & set(sys.modules)))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout
    assert said.splitlines()[1] == "[]"


def test_help_needs_neither_the_http_client_nor_the_types() -> None:
    code = (
        "import sys; from simyard.cli.app import build; build(['tasks']);"
        "print(sorted({'httpx', 'pydantic'} & set(sys.modules)))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout
    assert said.strip() == "[]"


def test_a_command_loads_the_http_client_without_its_own_command_line() -> None:
    code = """
import sys
from simyard.cli import main
try:
    main(["tasks", "list"])
except SystemExit:
    print(sorted({"httpx", "rich", "click", "pygments"} & set(sys.modules)))
"""
    nobody = os.environ | {"SIMYARD_URL": "http://127.0.0.1:1", "SIMYARD_KEY": "key"}
    said = subprocess.run([sys.executable, "-c", code], env=nobody, capture_output=True, check=True, text=True).stdout
    assert said.splitlines()[-1] == "['httpx']"


def test_commands_of_others_are_there_and_loaded_only_when_they_may_be_meant(install: object) -> None:
    plugin = install(_with_command(lambda: typer.echo("hello")))  # type: ignore[operator]
    build(["tasks", "list"])
    assert plugin.loaded == 0
    assert CliRunner().invoke(build(["extra"]), ["extra"]).stdout == "hello\n"


def test_a_broken_plugin_takes_nothing_else_with_it(install: object, capsys: pytest.CaptureFixture[str]) -> None:
    install(_Plugin(ImportError("no ray")))  # type: ignore[operator]
    result = CliRunner().invoke(build(), ["--help"])
    assert result.exit_code == 0
    assert "tasks" in result.stdout
    assert "no ray" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.InvalidInput("It is wrong.", field="a.b", fix="Do this."), 2),
        (errors.NotFound(), 2),
        (errors.Unauthorized(), 2),
        (errors.Conflict(), 2),
        (errors.TooLarge(), 2),
        (errors.NotInstalled(), 2),
        (errors.StillGoing(), 2),
        (errors.Unavailable(), 3),
        (errors.Damaged(), 3),
        (errors.SimyardError("A defect."), 3),
        (KeyboardInterrupt(), 130),
    ],
)
def test_errors_are_one_line_and_an_exit_status(install: object, error: BaseException, status: int) -> None:
    def fail() -> None:
        raise error

    install(_with_command(fail))  # type: ignore[operator]
    result = CliRunner().invoke(build(["extra"]), ["extra"])
    assert result.exit_code == status
    assert not result.stdout
    assert len(result.stderr.splitlines()) == 1
    if isinstance(error, errors.InvalidInput):
        assert result.stderr == "error: a.b: It is wrong. Do this.\n"


@pytest.mark.parametrize("arguments", [["nonsense"], ["run"], ["run", "swmm"], ["tasks", "list", "--limit", "0"]])
def test_bad_usage_ends_with_2_and_no_traceback(install: object, arguments: list[str]) -> None:
    install(_with_command(lambda: None))  # type: ignore[operator]
    result = CliRunner().invoke(build(arguments), arguments)
    assert result.exit_code == 2
    assert "Traceback" not in result.stderr
    assert not result.stdout


def test_help_fits_80_columns() -> None:
    for arguments in ([], ["run"], ["tasks"], ["tasks", "list"], ["tasks", "download"], ["login"]):
        said = CliRunner().invoke(build(["run"]), [*arguments, "--help"], terminal_width=80).stdout
        assert max(len(line) for line in said.splitlines()) <= 80
        assert not re.search(r"\x1b", said)
