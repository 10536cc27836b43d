"""The Python environments of native simulators, made by a real pip from wheels of the test's own."""

from __future__ import annotations

import os
import subprocess
import threading
import time
import zipfile
from pathlib import Path

import pytest

from simulators.errors import ImageError, Stopped
from simulators.runtimes.environment import prepare_environment
from simulators.runtimes.runtime import Prepared
from simulators.spec import VersionSpec


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "envi ronments é"


@pytest.fixture
def wheel(tmp_path: Path) -> str:
    """Give a requirement that is met by a wheel on disk, with a module and a program."""
    path = tmp_path / "tiny_solver-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tiny_solver.py", "def main():\n    print('solved')\n")
        info = "tiny_solver-1.0.dist-info"
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-solver\nVersion: 1.0\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/entry_points.txt", "[console_scripts]\ntiny-solver = tiny_solver:main\n")
        archive.writestr(f"{info}/RECORD", "")
    return f"tiny-solver @ {path.as_uri()}"


def prepare(root: Path, version: VersionSpec) -> Prepared:
    return prepare_environment(root, "tiny", version, lambda: False)


def output(*argv: str | Path) -> str:
    return subprocess.run(argv, capture_output=True, text=True, check=True, env={"PATH": "/usr/bin:/bin"}).stdout


def test_an_environment_is_made_once_by_all_who_ask_at_a_time(root: Path, wheel: str, tmp_path: Path) -> None:
    program = tmp_path / "own.py"
    program.write_text("import sys, tiny_solver; tiny_solver.main(); print(sys.argv[1:])")
    version = VersionSpec(version="1.0", requirements=(wheel,), programs={"tiny-run": program})
    got: list[Prepared] = []
    threads = [threading.Thread(target=lambda: got.append(prepare(root, version))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got[0] == got[1] == got[2]
    prepared = got[0]
    assert prepared.python is not None
    assert prepared.programs is not None
    assert output(prepared.programs / "tiny-solver") == "solved\n"
    assert output(prepared.programs / "tiny-run", "a b", "$x") == "solved\n['a b', '$x']\n"
    assert output(prepared.python, "-c", "import sys; print(sys.prefix != sys.base_prefix)") == "True\n"
    begun = time.monotonic()
    assert prepare(root, version) == prepared
    assert time.monotonic() - begun < 0.5


def test_a_half_made_environment_is_made_again(root: Path, tmp_path: Path) -> None:
    program = tmp_path / "own.py"
    program.write_text("print('run')")
    version = VersionSpec(version="1.0", requirements=(), programs={"tiny-run": program})
    prepared = prepare(root, version)
    assert prepared.programs is not None
    folder = prepared.programs.parent
    (folder / "ready.json").unlink()
    (prepared.programs / "tiny-run").unlink()
    assert prepare(root, version) == prepared
    assert output(prepared.programs / "tiny-run") == "run\n"


def test_all_of_an_environment_is_on_disk_before_its_marker_is_written(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "own.py"
    program.write_text("print('run')")
    flushed: list[set[str]] = []

    def sync() -> None:
        flushed.append({path.name for path in root.rglob("*")})
        flush()

    flush = os.sync
    monkeypatch.setattr(os, "sync", sync)
    version = VersionSpec(version="1.0", requirements=(), programs={"tiny-run": program})
    for _ in range(2):
        prepare(root, version)
    [names] = flushed
    assert {"tiny-run", "python"} <= names
    assert not any(name.startswith("ready.json") for name in names)


def test_an_environment_whose_python_is_gone_is_made_again(root: Path, tmp_path: Path) -> None:
    program = tmp_path / "own.py"
    program.write_text("print('run')")
    version = VersionSpec(version="1.0", requirements=(), programs={"tiny-run": program})
    prepared = prepare(root, version)
    assert prepared.python is not None
    for link in prepared.python.parent.glob("python*"):
        link.unlink()
        link.symlink_to("/gone/python")
    assert output(prepare(root, version).python or "", "-c", "print(1)") == "1\n"


def test_what_pip_says_of_a_failure_is_told_and_nothing_is_left(root: Path, tmp_path: Path) -> None:
    version = VersionSpec(version="1.0", requirements=(f"tiny-solver @ {(tmp_path / 'absent.whl').as_uri()}",))
    with pytest.raises(ImageError, match=r"absent\.whl"):
        prepare(root, version)
    assert [path.name for path in root.iterdir() if path.is_dir()] == []


def test_no_credential_of_ours_reaches_an_installer(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-4711")
    monkeypatch.setenv("SIMYARD_STORAGE", "s3://secret-4711")
    source = tmp_path / "source"
    source.mkdir()
    (source / "setup.py").write_text("import os\nraise SystemExit('seen: ' + ' '.join(sorted(os.environ.values())))")
    with pytest.raises(ImageError) as caught:
        prepare(root, VersionSpec(version="1.0", requirements=(f"x @ {source.as_uri()}",)))
    assert "4711" not in str(caught.value)


def test_stopping_ends_an_installation_at_once(root: Path, wheel: str) -> None:
    begun = time.monotonic()
    with pytest.raises(Stopped):
        prepare_environment(
            root,
            "tiny",
            VersionSpec(version="1.0", requirements=(wheel,)),
            lambda: time.monotonic() > begun + 0.5,
        )
    assert time.monotonic() - begun < 10
    assert [path.name for path in root.iterdir() if path.is_dir()] == []


def test_a_version_without_requirements_needs_no_environment(root: Path) -> None:
    prepared = prepare(root, VersionSpec(version="1.0", requirements=()))
    assert prepared.programs is None
    assert not root.exists()
    assert output(prepared.python or "", "-c", "import sys; print(sys.prefix == sys.base_prefix)") == "True\n"


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ImageError, match="file"):
        prepare(tmp_path / "file" / "x", VersionSpec(version="1.0", requirements=("six",)))
