"""What the pages tell a reader to type works, and prints what they say."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from simulators.errors import RuntimeUnavailable
from simulators.images import find_engine
from simulators.runtimes import runtime_of
from simyard.simulator import RuntimeName
from tests.running_server import RunningServer

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "client" / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINKED = [*PAGES, ROOT / "CHANGELOG.md", ROOT / "simulators" / "README.md"]
EXECUTED = {"bash", "python"}
SHELLS = {"", "console", "sh", "shell", "zsh", "shell-session"}
REASON = re.compile(r"<!-- not executed: \S.* -->")
PAGE_SECONDS = 280


@dataclass
class Block:
    """A fenced block: the word after the fence, its lines, where it starts, and the line above it."""

    language: str
    line: int
    above: str
    lines: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "\n".join(self.lines) + "\n"


def blocks(page: Path) -> list[Block]:
    """Return the fenced blocks of a page, in order."""
    found: list[Block] = []
    inside: Block | None = None
    above = ""
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if inside is not None:
            if line == "```":
                found.append(inside)
                inside = None
            else:
                inside.lines.append(line)
        elif line.startswith("```"):
            inside = Block(line.removeprefix("```").strip(), number, above)
        elif line.strip():
            above = line
    assert inside is None, f"{page.name}:{inside.line if inside else 0}: the block is not closed"
    return found


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def needs_images(page: Path) -> bool:
    return any(re.search(r"calculix|images build", b.text) for b in blocks(page) if b.language in EXECUTED)


def runnable() -> Iterator[object]:
    for page in PAGES:
        if any(block.language in EXECUTED for block in blocks(page)):
            marks = [pytest.mark.podman, pytest.mark.images] if needs_images(page) else []
            yield pytest.param(page, id=name_of(page), marks=marks)


def program(page: Path, folder: Path) -> str:
    """Return one shell script of all blocks of a page; neighbouring Python blocks are one program."""
    script: list[str] = []
    code = ""
    todo = [block for block in blocks(page) if block.language in EXECUTED]
    for i, block in enumerate(todo):
        if block.language == "bash":
            script.append(f"echo '--- {name_of(page)}:{block.line}'\n{block.text}")
            continue
        code += f"\nprint('--- {name_of(page)}:{block.line}', flush=True)\n" + block.text
        if i + 1 == len(todo) or todo[i + 1].language == "bash":
            file = folder / f"block-{block.line}.py"
            file.write_text(code)
            script.append(f"python {shlex.quote(str(file))}")
            code = ""
    return "\n".join(script)


def promised(page: Path) -> list[str]:
    """Return the lines that a page says its blocks print: those of text blocks after the first executed one."""
    lines: list[str] = []
    begun = False
    for block in blocks(page):
        begun = begun or block.language in EXECUTED
        if begun and block.language == "text" and not REASON.fullmatch(block.above):
            lines += [line for line in block.lines if line.strip() not in {"", "..."}]
    return lines


def general(line: str) -> str:
    """Return a line without what differs from run to run: ids, numbers with an exponent of luck, and spaces."""
    line = re.sub(r"\bt[0-9a-hjkmnp-tv-z]{12}\b", "ID", line)
    line = re.sub(r"\d+(\.\d+)? m?s\b", "TIME", line)
    line = re.sub(r"\d+(\.\d+)? ([KM]iB|B)\b", "SIZE", line)
    return " ".join(line.split())


def is_printed(line: str, printed: list[str]) -> bool:
    pattern = re.escape(general(line)).replace(re.escape("..."), ".*")
    return any(re.fullmatch(pattern, one) for one in printed)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder that looks to a reader's commands like a checkout."""
    folder = tmp_path / "checkout"
    for example in ROOT.glob("simulators/*/example*"):
        shutil.copytree(example, folder / example.relative_to(ROOT))
    return folder


def require_podman() -> None:
    try:
        find_engine(RuntimeName.PODMAN)
    except RuntimeUnavailable as error:
        pytest.skip(str(error))
    if trouble := runtime_of(RuntimeName.PODMAN).available():
        pytest.skip(trouble)


def run(script: str, folder: Path, environment: dict[str, str]) -> tuple[int, str]:
    """Run a script to its end; nothing that it started is left."""
    process = subprocess.Popen(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        return _ended(process)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    try:
        said, _ = process.communicate(timeout=PAGE_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        said, _ = process.communicate()
        return -1, said + f"\n(not over after {PAGE_SECONDS} s)"
    return process.returncode, said


@pytest.mark.timeout(PAGE_SECONDS + 120)
@pytest.mark.parametrize("page", list(runnable()))
def test_what_a_page_tells_to_type_works(page: Path, server: RunningServer, place: Path, tmp_path: Path) -> None:
    script = program(page, tmp_path)
    if needs_images(page):
        require_podman()
    for tool in ("curl", "jq"):
        if re.search(rf"\b{tool}\b", script) and shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed: apt-get install {tool}")
    environment = server.environment | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "COLUMNS": "120",
    }
    code, said = run(script, place, environment)
    assert code == 0, said
    printed = [general(line) for line in said.splitlines()]
    missing = [line for line in promised(page) if not is_printed(line, printed)]
    assert missing == [], said


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_block_that_is_not_executed_says_why(page: Path) -> None:
    silent = [
        f"{name_of(page)}:{block.line}"
        for block in blocks(page)
        if (block.language in SHELLS or (block.language == "text" and re.search(r"^\$ ", block.text, re.MULTILINE)))
        and not REASON.fullmatch(block.above)
    ]
    assert silent == []


@pytest.mark.parametrize("page", LINKED, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = target.partition("#")
        if "://" in target or target.startswith("mailto:"):
            continue
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or not file.is_relative_to(ROOT) or (anchor and anchor not in anchors(file)):
            broken.append(target)
    assert broken == []


def anchors(page: Path) -> set[str]:
    """Return the names by which the headings of a page can be linked to."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", LINKED, ids=name_of)
def test_no_page_names_a_place_of_one_machine(page: Path) -> None:
    assert str(ROOT) not in page.read_text()
    assert re.findall(r"(?:^|[\s`'\"(=])(/(?:work/|root/|tmp/|home/(?!you/))[^\s`'\")]*)", page.read_text()) == []


def test_every_page_is_reached_from_the_readme() -> None:
    reached: set[Path] = set()
    todo = [ROOT / "README.md"]
    while todo:
        page = todo.pop()
        if page in reached:
            continue
        reached.add(page)
        targets = re.findall(r"\]\(([^)\s#]+\.md)", page.read_text())
        todo += [(page.parent / target).resolve() for target in targets if "://" not in target]
    assert [name_of(page) for page in PAGES if page not in reached and page.parent.name != "client"] == []
